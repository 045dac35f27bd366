"""A team's server and several runs at once: nothing is lost, nothing is open to strangers, no secret is kept."""

import base64
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy
from processes import environment
from servers import TeamServer, installed

from harness import tracking
from harness.tracking import postgres, shipping

METRICS = 500


@pytest.fixture(scope="module")
def made() -> Iterator[TeamServer]:
    installed(postgres.binaries)
    server = TeamServer()
    server.start()
    yield server
    server.remove()


@pytest.fixture
def server(made: TeamServer) -> TeamServer:
    """The server, which runs."""
    if not made.is_running:
        made.start()
    return made


@pytest.fixture
def anna(server: TeamServer, monkeypatch: pytest.MonkeyPatch) -> TeamServer:
    for name, value in server.credentials.items():
        monkeypatch.setenv(name, value)
    return server


def started(uri: str):
    return tracking.run("generators", "a run", tags={"method": "vae"}, params={"steps": 3}, tracking_uri=uri)


def say(run: tracking.Run, first: int, last: int) -> list[tuple[int, float, int]]:
    for step in range(first, last):
        run.metrics({"train/loss": step / 7}, step, 1_700_000_000_000 + step)
    return [(step, step / 7, 1_700_000_000_000 + step) for step in range(first, last)]


def history(uri: str, run_id: str) -> list[tuple[int, float, int]]:
    found = tracking.client(uri).get_metric_history(run_id, "train/loss")
    return sorted((m.step, m.value, m.timestamp) for m in found)


