"""Real servers for the tests, on loopback, ended with all their processes."""

import contextlib
import http.client
import http.server
import itertools
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import processes
import pytest
from processes import environment

from harness.errors import InputError

PATIENCE_S = 120.0


_ports = itertools.count(20_000 + 100 * (os.getpid() % 120))  # a hundred for each process that tests at once


def free_port() -> int:
    """A port that nobody else is given before the server has it: neither by the kernel nor in another test worker."""
    while True:
        port = next(_ports)
        with contextlib.suppress(OSError), socket.socket() as free:
            free.bind(("127.0.0.1", port))
            return port


def installed(find: Callable[[], object]) -> None:
    """Skip a test on a machine without what it needs; in CI, which installs that, fail."""
    try:
        find()
    except InputError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))


class TrackingServer:
    """An MLflow server on a sqlite store, which can be killed and started again at the same address.

    The store is in `folder`, with the server's log, where none is given.
    """

    def __init__(self, folder: Path, store: str | None = None) -> None:
        self.folder, self.store = folder, store or f"sqlite:///{folder}/mlflow.db"
        self.port = free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self._process: ForkServerProcess | None = None

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.is_alive()

    def start(self) -> None:
        """Returns when it answers."""
        self._process = processes.server().Process(target=_serve, args=(self.folder, self.store, self.port))
        self._process.start()
        until = time.monotonic() + PATIENCE_S
        while not (answer := self._answer()).startswith("200"):
            log = (self.folder / "server.log").read_text()[-8000:] if (self.folder / "server.log").exists() else ""
            assert self._process.is_alive(), log
            assert time.monotonic() < until, f"the server did not start: {answer}\n{log}"
            time.sleep(0.1)

    def _answer(self) -> str:
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=2) as answer:
                return f"{answer.status} {answer.reason}"
        except OSError as error:
            return repr(error)

    def kill(self) -> None:
        if self._process:
            self._process.kill()
            self._process.join()
            self._process = None


