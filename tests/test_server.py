"""A team's server and several runs at once: nothing is lost, nothing is open to strangers, no secret is kept."""

import base64
import contextlib
import os
import secrets
import shlex
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import processes
import psutil
import pytest
import sqlalchemy
import ui_pictures
from mlflow import MlflowClient
from mlflow.entities import Metric
from mlflow.exceptions import MlflowException
from mlflow.server import get_app_client
from playwright.sync_api import HttpCredentials
from processes import ROOT, environment
from servers import Postgres, TeamServer, installed, postgres_programs

from harness import tracking
from harness.tracking import registry, shipping

METRICS = 500


@pytest.fixture(scope="module")
def cluster() -> Iterator[Postgres]:
    installed(postgres_programs)
    cluster = Postgres()
    yield cluster
    cluster.remove()


@pytest.fixture(scope="module", params=["postgresql", pytest.param("sqlite", marks=pytest.mark.long)])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TeamServer]:
    """In a folder that others could read."""
    database = request.getfixturevalue("cluster").url if request.param == "postgresql" else ""
    folder = tmp_path_factory.mktemp("team")
    (folder / "server" / "artifacts").mkdir(parents=True, mode=0o755)
    (folder / "server" / "artifacts" / "old.txt").touch(0o644)
    server = TeamServer(folder, database)
    server.start()
    yield server
    server.stop()


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


@pytest.fixture
def agent(anna: TeamServer, tmp_path: Path) -> Iterator[None]:
    """Anna's, forked: her run would start one by itself, in seconds."""
    with processes.agent(tmp_path, **anna.credentials):
        yield


def started(uri: str, name: str = "a run"):
    return tracking.run("generators", name, tags={"method": "vae"}, params={"steps": 3}, tracking_uri=uri)


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


@pytest.mark.usefixtures("agent")
def test_a_run_goes_through_it_with_its_artifacts(anna: TeamServer) -> None:
    """Whose name is longer than PostgreSQL's column for it."""
    with started(anna.uri, 300 * "x") as run:
        expected = say(run, 0, 10)
        run.text("seen by the team", "note.txt")
    assert history(anna.uri, run.id) == expected
    row = tracking.get_run(run.id, anna.uri)
    assert (row["status"], row["name"]) == ("FINISHED", 250 * "x")
    with tracking.fetched(run.id, "note.txt", anna.uri) as path:
        assert path.read_text() == "seen by the team"
    assert tracking.client(anna.uri).get_run(run.id).info.artifact_uri.startswith("mlflow-artifacts:/")
    assert list((anna.folder / "server" / "artifacts").rglob("note.txt"))


@pytest.mark.usefixtures("agent")
@pytest.mark.parametrize("made", ["postgresql"], indirect=True)
def test_a_database_that_restarts_loses_nothing(
    anna: TeamServer, cluster: Postgres, capsys: pytest.CaptureFixture[str]
) -> None:
    with started(anna.uri) as run:
        expected = say(run, 0, 1200)
        cluster.control("restart", "--mode=immediate")  # as after a crash: it replays its own log
        expected += say(run, 1200, 2000)
        cluster.control("restart", "--mode=fast")
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


def test_eight_runs_at_once_miss_nothing_and_meet_no_lock(anna: TeamServer, tmp_path: Path) -> None:
    write_as_eight(anna.uri, tmp_path, **anna.credentials)


@pytest.mark.long
def test_eight_runs_at_once_make_the_sqlite_store(tmp_path: Path) -> None:
    write_as_eight(f"sqlite:///{tmp_path}/mlflow.db", tmp_path)


