"""Where studies are kept: a file for one host, a database for many, a proxy for very many. All with heartbeats."""

import contextlib
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from filelock import FileLock
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages import BaseStorage, GrpcStorageProxy, JournalStorage, RDBStorage
from optuna.storages._heartbeat import BaseHeartbeat
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import event
from sqlalchemy.exc import SQLAlchemyError

from harness.errors import InputError
from harness.redaction import redacted
from harness.tracking.addresses import OUTPUTS, shown

BEAT_S = 10
GRACE_BEATS = 6
"""Beats that may be missing before a worker counts as dead."""
POLL_S = 0.5
AWAY_S = 600.0
"""How long a worker waits for a database that is away."""
Away = (StorageInternalError, SQLAlchemyError)


def default_storage() -> str:
    return str(OUTPUTS / "studies.journal")


class _Beats(BaseHeartbeat):
    """Heartbeats as an attribute of the trial, for storages that have none of their own.

    A beat is the worker's time: the clocks of hosts that share a study may differ by less than the grace.
    """

    beat_s: int

    def record_heartbeat(self, trial_id: int) -> None:
        with contextlib.suppress(UpdateFinishedTrialError, *Away):  # over meanwhile; or the next beat will do
            self.set_trial_system_attr(trial_id, "beat", time.time())  # type: ignore[attr-defined]

    def _get_stale_trial_ids(self, study_id: int) -> list[int]:
        running = self.get_all_trials(study_id, deepcopy=False, states=(TrialState.RUNNING,))  # type: ignore[attr-defined]
        least = time.time() - self.beat_s * GRACE_BEATS
        return [trial._trial_id for trial in running if trial.system_attrs.get("beat", _began(trial)) < least]

    def get_heartbeat_interval(self) -> int:
        return self.beat_s

    def get_heartbeat_stale_trial_callback(self) -> None:
        return None


def _began(trial: FrozenTrial) -> float:
    return trial.datetime_start.timestamp() if trial.datetime_start else 0.0


class _File(_Beats, JournalStorage):
    """For the processes of one host. The lock is the kernel's, which takes it from a process that dies."""

    def __init__(self, path: Path, beat_s: int) -> None:
        self.beat_s = beat_s
        super().__init__(JournalFileBackend(str(path), FileLock(f"{path}.lock")))  # type: ignore[arg-type]


class _Proxy(_Beats, GrpcStorageProxy):
    """For very many workers, whose reads a proxy answers: `optuna.storages.run_grpc_proxy_server`."""

    def __init__(self, host: str, port: int, beat_s: int) -> None:
        self.beat_s = beat_s
        super().__init__(host=host, port=port)


_PATIENCE: dict[str, dict[str, Any]] = {"sqlite": {"connect_args": {"timeout": 60}}}  # s, for another's transaction


class _Database(RDBStorage):
    """For the processes of many hosts. A database that is away for a while is waited for."""

    def __init__(self, url: str, beat_s: int) -> None:
        super().__init__(
            url,
            engine_kwargs={"pool_pre_ping": True, **_PATIENCE.get(url.partition(":")[0], {})},
            heartbeat_interval=beat_s,
            grace_period=beat_s * GRACE_BEATS,
        )
        event.listen(self.engine, "do_connect", _patiently)
        if self.engine.dialect.name == "sqlite":
            event.listen(self.engine, "connect", _no_implicit_begin)
            event.listen(self.engine, "begin", _begin_immediately)

    def record_heartbeat(self, trial_id: int) -> None:
        with contextlib.suppress(*Away):  # the next beat will do
            super().record_heartbeat(trial_id)


stopping = threading.Event()
"""The worker has been told to end: it waits for no database any more."""


def _patiently(dialect: Any, _: Any, arguments: Any, options: Any) -> Any:
    until = time.monotonic() + AWAY_S
    beating = threading.current_thread() is not threading.main_thread()  # which the next beat does again
    while True:
        try:
            return dialect.connect(*arguments, **options)
        except dialect.dbapi.OperationalError:
            if beating or stopping.is_set() or time.monotonic() > until:
                raise
        time.sleep(POLL_S)


def _no_implicit_begin(connection: Any, _: Any) -> None:
    connection.isolation_level = None


def _begin_immediately(connection: Any) -> None:
    """Else two workers that read a waiting trial at once both take it: sqlite has no SELECT FOR UPDATE."""
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def open_storage(place: str, beat_s: int = BEAT_S, create: bool = True) -> BaseStorage:
    """The storage at a path (one host), a database's URL (many) or grpc://HOST:PORT (very many).

    A file, of a path or of sqlite:///FILE, is made where it is missing and `create` is set.
    Raises InputError where there is none.
    """
    file = place.removeprefix("sqlite:///")
    if not create and "://" not in file and not Path(file).is_file():
        raise InputError(f"there are no studies in {place}: run experiments/tune.py, or give its --storage")
    try:
        if place.startswith("grpc://"):
            parts = urlsplit(place)
            proxy = _Proxy(parts.hostname or "localhost", parts.port or 13000, beat_s)
            proxy.wait_server_ready(timeout=5)
            return proxy
        if "://" in place:
            url = place.replace("postgresql://", "postgresql+psycopg://", 1)
            if url.startswith("sqlite:///") and not Path(url.removeprefix("sqlite:///")).parent.is_dir():
                raise InputError(f"--storage {place}: there is no such folder")
            return _Database(url, beat_s)
        path = Path(place)
        if path.parent == OUTPUTS:
            OUTPUTS.mkdir(exist_ok=True)
        if path.is_dir() or not path.parent.is_dir():
            raise InputError(f"--storage {place} must be a file in a folder that exists, or a database's URL")
        return _File(path, beat_s)
    except InputError:
        raise
    except Exception as error:  # drivers that are missing, URLs that are none, servers that are away
        reason = redacted(str(error).splitlines()[0] if str(error) else type(error).__name__)
        raise InputError(
            f"the storage {shown(place)} cannot be opened ({reason[:200]}); give a file, "
            "postgresql://USER:PASSWORD@HOST/DATABASE or grpc://HOST:PORT"
        ) from error
