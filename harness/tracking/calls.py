"""How a process calls its agent, the only one that talks to a store: by files in `outputs/agent/HOST/`.

lock            held by the agent for as long as it lives; its time is that of the last sending
log             what it prints
bell-ID         a run has something to be sent; the agent takes it away
ask-ID.json     a question, answered in answer-ID.json
"""

import contextlib
import functools
import importlib.util
import json
import os
import platform
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness import locks
from harness.errors import InputError, unwritable
from harness.outputs import OUTPUTS
from harness.tracking.addresses import check, default_uri, relative_to_here, split_password, without_password

LOCK, LOG, BELL, ASK, ANSWER = "lock", "log", "bell-", "ask-", "answer-"
PAUSE_S = 0.02
LOOK_S = 1.0
"""Between two looks whether the agent lives, while somebody waits for it."""
ANSWER_S = 180.0


def place() -> Path:
    """Where this host's agent and those who call it meet."""
    return OUTPUTS / "agent" / (platform.node() or "host")


@functools.cache
def can_send() -> bool:
    """Whether MLflow is installed: without it everything stays in `outputs/`, for `sync` elsewhere."""
    return importlib.util.find_spec("mlflow") is not None


def is_alive() -> bool:
    return not locks.is_free(place() / LOCK)


def last_sent() -> float:
    """When this host's agent sent something last (seconds since 1970); 0 where none ever has."""
    try:
        return (place() / LOCK).stat().st_mtime
    except FileNotFoundError:
        return 0.0


def ring(run: str, environment: Mapping[str, str] | None = None) -> None:
    """Tell the agent that a run's folder has something to be sent; it is started where there is none."""
    _write(place() / f"{BELL}{run}", "")
    ensure(environment)


def ensure(environment: Mapping[str, str] | None = None) -> None:
    """Start an agent unless one lives. It inherits the lock that its starter takes, so that there are never two."""
    if not can_send():
        return
    with locks.held(place() / LOCK) as lock:
        if lock is None:
            return
        with (place() / LOG).open("ab") as log:
            subprocess.Popen(
                [sys.executable, "-m", "harness.tracking", "agent", "--lock", str(lock)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, pass_fds=(lock,),
                env={**os.environ, **(environment or {}), **_alone()},
            )  # fmt: skip


def _alone() -> dict[str, str]:
    """An agent is no process of its starter's job, takes one thread, and finds this very package."""
    paths = [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
    return {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(path for path in paths if path)}


def ask(question: str, tracking_uri: str | None, **details: Any) -> Any:
    """What the agent answers. Raises InputError with its refusal, and where none can answer."""
    uri = tracking_uri or default_uri()
    check(uri)
    if not can_send():
        raise InputError(f"{without_password(uri)} cannot be asked: MLflow is not installed here")
    address, secrets = split_password(relative_to_here(uri))
    name = uuid.uuid4().hex
    answer = place() / f"{ANSWER}{name}.json"
    _write(place() / f"{ASK}{name}.json", json.dumps({"question": question, "store": address, **details}))
    until, look = time.monotonic() + ANSWER_S, 0.0
    while not answer.exists():
        if time.monotonic() > look:
            ensure(secrets)
            look = time.monotonic() + LOOK_S
        if time.monotonic() > until:
            raise InputError(f"the agent of {OUTPUTS} does not answer; {place() / LOG} may say why")
        time.sleep(PAUSE_S)
    found = json.loads(answer.read_text())
    answer.unlink()
    if "refused" in found:
        raise InputError(found["refused"])
    return found["answer"]


def _write(path: Path, text: str) -> None:
    """Whole or not at all."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside.write_text(text)
        aside.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            aside.unlink()
        raise unwritable(path, error) from error