def answer(uri: str, user: str = "", password: str = "") -> int:
    """The status code of a request for experiments."""
    token = base64.b64encode(f"{user}:{password}".encode()).decode()
    headers = {"Authorization": f"Basic {token}"} if user else {}
    request = urllib.request.Request(f"{uri}/api/2.0/mlflow/experiments/search?max_results=1", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as done:
            return done.status
    except urllib.error.HTTPError as error:
        return error.code


def test_strangers_are_turned_away(server: TeamServer) -> None:
    assert answer(server.uri) == 401
    assert answer(server.uri, server.user, "password1234") == 401
    assert answer(server.uri, server.user, server.password) == 200


def test_a_run_goes_through_it_with_its_artifacts(anna: TeamServer) -> None:
    with started(anna.uri) as run:
        expected = say(run, 0, 10)
        run.text("seen by the team", "note.txt")
    assert history(anna.uri, run.id) == expected
    assert tracking.get_run(run.id, anna.uri)["status"] == "FINISHED"
    with tracking.fetched(run.id, "note.txt", anna.uri) as path:
        assert path.read_text() == "seen by the team"
    assert tracking.client(anna.uri).get_run(run.id).info.artifact_uri.startswith("mlflow-artifacts:/")
    assert list((anna.folder / "server" / "artifacts").rglob("note.txt"))


def test_a_database_that_restarts_loses_nothing(anna: TeamServer, capsys: pytest.CaptureFixture[str]) -> None:
    with started(anna.uri) as run:
        expected = say(run, 0, 1200)
        postgres.control(anna.data, "--mode", "immediate", "restart")  # as after a crash: it replays its own log
        expected += say(run, 1200, 2000)
        postgres.control(anna.data, "--mode", "fast", "restart")
        expected += say(run, 2000, 2100)
    assert history(anna.uri, run.id) == expected
    assert tracking.get_run(run.id, anna.uri)["status"] == "FINISHED"
    assert "Traceback" not in capsys.readouterr().err


WRITERS = """
import os, sys
from harness import tracking
uri, runs, metrics = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
assert "torch" not in sys.modules
for number in range(runs):
    if os.fork():
        continue
    with tracking.run("generators", f"writer {number}", tags={"number": number}, params={}, tracking_uri=uri) as run:
        for step in range(metrics):
            run.metrics({"train/loss": step / 7}, step, 1_700_000_000_000 + step)
        run.text(str(number), "number.txt")
    sys.exit()
sys.exit(any(os.wait()[1] for _ in range(runs)))
"""


@pytest.mark.parametrize("kind", [pytest.param("sqlite", marks=pytest.mark.long), "server"])
def test_eight_runs_at_once_miss_nothing_and_meet_no_lock(anna: TeamServer, kind: str, tmp_path: Path) -> None:
    """The sqlite store does not exist before: the eight make it."""
    uri = {"sqlite": f"sqlite:///{tmp_path}/mlflow.db", "server": anna.uri}[kind]
    done = subprocess.run(
        [sys.executable, "-c", WRITERS, uri, "8", str(METRICS)],
        cwd=tmp_path, env=environment(**anna.credentials), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    runs = tracking.read_runs("tags.number != ''", tracking_uri=uri)
    assert sorted(runs["tags.number"]) == [str(number) for number in range(8)]
    assert set(runs.status) == {"FINISHED"}
    for run_id in runs.run_id:
        assert [step for step, *_ in history(uri, run_id)] == list(range(METRICS))


def columns_with(url: str, secret: str) -> list[str]:
    """The columns of a database, as TABLE.NAME, that hold a text somewhere."""
    engine = sqlalchemy.create_engine(url)
    with engine.connect() as connection:
        tables = sqlalchemy.inspect(connection).get_table_names()
        rows = {
            table: connection.execute(sqlalchemy.text(f'select t::text from "{table}" t where t::text like :secret'),
                                      {"secret": f"%{secret}%"}).all()
            for table in tables
        }  # fmt: skip
    engine.dispose()
    return [f"{table}: {found}" for table, found in rows.items() if found]


def files_with(folder: Path, *secrets: str) -> list[str]:
    return [
        f"{path}: {secret}"
        for path in folder.rglob("*")
        if path.is_file() and path.parts[len(folder.parts) :][:2] != ("server", "postgres")  # asked by SQL
        for secret in secrets
        if secret.encode() in path.read_bytes()
    ]


TOLD = """
import os, sys
from harness import tracking
uri = sys.argv[sys.argv.index("--tracking-uri") + 1]
with tracking.run("generators", "told", tags={"store": uri}, params={"uri": uri}, tracking_uri=uri) as run:
    run.metrics({"train/loss": 1.0}, 0)
    run.params({"password": os.environ["MLFLOW_TRACKING_PASSWORD"]})
    run.text(f"sent to {uri}", "note.txt")
    raise ValueError(f"{uri} with {os.environ['MLFLOW_TRACKING_PASSWORD']}")
"""


def test_a_secret_of_the_environment_or_the_address_is_kept_nowhere(server: TeamServer, tmp_path: Path) -> None:
    address = server.uri.replace("http://", f"http://{server.user}:{server.password}@")
    done = subprocess.run(
        [sys.executable, "-c", TOLD, "--tracking-uri", address],
        cwd=tmp_path, env=environment(**server.credentials), capture_output=True, text=True, check=False,
    )  # fmt: skip
    (folder,) = (tmp_path / "outputs" / "runs").iterdir()
    assert (folder / shipping.JOURNAL).exists()
    assert "ValueError" in done.stderr  # the exception itself is the caller's
    found = files_with(tmp_path, server.password) + files_with(server.folder, server.password)
    found += columns_with(server.database_url(), server.password)
    assert not found, "\n".join(found)[:3000]


def test_it_says_in_a_line_what_it_needs(tmp_path: Path, server: TeamServer) -> None:
    def refused(*flags: str, **more: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "harness.tracking.server", *flags],
            cwd=tmp_path, env=environment(**more), capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
        return done.stderr

    assert "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD" in refused()
    weak = {"MLFLOW_TRACKING_USERNAME": "admin", "MLFLOW_TRACKING_PASSWORD": "password1234"}
    assert "not be MLflow's former default" in refused(**weak)
    assert f"port {server.port} cannot be used" in refused("--port", str(server.port), **server.credentials)
    wrong = refused("--port", "0", **server.credentials, HARNESS_DATABASE_URL="mysql://a:hidden@b/c")
    assert "HARNESS_DATABASE_URL must be postgresql:" in wrong
    assert "hidden" not in wrong
    other = refused("--port", "0", "--folder", str(server.folder / "server"), **server.credentials)
    assert "a server already runs on" in other


def test_it_ends_with_all_that_it_started(server: TeamServer) -> None:
    key = server.folder / "server" / "secret_key"
    assert (server.data / "postmaster.pid").exists()
    assert key.stat().st_mode & 0o777 == 0o600
    assert server.password not in (server.folder / "server" / "auth.ini").read_text()
    assert server.stop() == 143
    assert not (server.data / "postmaster.pid").exists()
    with pytest.raises(OSError, match="refused"):
        answer(server.uri)