def write_as_eight(uri: str, folder: Path, **credentials: str) -> None:
    with processes.agent(folder, **credentials):
        done = subprocess.run(
            [sys.executable, "-c", WRITERS, uri, "8", str(METRICS)],
            cwd=folder, env=environment(**credentials), capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    runs = tracking.read_runs("tags.number != ''", tracking_uri=uri)
    assert sorted(runs["tags.number"]) == [str(number) for number in range(8)]
    assert set(runs.status) == {"FINISHED"}
    for run_id in runs.run_id:
        assert [step for step, *_ in history(uri, run_id)] == list(range(METRICS))


def rows_with(url: str, secret: str) -> list[str]:
    """The rows of a PostgreSQL database that hold a text, each table's."""
    engine = sqlalchemy.create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
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
    found = []
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError, IsADirectoryError):  # an agent removes what it has sent
            content = path.read_bytes()
            found += [f"{path}: {secret}" for secret in secrets if secret.encode() in content]
    return found


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
    hidden = [server.password, *([urlsplit(server.database).password] if server.database else [])]
    found = files_with(tmp_path, *hidden) + files_with(server.folder, *hidden)
    if server.database:
        found += rows_with(server.database, server.password)
    assert not found, "\n".join(found)[:3000]
    commands = [" ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"])]
    assert not [command for command in commands if any(secret in command for secret in hidden)]


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
    for url, reason in {
        "https://a:hidden@b/c": "HARNESS_DATABASE_URL must be a database's URL",
        "a:hidden@b/c": "HARNESS_DATABASE_URL must be a database's URL",
        "postgresql:///c?password=hidden": "such as postgresql://USER:PASSWORD@HOST/DATABASE",
        "mysql://a:hidden@b/c": "mysql://b/c has a password in its address",
        "postgresql://a:hidden@127.0.0.1:1/c": "postgresql+psycopg://a@127.0.0.1:1/c cannot be opened",
        f"sqlite:///{tmp_path}": "is a folder",
    }.items():
        wrong = refused("--port", "0", **server.credentials, HARNESS_DATABASE_URL=url)
        assert reason in wrong
        assert "hidden" not in wrong
    assert not list(tmp_path.iterdir())
    other = refused("--port", "0", "--folder", str(server.folder / "server"), **server.credentials)
    assert "a server already runs in" in other


# --- Who may do what: all who may log in write to their own, and read the others' ---------------------------

RUN = """
from harness import cli, tracking
from harness.tracking import inputs
def main(experiment: str):
    inputs.check_store(None, experiment)
    with tracking.run(experiment, "a run", tags={"method": "vae"}, params={}) as run:
        run.text("mine", "note.txt")
    return tracking.exit_code()
cli.main(main)
"""


@pytest.fixture
def become(server: TeamServer, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], MlflowClient]:
    """`become("bert")`: this process is a user of the server, who is made."""

    def be(user: str) -> MlflowClient:
        for name, value in server.credentials.items():
            monkeypatch.setenv(name, value)
        password = secrets.token_hex(12)
        get_app_client("basic-auth", server.uri).create_user(user, password)
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", user)
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", password)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
        return tracking.client(server.uri)

    return be


def run(folder: Path, experiment: str) -> subprocess.CompletedProcess[str]:
    """A run in an experiment, in a folder of its own and with its own agent, as this process's user."""
    folder.mkdir(exist_ok=True)
    (folder / "a_run.py").write_text(RUN)
    who = {name: value for name, value in os.environ.items() if name.startswith("MLFLOW_TRACKING_")}
    with processes.agent(folder, **who):
        return processes.run(folder, str(folder / "a_run.py"), "--experiment", experiment, **who)


def test_nobody_else_reads_or_writes_the_servers_folder(server: TeamServer, tmp_path: Path) -> None:
    """What others could read is closed, what they could write to is refused."""
    own = server.folder / "server"
    assert own.stat().st_mode & 0o777 == 0o700
    for place, mode in (("server", 0o777), ("server/artifacts", 0o775), ("server/mlflow.db", 0o666)):
        folder = tmp_path / place.replace("/", "-")
        (folder / "server" / "artifacts").mkdir(parents=True, mode=0o755)
        (folder / "server" / "mlflow.db").touch(0o644)
        (folder / place).chmod(mode)
        flags = ("--port", "0", "--folder", "server")
        done = processes.run(folder, "harness.tracking.server", *flags, **server.credentials)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
        assert f"others may write to {place}" in done.stderr