def _serve(folder: Path, store: str, port: int) -> None:
    """In a process that has imported most of it: what `mlflow server` starts, uvicorn with MLflow's application."""
    processes.print_into(folder / "server.log")
    import uvicorn
    from mlflow.server import constants

    os.environ |= {
        constants.BACKEND_STORE_URI_ENV_VAR: store,
        constants.ARTIFACT_ROOT_ENV_VAR: "mlflow-artifacts:/",
        constants.SERVE_ARTIFACTS_ENV_VAR: "true",
        constants.ARTIFACTS_DESTINATION_ENV_VAR: str(folder / "artifacts"),
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    uvicorn.run("mlflow.server.fastapi_app:app", host="127.0.0.1", port=port, log_level="info")


class Gate:
    """A way to a server that can be made bad.

    `mode` is open, 500, 403, hang, no files, which it finds too large, or late: the next request that makes a run is
    kept until `release`, then passed on, whether anybody still waits for it or not.
    """

    def __init__(self, port: int) -> None:
        self.mode, self.refused = "open", 0
        gate = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.0"

            def answer(self) -> None:
                content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                if gate.mode == "late" and self.path.endswith("/runs/create"):
                    gate.mode = "open"
                    gate._released.wait(PATIENCE_S)
                if gate.mode in ("open", "late") or (gate.mode == "no files" and self.command != "PUT"):
                    self.pass_on(content)
                    return
                gate.refused += 1
                if gate.mode == "hang":
                    gate._ended.wait(PATIENCE_S)
                    return
                self.send_response(413 if gate.mode == "no files" else int(gate.mode))
                self.end_headers()

            def pass_on(self, content: bytes) -> None:
                way = http.client.HTTPConnection("127.0.0.1", port)
                way.request(self.command, self.path, content, dict(self.headers))
                answered = way.getresponse()
                body = answered.read()
                self.send_response(answered.status)
                self.send_header("Content-Type", answered.headers.get("Content-Type", "text/plain"))
                self.send_header("Content-Length", str(len(body)))
                with contextlib.suppress(BrokenPipeError):  # nobody waits any more
                    self.end_headers()
                    self.wfile.write(body)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer

            def log_message(self, *_: object) -> None:
                pass

        self._ended, self._released = threading.Event(), threading.Event()
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.uri = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def release(self) -> None:
        self._released.set()

    def close(self) -> None:
        self._ended.set()
        self._released.set()
        self._server.shutdown()
        self._server.server_close()


def postgres_programs() -> Path:
    """The folder of initdb and pg_ctl, which Debian keeps out of PATH. Raises InputError where there is none."""
    path = shutil.which("initdb") or max(map(str, Path("/usr/lib/postgresql").glob("*/bin/initdb")), default="")
    if not path:
        raise InputError("PostgreSQL is not installed: apt-get install postgresql")
    return Path(path).resolve().parent


class Postgres:
    """A PostgreSQL cluster that asks for a password, on a socket in its own folder."""

    def __init__(self) -> None:
        self.programs, self.password = postgres_programs(), secrets.token_hex(12)
        self.folder = Path(tempfile.mkdtemp(prefix="postgres-"))  # a socket's path has 107 bytes at most
        self.owner = None if os.geteuid() else "postgres"  # initdb refuses root
        (self.folder / "password").write_text(self.password)
        if self.owner:
            shutil.chown(self.folder, self.owner)
        self._run("initdb", "--username=harness", "--auth=scram-sha-256", f"--pwfile={self.folder}/password",
                  "--encoding=UTF8", "--locale=C")  # fmt: skip
        self.control("start", f"--options=-c listen_addresses='' -c unix_socket_directories='{self.folder}'")
        self.url = f"postgresql://harness:{self.password}@/postgres?host={self.folder}"

    def control(self, *arguments: str) -> None:
        """`pg_ctl ARGUMENTS`: "restart" takes the options of "start"."""
        self._run("pg_ctl", "--wait", f"--log={self.folder}/log", *arguments)

    def _run(self, program: str, *arguments: str) -> None:
        command = [self.programs / program, f"--pgdata={self.folder}/data", *arguments]
        subprocess.run(command, user=self.owner, group=self.owner, cwd="/", stdout=subprocess.DEVNULL, check=True)

    def remove(self) -> None:
        self.control("stop", "--mode=fast")
        shutil.rmtree(self.folder)


class TeamServer:
    """The team's server in a folder of its own, on a database or on sqlite."""

    def __init__(self, folder: Path, database: str = "", **settings: str) -> None:
        self.settings = settings
        self.user, self.password = "anna", secrets.token_hex(12)  # what stands in this file stands in runs' diffs
        self.folder, self.database = folder, database
        self.port = free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self.log = self.folder / "server.log"
        self.credentials = {"MLFLOW_TRACKING_USERNAME": self.user, "MLFLOW_TRACKING_PASSWORD": self.password}
        self.process: subprocess.Popen | None = None

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        """Returns when it answers."""
        with self.log.open("ab") as log:
            began = log.tell()
            self.process = subprocess.Popen(
                [sys.executable, "-m", "harness.tracking.server", "--port", str(self.port), "--workers", "1",
                 "--folder", "server"],
                cwd=self.folder, stdout=log, stderr=log,
                env=environment(**self.credentials, **self.settings, HARNESS_DATABASE_URL=self.database),
            )  # fmt: skip
        until = time.monotonic() + PATIENCE_S
        while f"{self.uri} answers" not in self.log.read_text()[began:]:
            assert self.process.poll() is None, self.log.read_text()[-2000:]
            assert time.monotonic() < until, "the server did not start"
            time.sleep(0.2)

    def stop(self) -> int:
        """End it as a service manager does; returns the exit code."""
        assert self.process
        self.process.terminate()
        return self.process.wait(60)
