"""`make ui` and `make dashboard`: who may open them is said, and with a socket it is their user alone."""

import contextlib
import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
from processes import ROOT, environment

PATIENCE_S = 120.0


@pytest.fixture
def place(empty_outputs: Path) -> Iterator[Path]:
    """A project's folder with a store, whose environment is made; a socket's path has 107 bytes at most."""
    folder = Path(tempfile.mkdtemp(prefix="pages-"))
    shutil.copytree(empty_outputs, folder / "outputs")
    for name in ("pyproject.toml", "constraints.txt", "ready"):
        (folder / name).touch()
    shutil.copy(ROOT / "mlflow.env", folder)
    optuna.create_study(storage=f"sqlite:///{folder}/outputs/studies.db")
    yield folder
    shutil.rmtree(folder)


def answer(path: Path) -> int:
    """The status of a request to a socket's server; 0 where none listens."""
    way = http.client.HTTPConnection("127.0.0.1")
    way.sock = socket.socket(socket.AF_UNIX)
    try:
        way.sock.connect(str(path))
        way.request("GET", "/")
        return way.getresponse().status
    except OSError:
        return 0
    finally:
        way.close()


@pytest.mark.parametrize("page", ["dashboard", pytest.param("ui", marks=pytest.mark.long)])
def test_a_socket_is_its_users_alone(page: str, place: Path) -> None:
    command = ["make", "-f", str(ROOT / "Makefile"), f"BIN={Path(sys.executable).parent}", "READY=ready", page]
    said = subprocess.run([*command, "-n"], cwd=place, env=environment(), capture_output=True, text=True, check=True)
    assert f"make {page} SOCKET=1" in said.stdout
    log = place / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "SOCKET=1", "STORAGE=sqlite:///outputs/studies.db"],
            cwd=place, env=environment(), stdout=output, stderr=output, start_new_session=True,
        )  # fmt: skip
    try:
        until = time.monotonic() + PATIENCE_S
        while answer(place / "outputs" / "private" / page) not in (200, 302):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.2)
        assert (place / "outputs" / "private").stat().st_mode & 0o777 == 0o700
        assert f"ssh -NL 8000:{place}/outputs/private/{page} HOST" in " ".join(log.read_text().split())
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
