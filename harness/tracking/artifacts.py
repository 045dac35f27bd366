"""A run's files: fetched for the length of a block, or added; and what is in a model."""

import contextlib
import re
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml
from mlflow.exceptions import MlflowException

from harness.errors import InputError
from harness.tracking import local
from harness.tracking.models import ABOUT, EXPORTED, LOADER
from harness.tracking.reading import get_run
from harness.tracking.stores import answering, client, reading_client

MOST_BYTES = 1_000_000
"""Of an MLmodel."""


@contextlib.contextmanager
def fetched(run_id: str, path: str, tracking_uri: str | None = None) -> Iterator[Path]:
    """A run's artifact, fetched for the length of the block. Raises InputError where the run has none."""
    with answering(tracking_uri):
        store = reading_client(tracking_uri)
    with tempfile.TemporaryDirectory() as folder:
        try:
            found = store.download_artifacts(local.in_the_store(run_id), path, folder)
        except (MlflowException, OSError) as error:
            get_run(run_id, tracking_uri)  # it may be the run that is missing, or the store
            raise InputError(f"run {run_id} has no artifact {path}") from error
        yield Path(found)


def generator_in(folder: Path, model: str) -> Path:
    """The exported generator in a fetched model's folder, in which is nothing else that MLflow would read or import.

    Raises InputError where it is no generator's.
    """
    if (folder / "MLmodel").stat().st_size > MOST_BYTES:
        raise InputError(f"{model} is not a generator's: its MLmodel has more than {MOST_BYTES:,} bytes")
    try:
        flavors = dict(yaml.safe_load((folder / "MLmodel").read_bytes())["flavors"])
        known = dict(flavors.pop("python_function"))
    except (KeyError, TypeError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise InputError(f"{model} is not a generator's: its MLmodel is damaged") from error
    data = str(known.get("data"))
    if known.get("loader_module") != LOADER or flavors or known.get("code") or known.get("config"):
        raise InputError(f"{model} is not a generator's; experiments/ddpm.py and its like make them")
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}
    if not re.fullmatch(r"data/[\w-]+", data):
        raise InputError(f"{model} is not a generator's: its data are said to be at {data}")
    if others := files - ABOUT - {f"{data}/{name}" for name in EXPORTED}:
        raise InputError(f"{model} is not a generator's, which has no {min(others)}")
    return folder / data


def log_files(run_id: str, paths: Sequence[Path], folder: str, tracking_uri: str | None = None) -> None:
    """Add files to a run, finished or not, under the artifact folder `folder`.

    Raises InputError for a store that is away or refuses.
    """
    with answering(tracking_uri):
        store = client(tracking_uri)
        for path in paths:
            store.log_artifact(run_id, str(path), folder)
