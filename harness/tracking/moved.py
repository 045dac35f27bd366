"""A sqlite store that was moved together with its artifacts: MLflow keeps absolute addresses of those."""

import contextlib
import sqlite3
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

ADDRESSES = {
    "experiments": "artifact_location",
    "runs": "artifact_uri",
    "logged_models": "artifact_location",
    "model_versions": "storage_location",
}
"""MLflow's columns that hold addresses of artifacts; it has no call that changes them."""


def mend(database: Path) -> None:
    """Have a store's artifacts where they are: beside it, if the place that it names is gone and that one is there."""
    if not database.is_file() or not (database.parent / "artifacts").is_dir():
        return
    here = (database.parent.absolute() / "artifacts").as_uri()
    with contextlib.closing(sqlite3.connect(database, timeout=60)) as store:
        try:
            known = [place for (place,) in store.execute("select artifact_location from experiments") if place]
        except sqlite3.Error:
            return  # no store yet, or not one of MLflow's
        for there in {place.rpartition("/")[0] for place in known if place.startswith("file://")} - {here}:
            if there.endswith("/artifacts") and not Path(unquote(urlsplit(there).path)).exists():
                for table, column in ADDRESSES.items():
                    store.execute(
                        f"update {table} set {column} = ? || substr({column}, ?) where {column} like ? escape '!'",
                        (here, len(there) + 1, _escaped(there) + "/%"),
                    )
                store.commit()
                print(f"{database} was moved with its artifacts: they are at {here} now", file=sys.stderr)


def _escaped(text: str) -> str:
    return text.replace("!", "!!").replace("%", "!%").replace("_", "!_")