def test_a_user_changes_nothing_of_anothers(
    become: Callable[[str], MlflowClient], tmp_path: Path, server: TeamServer
) -> None:
    clara = become("clara")
    done = run(tmp_path / "clara", "classifiers")
    assert (done.returncode, done.stderr) == (0, "")
    (hers,) = tracking.read_runs(experiments=["classifiers"], tracking_uri=server.uri).to_dict("records")
    assert hers["experiment"] == "clara/classifiers"
    run_id = str(hers["run_id"])
    experiment = clara.get_run(run_id).info.experiment_id
    clara.log_param(run_id, "num_synthetic", 300)
    clara.set_tag(run_id, "dataset", "digits")
    clara.set_tag(run_id, "n_real", "200")
    clara.set_tag(run_id, "seed", "0")
    model = clara.create_logged_model(experiment, "generator", run_id, params={"method": "vae"}).model_id
    clara.log_batch(run_id, [Metric("validation/cas", 0.9, 1, 1, model, "digits", "d1")])
    registry.register(run_id, model, clara)
    assert clara.get_model_version_by_alias("clara-vae", "champion").run_id == run_id

    bert = become("bert")
    note = tmp_path / "note.txt"
    note.write_text("not hers")
    for write in (
        lambda: bert.set_tag(run_id, "reason", "x"),
        lambda: bert.log_metric(run_id, "validation/cas", 1.0),
        lambda: bert.log_artifact(run_id, str(note)),
        lambda: bert.delete_run(run_id),
        lambda: bert.create_run(experiment),
        lambda: bert.set_experiment_tag(experiment, "a", "b"),
        lambda: bert.log_model_artifact(model, str(note)),
        lambda: bert.delete_logged_model(model),
        lambda: bert.set_registered_model_alias("clara-vae", "champion", "1"),
        lambda: bert.create_model_version("clara-vae", f"models:/{model}", model_id=model),
    ):
        with pytest.raises((MlflowException, OSError), match=r"Permission denied|403"):
            write()
    with tracking.fetched(run_id, "note.txt", server.uri) as path:
        assert path.read_text() == "mine"
    done = run(tmp_path / "bert", "classifiers")
    assert (done.returncode, done.stderr) == (0, "")
    found = tracking.read_runs(experiments=["classifiers"], tracking_uri=server.uri)
    assert set(found["experiment"]) == {"clara/classifiers", "bert/classifiers"}


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_who_may_only_read_sees_the_same_pages(
    become: Callable[[str], MlflowClient], tmp_path: Path, server: TeamServer
) -> None:
    installed(ui_pictures.chromium)
    become("ada")
    who = {name: value for name, value in os.environ.items() if name.startswith("MLFLOW_TRACKING_")}
    flags = "--n-real 150 --seeds 1 --num-synthetic 200 --methods ddpm vae gan --controls affine --classifier.steps 40"
    steps = "--ddpm.steps 20 --vae.steps 50 --gan.steps 20 --cas-steps 40"
    done = subprocess.run(
        [sys.executable, str(ROOT / "experiments" / "compare.py"), *flags.split(), *steps.split()],
        cwd=tmp_path, env=environment(**who), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    become("gast")
    found = ui_pictures.newest_comparison(server.uri)
    with pytest.raises(MlflowException, match="Permission denied"):
        tracking.client(server.uri).set_tag(str(found.parent.run_id), "reason", "x")
    login = HttpCredentials(username="gast", password=os.environ["MLFLOW_TRACKING_PASSWORD"])
    with ui_pictures.browser(login) as page:
        for show in ui_pictures.PAGES.values():
            show(page, server.uri, found)


def test_a_run_without_the_right_names_the_command_that_grants_it(
    become: Callable[[str], MlflowClient], tmp_path: Path, server: TeamServer
) -> None:
    become("dora").create_experiment("dora's and emil's")
    emil = become("emil")
    done = run(tmp_path / "emil", "dora's and emil's")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "emil may not write to the experiment" in done.stderr
    command = shlex.split(done.stderr.rpartition("its administrator grants it by: python -m ")[2])
    granted = processes.run(tmp_path, *command, **server.credentials)
    assert (granted.returncode, granted.stdout) == (0, "emil may write to dora's and emil's\n"), granted.stderr
    assert run(tmp_path / "emil", "dora's and emil's").returncode == 0
    assert emil.search_runs([emil.get_experiment_by_name("dora's and emil's").experiment_id])
    for wrong in (server.credentials | {"MLFLOW_TRACKING_USERNAME": "emil"}, {}):
        refused = processes.run(tmp_path, *command, **wrong)
        assert (refused.returncode, refused.stderr.count("\n")) == (2, 1), refused.stderr
        assert "MLFLOW_TRACKING_PASSWORD" in refused.stderr


# --- Its end ----------------------------------------------------------------------------------------------


def test_it_ends_with_all_that_it_started(server: TeamServer) -> None:
    assert server.process
    started = psutil.Process(server.process.pid).children(recursive=True)
    files = [path for path in (server.folder / "server").iterdir() if path.is_file()]
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}
    assert {"secret_key", "auth.ini"} <= {path.name for path in files}
    assert server.stop() == 143
    assert started
    assert not [process for process in started if process.is_running()]
    with pytest.raises(OSError, match="refused"):
        answer(server.uri)
