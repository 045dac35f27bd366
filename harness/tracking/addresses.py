"""Which MLflow store is meant, and what cannot be one: told from its address alone, without MLflow."""

import os
import re
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from harness.errors import InputError, lost_link
from harness.outputs import OUTPUTS

SQLITE = "sqlite:///"
SERVERS = ("http", "https")
DATABASES = ("postgresql", "mysql", "mssql")
IN_QUESTION = re.compile(r"(?<=[?&])\w*passw(?:or)?d=[^&]*&?", re.IGNORECASE)
LOCAL_UI = "http://127.0.0.1:5000"
"""Where `mlflow ui` is."""
KNOWN = "sqlite:///FILE, http(s)://HOST:PORT and postgresql://USER@HOST/DATABASE are"


def default_uri() -> str:
    """The store that is used when no flag names one: MLFLOW_TRACKING_URI, else sqlite under `outputs/`."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"{SQLITE}{OUTPUTS}/mlflow.db"


def without_password(uri: str) -> str:
    """A store's address without user and password."""
    uri = _without_question(uri)
    parts = urlsplit(uri)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl() if parts.netloc else uri


def _without_question(uri: str) -> str:
    """Without the passwords behind a question mark."""
    kept = IN_QUESTION.sub("", uri)
    return uri if kept == uri else kept.rstrip("?&")


def page_of(run: str, tracking_uri: str | None = None) -> str:
    """Where a UI shows a run: the server's own, or one that a command starts."""
    uri = tracking_uri or default_uri()
    if uri.startswith(SERVERS):
        return f"{ui_of(uri)}/#/runs/{run}"
    command = "make ui" if same(uri, f"{SQLITE}{OUTPUTS}/mlflow.db") else f"mlflow ui --backend-store-uri {uri}"
    return f"`{command}`, then {ui_of(uri)}/#/runs/{run}"


def user_of(uri: str) -> str:
    """Whom a server knows this process as; "" for a database, and for a server that is not told."""
    return os.environ.get("MLFLOW_TRACKING_USERNAME", "") if uri.startswith(SERVERS) else ""


def ui_of(uri: str) -> str:
    """The address of a store's UI: a server's own, or that of `mlflow ui`."""
    return without_password(uri).rstrip("/") if uri.startswith(SERVERS) else LOCAL_UI


def database_file(uri: str) -> Path | None:
    """The file of a sqlite store, None for any other; what follows a question mark is for the driver."""
    return Path(uri.removeprefix(SQLITE).partition("?")[0]) if uri.startswith(SQLITE) else None


def relative_to_here(uri: str) -> str:
    """An address that stays right when the folder that it is used in is moved, its store with it."""
    file = database_file(uri)
    if file is None or not file.is_absolute() or not file.is_relative_to(Path.cwd()):
        return uri
    return uri.replace(f"{SQLITE}{file}", f"{SQLITE}{file.relative_to(Path.cwd())}", 1)


def same(one: str, other: str) -> bool:
    """Whether two addresses are of one store."""
    files = [database_file(uri) for uri in (one, other)]
    if files[0] is None or files[1] is None:
        return without_password(one).rstrip("/") == without_password(other).rstrip("/")
    return files[0].resolve() == files[1].resolve()


def exists(uri: str) -> bool:
    """False for a sqlite store that has not been made yet; a server is asked when it is used."""
    file = database_file(uri)
    return file is None or file.is_file()


def split_password(uri: str) -> tuple[str, dict[str, str]]:
    """A store's address as it may be written down, and its password as a variable of the environment.

    MLflow and libpq read those. Raises InputError for a database whose driver takes its password from the address
    alone.
    """
    parts = urlsplit(uri)
    user, _, place = parts.netloc.rpartition("@")
    name, _, password = (unquote(part) for part in user.partition(":"))
    password = password or next((value for key, value in parse_qsl(parts.query) if "passw" in key.lower()), "")
    parts = urlsplit(_without_question(uri))
    if not password:
        return uri, {}
    scheme = parts.scheme.partition("+")[0]
    if scheme in SERVERS:
        secrets = {"MLFLOW_TRACKING_USERNAME": name, "MLFLOW_TRACKING_PASSWORD": password}
        return parts._replace(netloc=place).geturl(), secrets
    if scheme == "postgresql":
        kept = f"{user.partition(':')[0]}@{place}".removeprefix("@")
        shown = parts._replace(netloc=kept).geturl() if parts.netloc else _without_question(uri)
        return shown, {"PGPASSWORD": password}
    raise InputError(
        f"the MLflow store {without_password(uri)} has a password in its address: put it where its driver finds it"
    )


def check(uri: str) -> None:
    """Raises InputError for an address that no store can have, with what would be right. Makes nothing."""
    scheme, separator, _ = uri.partition("://")
    if uri.startswith(SQLITE):
        _check_file(uri)
    elif uri.startswith("sqlite:"):
        raise InputError(f"{uri} is a store in memory, which ends with its process; give {SQLITE}{OUTPUTS}/mlflow.db")
    elif not separator or scheme == "file":
        if scheme.startswith("databricks"):
            return
        if Path(uri).suffix in {".db", ".sqlite", ".sqlite3"}:
            raise InputError(f"{uri} is a path; the store in that file is {SQLITE}{uri}")
        raise InputError(
            f"{uri} is a folder, and MLflow keeps its runs in databases: give {SQLITE}FILE; a folder of runs becomes "
            f"one by: mlflow migrate-filestore --source {uri} --target {SQLITE}FILE"
        )
    elif re.split(r"\+", scheme)[0] not in (*SERVERS, *DATABASES, "databricks", "uc"):
        raise InputError(f"{without_password(uri)} is no MLflow store's address; {KNOWN}")
    elif scheme in SERVERS and not urlsplit(uri).hostname:
        raise InputError(f"{uri} names no host; {KNOWN}")


def _check_file(uri: str) -> None:
    file = database_file(uri)
    assert file is not None
    if not file.name or str(file) == ":memory:":
        raise InputError(f"{uri} names no file; give {SQLITE}{OUTPUTS}/mlflow.db")
    if lost := lost_link(file):
        raise InputError(f"{uri} cannot be written: {lost}")
    if file.is_dir():
        raise InputError(f"{uri} is a folder; a sqlite store is a file, such as {uri.rstrip('/')}/mlflow.db")
    try:
        str(file.absolute()).encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"{str(file.absolute())!a}: MLflow cannot write into a folder whose name is no text in UTF-8"
        ) from error
    try:
        if file.is_file():
            with file.open("rb") as opened:
                head = opened.read(16)
            if head not in (b"", b"SQLite format 3\0"):
                raise InputError(f"{uri} is no sqlite database; give another file, or leave it to be made")
        above = next(parent for parent in file.absolute().parents if parent.exists())
        if not above.is_dir() or not os.access(above, os.W_OK) or (file.exists() and not os.access(file, os.W_OK)):
            raise InputError(f"{uri} cannot be written; give a file in a folder that can")
    except OSError as error:
        raise InputError(f"{uri} cannot be used: {error.strerror}") from error
