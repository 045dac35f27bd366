"""A team's server: who may log in writes to their own experiments and models, and reads the others'."""

import os
import secrets
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import processes
import pytest
import ui_pictures
from mlflow import MlflowClient
from mlflow.entities import Metric
from mlflow.exceptions import MlflowException
from mlflow.server import get_app_client
from playwright.sync_api import HttpCredentials
from processes import ROOT, environment
from servers import TeamServer, installed

from harness import tracking
from harness.tracking import registry

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


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TeamServer]:
    """In a folder that others could read."""
    folder = tmp_path_factory.mktemp("team")
    (folder / "server" / "artifacts").mkdir(parents=True, mode=0o755)
    (folder / "server" / "artifacts" / "old.txt").touch(0o644)
    server = TeamServer(folder)
    server.start()
    yield server
    server.stop()


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
    done = run(tmp_path / "clara", "generators")
    assert (done.returncode, done.stderr) == (0, "")
    (hers,) = tracking.read_runs(experiments=["generators"], tracking_uri=server.uri).to_dict("records")
    assert hers["experiment"] == "clara/generators"
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
    done = run(tmp_path / "bert", "generators")
    assert (done.returncode, done.stderr) == (0, "")
    found = tracking.read_runs(experiments=["generators"], tracking_uri=server.uri)
    assert set(found["experiment"]) == {"clara/generators", "bert/generators"}


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
