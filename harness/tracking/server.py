"""python -m harness.tracking.server: MLflow for a team, with passwords, artifacts through the server.

It listens on loopback; harness/tracking/README.md says what stands before it for TLS and a public address.
"""

import base64
import contextlib
import importlib.util
import os
import re
import secrets
import signal
import socket
import stat
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from harness import cli, locks, signals
from harness.bounds import Processes, Within
from harness.errors import InputError
from harness.tracking import addresses
from harness.tracking.redaction import redacted

HOST = "127.0.0.1"
Port = Annotated[int, Within(int, 0, most=65_535)]
HOSTS = "MLFLOW_SERVER_ALLOWED_HOSTS"
USER, PASSWORD, DATABASE = "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "HARNESS_DATABASE_URL"
SHORTEST_PASSWORD = 12  # characters, MLflow's rule
FORMER_DEFAULT_PASSWORD = "password1234"  # MLflow's, until it shipped none
START_S, STOP_S = 180.0, 15.0

# Whoever may log in may read all and make experiments and models, which are then theirs alone to write. Passwords are
# hashed slowly on purpose; one that was right is taken for a minute without.
AUTH = """[mlflow]
default_permission = READ
database_uri = {url}
auth_cache_ttl_seconds = 60
"""
GRANTS = """Whoever is made a user writes to experiments NAME/generators and so on, and reads all others.
  a user:                          {uri}/signup
  the right to write to another:   python -m harness.tracking grant USER EXPERIMENT --tracking-uri {uri}"""


def serve(port: Port = 5000, workers: Processes = 2, folder: Path = Path("outputs/server")) -> None:
    """A tracking server for a team, until Ctrl-C or SIGTERM.

    MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD name its administrator, who is made at the first start.
    HARNESS_DATABASE_URL is its database, by default an sqlite file in the folder.

    Args:
        port: where it listens, on 127.0.0.1
        workers: processes that answer
        folder: the artifacts, the key of the server's forms, and the sqlite file
    """
    user, password = _credentials()
    _require_packages()
    require_free(port)
    url, secret = _database(folder)
    os.umask(0o077)  # the key, and the hashes of passwords in sqlite's file, are nobody else's
    with signals.raise_signals(), locks.held(folder / "lock") as lock:
        if lock is None:
            raise InputError(f"a server already runs in {folder}; end it, or give another --folder")
        _require_own(folder)
        with _mlflow(folder, port, workers, url, secret) as process:
            _wait_until_it_answers(process, port, user, password)
            print(f"http://{HOST}:{port} answers; user {user}, artifacts in {folder}/artifacts", flush=True)
            print(GRANTS.format(uri=f"http://{HOST}:{port}"), flush=True)
            raise InputError(f"the server ended by itself with code {process.wait()}")


def _credentials() -> tuple[str, str]:
    user, password = os.environ.get(USER, ""), os.environ.get(PASSWORD, "")
    if not user or not password:
        raise InputError(f"the server needs an administrator: set {USER} and {PASSWORD} in the environment")
    if len(password) < SHORTEST_PASSWORD or password == FORMER_DEFAULT_PASSWORD:
        raise InputError(
            f"{PASSWORD} must have at least {SHORTEST_PASSWORD} characters and not be MLflow's former default"
        )
    return user, password


def _require_packages() -> None:
    if not importlib.util.find_spec("flask_wtf"):
        raise InputError("the server needs mlflow[auth]: pip install 'synthetic-gain[server]'")


def require_free(port: int) -> None:
    """Raises InputError for a port that cannot be listened at."""
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((HOST, port))
        except (OSError, OverflowError) as error:
            raise InputError(f"port {port} cannot be used ({error}); --port takes another") from error


def _require_own(folder: Path) -> None:
    """Close the folder to all others. Raises InputError where they could have written, or could put another there."""
    above = [path for path in folder.absolute().parents if path.stat().st_mode & (0o002 | stat.S_ISVTX) == 0o002]
    below = [path for path in (folder, *folder.rglob("*")) if path.lstat().st_mode & 0o022 and not path.is_symlink()]
    if above or below:
        path, right = (below[0], f"chmod -R go-w {folder}") if below else (above[0], f"chmod o-w {above[0]}")
        raise InputError(f"others may write to {path}: look at what is there, then {right}")
    folder.chmod(0o700)


