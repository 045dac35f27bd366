"""A PostgreSQL cluster of the project's own: made where there is none, reached over a unix socket alone."""

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness.errors import InputError

USERS = ("postgres", "nobody")  # whom PostgreSQL runs as where root starts it, which it refuses to be


@contextlib.contextmanager
def running(data: Path) -> Iterator[str]:
    """The cluster in the folder `data`, started for the length of the block: its URL, which holds no password.

    The socket's folder belongs to one user, who needs no password; nothing listens on a network.
    Raises InputError where PostgreSQL is missing, cannot use the folder, or already runs in it.
    """
    programs, data = binaries(), data.absolute()
    owner = _owner()
    _claim(data, owner)
    if not (data / "PG_VERSION").exists():
        _run(owner, programs / "initdb", "--pgdata", data, "--username", "harness", "--auth", "trust", "--encoding",
             "UTF8")  # fmt: skip
    if _ended(owner, programs / "pg_ctl", "--pgdata", data, "status").returncode == 0:
        raise InputError(
            f"a server already runs on {data}; end it, or, where only its PostgreSQL is left: "
            f"{programs}/pg_ctl --pgdata {data} stop"
        )
    sockets = Path(tempfile.mkdtemp(prefix="harness-postgres-"))  # a socket's path has 107 bytes at most
    _give(sockets, owner)
    options = f"-c listen_addresses='' -c unix_socket_directories='{sockets}'"
    try:
        _run(owner, programs / "pg_ctl", "--pgdata", data, "--wait", "--log", data / "postgres.log", "--options",
             options, "start")  # fmt: skip
        try:
            yield f"postgresql+psycopg://harness@/postgres?host={sockets}"
        finally:
            _ended(owner, programs / "pg_ctl", "--pgdata", data, "--wait", "--mode", "fast", "stop")
    finally:
        shutil.rmtree(sockets, ignore_errors=True)


def control(data: Path, *arguments: str) -> None:
    """`pg_ctl ARGUMENTS` on a cluster, as whom it runs as: "restart" takes the options it was started with."""
    _run(_owner(), binaries() / "pg_ctl", "--pgdata", data, "--log", data / "postgres.log", "--wait", *arguments)


def binaries() -> Path:
    """The folder of initdb and pg_ctl, which Debian keeps out of PATH. Raises InputError where there is none."""
    found = [Path(path).resolve().parent for name in ("initdb",) if (path := shutil.which(name))]
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        said = subprocess.run(["pg_config", "--bindir"], capture_output=True, text=True, check=True)
        found.append(Path(said.stdout.strip()))
    found += sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: -float(path.parent.name))
    for folder in found:
        if (folder / "initdb").exists() and (folder / "pg_ctl").exists():
            return folder
    raise InputError(
        "PostgreSQL's server is not installed: apt-get install postgresql, or set HARNESS_DATABASE_URL to a database"
    )


def _owner() -> str | None:
    """Whom PostgreSQL runs as; None for the caller."""
    if os.geteuid() != 0:
        return None
    for name in USERS:
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name).pw_name
    raise InputError(f"PostgreSQL refuses to run as root, and there is no user {' or '.join(USERS)}: be another user")


def _claim(data: Path, owner: str | None) -> None:
    data.mkdir(parents=True, exist_ok=True)
    _give(data, owner)
    if subprocess.run(["test", "-w", data], **_as(owner), check=False).returncode:
        raise InputError(
            f"PostgreSQL runs as {owner or 'you'}, who may not write {data}: start in a folder that is open to all, "
            "as another user than root, or set HARNESS_DATABASE_URL"
        )


def _give(folder: Path, owner: str | None) -> None:
    if owner:
        shutil.chown(folder, owner)
    folder.chmod(0o700)


def _as(owner: str | None) -> dict[str, Any]:
    """Arguments of subprocess."""
    if not owner:
        return {}
    return {"user": owner, "group": pwd.getpwnam(owner).pw_gid, "extra_groups": []}


def _ended(owner: str | None, *command: Any) -> subprocess.CompletedProcess:
    with tempfile.TemporaryFile("w+") as said:  # a pipe would stay open in the server that pg_ctl leaves behind
        done = subprocess.run(
            [str(part) for part in command],
            **_as(owner),
            cwd="/",
            env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            check=False,
        )
        said.seek(0)
        return subprocess.CompletedProcess(done.args, done.returncode, said.read())


def _run(owner: str | None, *command: Any) -> None:
    done = _ended(owner, *command)
    if done.returncode:
        raise InputError(f"{Path(command[0]).name} failed: {done.stdout.strip()[-500:] or done.returncode}")
