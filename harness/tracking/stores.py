"""MLflow stores: which one, clients of it, and its failures as one line."""

import contextlib
import logging
import os
from collections.abc import Iterator

import mlflow
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from harness import locks
from harness.errors import InputError
from harness.tracking.addresses import check, database_file, default_uri, exists, without_password
from harness.tracking.moved import mend
from harness.tracking.redaction import redacted

MAKING_S = 120.0
VARIABLE = "MLFLOW_TRACKING_URI"
OLD = "out-of-date database schema"
UNKNOWN = (400, 404)  # what a store answers to an id that is not one, and to one that it does not have

LATE = "tracking/late_ms"
"""The metric by which a run says when, in ms since the epoch, records of it were sent that the read side may not
expect any more: step 0, and the same number as its time."""

logging.getLogger("mlflow").setLevel(logging.WARNING)
logging.getLogger("alembic").setLevel(logging.WARNING)


def client(tracking_uri: str | None = None) -> MlflowClient:
    """A client of a store, which is made where it does not exist (sqlite)."""
    uri = tracking_uri or default_uri()
    check(uri)
    use(uri)
    with _making(uri), answering(uri):
        return MlflowClient(uri)


def use(uri: str) -> None:
    """Have MLflow look for models in this store; the environment, which says what the default is, stays what it was."""
    before = os.environ.get(VARIABLE)
    mlflow.set_tracking_uri(uri)
    if before is None:
        os.environ.pop(VARIABLE, None)
    else:
        os.environ[VARIABLE] = before


@contextlib.contextmanager
def _making(uri: str) -> Iterator[None]:
    """One process at a time makes or migrates a sqlite store: two would each find the other's half."""
    database = database_file(uri)
    if database is None:
        yield
        return
    database.parent.mkdir(parents=True, exist_ok=True)
    with locks.held(database.with_name(f"{database.name}.lock"), MAKING_S):
        mend(database)
        yield


def reading_client(tracking_uri: str | None) -> MlflowClient:
    """A client that makes no store: a mistyped path is an InputError."""
    uri = tracking_uri or default_uri()
    if not exists(uri):
        raise InputError(
            f"there is no MLflow store at {without_password(uri)}; run an experiment first or give --tracking-uri"
        )
    return client(uri)


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
    if OLD in reason:
        return InputError(
            f"the MLflow store {without_password(uri)} is of an older MLflow: mlflow db upgrade {without_password(uri)}"
        )
    match error.get_http_status_code() if isinstance(error, MlflowException) else 500:
        case 401:
            said = "wants a user: set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
        case 403:
            said = f"does not allow it: {reason}"
        case 400 | 404:
            said = f"refuses the question: {reason}"
        case _:
            said = f"does not answer: {reason}"
    return InputError(f"the MLflow store {without_password(uri)} {said}")
