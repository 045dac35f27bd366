"""MLflow stores: which one, clients of it, and its failures as one line."""

import contextlib
import fcntl
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import mlflow
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from harness.errors import InputError
from harness.redaction import redacted

OUTPUTS = Path("outputs")
LATE = "tracking/late_ms"
"""The metric by which a run says when, in ms since the epoch, records of it were sent that the read side may not
expect any more: step 0, and the same number as its time."""

logging.getLogger("mlflow").setLevel(logging.WARNING)
logging.getLogger("alembic").setLevel(logging.WARNING)


def default_uri() -> str:
    """The store that is used when no flag names one: MLFLOW_TRACKING_URI, else sqlite under `outputs/`."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{OUTPUTS}/mlflow.db"


def client(tracking_uri: str | None = None) -> MlflowClient:
    """A client of a store, which is made where it does not exist (sqlite)."""
    uri = tracking_uri or default_uri()
    mlflow.set_tracking_uri(uri)  # models and datasets are logged through the fluent interface
    with _making(uri):
        return MlflowClient(uri)


@contextlib.contextmanager
def _making(uri: str) -> Iterator[None]:
    """One process at a time makes or migrates a sqlite store: two would each find the other's half."""
    if not uri.startswith("sqlite:///"):
        yield
        return
    database = Path(uri.removeprefix("sqlite:///"))
    database.parent.mkdir(parents=True, exist_ok=True)
    with database.with_name(f"{database.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def reading_client(tracking_uri: str | None) -> MlflowClient:
    """A client that makes no store: a mistyped path is an InputError."""
    uri = tracking_uri or default_uri()
    if not exists(uri):
        raise InputError(f"there is no MLflow store at {shown(uri)}; run an experiment first or give --tracking-uri")
    return client(uri)


def exists(uri: str) -> bool:
    """False for a sqlite store that has not been made yet; a server is asked when it is used."""
    return not uri.startswith("sqlite:///") or Path(uri.removeprefix("sqlite:///")).is_file()


def shown(uri: str) -> str:
    """A store's address without user and password."""
    parts = urlsplit(uri)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl() if parts.netloc else uri


Failure = (MlflowException, SQLAlchemyError, OSError)
"""What a store, or the way to it, raises; the errors of requests are OSErrors."""


@contextlib.contextmanager
def answering(tracking_uri: str | None) -> Iterator[None]:
    """A store that is away, or that refuses what the block asks of it, as an InputError that names it."""
    try:
        yield
    except Failure as error:
        raise complaint(tracking_uri or default_uri(), error) from error


def is_refusal(error: BaseException) -> bool:
    """Whether a store has understood and will not do it, however often it is asked."""
    return isinstance(error, MlflowException) and error.get_http_status_code() in (400, 401, 403, 404)


def complaint(uri: str, error: BaseException) -> InputError:
    """A store's failure as one line."""
    reason = redacted(" ".join(str(error).split()))[:300]
    match error.get_http_status_code() if isinstance(error, MlflowException) else 500:
        case 401:
            said = "wants a user: set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
        case 403:
            said = f"does not allow it: {reason}"
        case 400 | 404:
            said = f"refuses the question: {reason}"
        case _:
            said = f"does not answer: {reason}"
    return InputError(f"the MLflow store {shown(uri)} {said}")