def _database(folder: Path) -> tuple[str, dict[str, str]]:
    """The database's URL without its password, and the password as a variable.

    A URL is seen in lists of processes and in MLflow's log, a variable is not.
    """
    url = os.environ.get(DATABASE) or f"{addresses.SQLITE}{folder.absolute()}/mlflow.db"
    if not re.match(rf"(sqlite|{'|'.join(addresses.DATABASES)})(\+\w+)?://", url) or "password=" in url:
        raise InputError(f"{DATABASE} must be a database's URL, such as postgresql://USER:PASSWORD@HOST/DATABASE")
    addresses.check(url)
    url = re.sub("^postgresql:", "postgresql+psycopg:", url)
    shown, secret = addresses.split_password(url)
    if addresses.database_file(url) is None:
        _require_answer(url, shown)
    return shown, secret


def _require_answer(url: str, shown: str) -> None:
    """MLflow itself tries for minutes, and ends with a traceback."""
    import sqlalchemy

    try:
        sqlalchemy.create_engine(url).connect().close()
    except Exception as error:  # a driver that is missing, a database that is away or refuses
        raise InputError(f"{DATABASE}: {shown} cannot be opened ({redacted(str(error).splitlines()[0])})") from error


@contextlib.contextmanager
def _mlflow(folder: Path, port: int, workers: int, url: str, secret: dict[str, str]) -> Iterator[subprocess.Popen]:
    """`mlflow server` with all its processes, ended with the block."""
    settings = folder / "auth.ini"
    settings.write_text(AUTH.format(url=url.replace("%", "%%")))
    command = [
        sys.executable, "-m", "mlflow", "server", "--app-name", "basic-auth", "--host", HOST, "--port", str(port),
        "--workers", str(workers), "--backend-store-uri", url, "--artifacts-destination",
        str((folder / "artifacts").absolute()), "--uvicorn-opts", "--log-level warning",
    ]  # fmt: skip
    process = subprocess.Popen(
        command, env=_environment(settings, port, _secret_key(folder / "secret_key"), secret), start_new_session=True
    )
    try:
        yield process
    finally:
        _stop(process)


def _environment(settings: Path, port: int, key: str, secret: dict[str, str]) -> dict[str, str]:
    """The server is no client of itself: it gets the administrator's name and password under other names.

    Where it is told by which names it may be called, it may be by its own, too: it is asked whether it answers.
    """
    kept = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW_TRACKING_") and k != DATABASE}
    if kept.get(HOSTS):
        kept[HOSTS] += f",{HOST}:{port}"
    return {
        **kept,
        **secret,
        "MLFLOW_AUTH_CONFIG_PATH": str(settings.absolute()),
        "MLFLOW_AUTH_ADMIN_USERNAME": os.environ[USER],
        "MLFLOW_AUTH_ADMIN_PASSWORD": os.environ[PASSWORD],
        "MLFLOW_FLASK_SERVER_SECRET_KEY": key,
        "MLFLOW_BASIC_AUTH_FAIL_CLOSED": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }


def _secret_key(path: Path) -> str:
    """Made once: it signs the forms of every worker and of later starts."""
    with contextlib.suppress(FileExistsError), path.open("x") as file:
        file.write(secrets.token_hex(32))
    return path.read_text()


def _wait_until_it_answers(process: subprocess.Popen, port: int, user: str, password: str) -> None:
    token = base64.b64encode(f"{user}:{password}".encode()).decode()
    request = urllib.request.Request(
        f"http://{HOST}:{port}/api/2.0/mlflow/experiments/search?max_results=1",
        headers={"Authorization": f"Basic {token}"},
    )
    until = time.monotonic() + START_S
    while time.monotonic() < until:
        if process.poll() is not None:
            raise InputError(f"MLflow's server ended with code {process.returncode}; it says above why")
        try:
            with urllib.request.urlopen(request, timeout=10):
                return
        except urllib.error.HTTPError as error:
            if error.code == 401:
                raise InputError(
                    f"{PASSWORD} is not the password of {user!r}: it was set when the database was made"
                ) from error
        except OSError:
            pass
        time.sleep(0.2)
    raise InputError(f"MLflow's server did not answer within {START_S:.0f} s")


def _stop(process: subprocess.Popen) -> None:
    """The whole group: MLflow's workers can outlive the process that started them."""
    with signals.ignore_signals():
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(STOP_S)


if __name__ == "__main__":
    cli.main(serve)
