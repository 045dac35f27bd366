"""Stores and folders as people have them: what cannot be sent waits here and is named, and everything else goes on."""

import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import processes
import pytest
from mlflow import MlflowClient
from processes import until

from harness import tracking
from harness.errors import InputError
from harness.outputs import as_part
from harness.tracking import addresses, calls, closing, inputs, local, making, provenance, shipping, stores, waiting
from harness.tracking.redaction import redacted

SMALL = ("--dataset", "digits", "--n-real", "100", "--steps", "20", "--num-synthetic", "200", "--no-register")
SMALL_CLASSIFIER = ("--dataset", "digits", "--n-real", "100", "--steps", "5")
COMPARE = (
    "compare.py", "--dataset", "digits", "--n-real", "100", "--seeds", "1", "--num-synthetic", "200", "--methods",
    "--controls", "noise", "--classifier.steps", "5",
)  # fmt: skip
Say = Callable[..., subprocess.CompletedProcess]


def ran(folder: Path, script: str, *flags: str, **more: str) -> tuple[int, str]:
    done = processes.run(folder, script, *flags, **more)
    return done.returncode, done.stderr


def said(store: str, **more) -> tracking.Run:
    """A run with one of each kind of record."""
    with tracking.run("generators", "a run", tags={"a": 1}, params={"b": 2}, tracking_uri=store, **more) as run:
        run.metrics({"train/loss": 0.5}, 3)
        run.text("note", "note.txt")
        run.image("samples", np.zeros((4, 4), np.uint8), 3)
    return run


def is_whole_but_for_files(run: tracking.Run, store: str) -> bool:
    row = tracking.get_run(run.id, store)
    return (row["status"], row["metrics.train/loss"], row["params.b"]) == ("FINISHED", 0.5, "2")


# --- Artifacts that cannot be sent -----------------------------------------------------------------------


@pytest.mark.usefixtures("agent")
def test_artifacts_whose_disk_is_away_wait_and_are_sent_when_it_is_back(
    store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    disk = tmp_path / "disk"
    (tmp_path / "outputs" / "artifacts").symlink_to(disk)
    run = said(store)
    assert is_whole_but_for_files(run, store)
    assert "records are still to be sent (file provenance/" in capsys.readouterr().err
    assert (run.folder / local.FILES / "note.txt").read_text() == "note"
    with pytest.raises(InputError, match="records are still to be sent"):
        closing.sync(store)
    assert f"run {run.id}: not sent, file note.txt: " in capsys.readouterr().err
    disk.mkdir()
    closing.sync(store)
    with tracking.fetched(run.id, "note.txt", store) as path:
        assert path.read_text() == "note"
    assert not (run.folder / local.FILES / "note.txt").exists()


@pytest.mark.usefixtures("agent")
@pytest.mark.parametrize("place", ["s3://nowhere/x", "file/below"])
def test_artifacts_without_a_way_hold_back_nothing(store: str, tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("no folder")
    MlflowClient(store).create_experiment("generators", place if ":" in place else (tmp_path / place).as_uri())
    run = said(store)
    assert is_whole_but_for_files(run, store)
    assert (run.folder / local.FILES / "note.txt").exists()
    after = said(store)
    assert is_whole_but_for_files(after, store)


# --- Paths and names are data ----------------------------------------------------------------------------


def test_outputs_that_is_a_link_to_nothing_is_said(tmp_path: Path) -> None:
    (tmp_path / "outputs").symlink_to("/nowhere")
    with pytest.raises(InputError, match=r"cannot be written: .*outputs is a link to /nowhere, which is not there"):
        said("http://127.0.0.1:9")


@pytest.mark.parametrize("name", ["../../up", "/tmp/up", "..", "a/b", ".", "..."])
def test_a_name_is_a_place_inside_its_folder(name: str) -> None:
    part = as_part(name)
    assert (Path("in") / part).resolve().parent == Path("in").resolve()
    assert part != ".."


def test_a_folder_whose_name_is_no_text_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow would write its artifacts elsewhere, without a word."""
    folder = tmp_path / os.fsdecode(b"no \xff text")
    folder.mkdir()
    monkeypatch.chdir(folder)
    with pytest.raises(InputError, match="whose name is no text in UTF-8"):
        inputs.check_store("sqlite:///outputs/mlflow.db", "generators")
    assert not list(folder.iterdir())


def test_a_folder_may_have_any_name(empty_outputs: Path, tmp_path: Path) -> None:
    folder = tmp_path / "per%25cent" / "a b#c?d" / "größe"
    shutil.copytree(empty_outputs, folder / "outputs")
    with processes.agent(folder):
        code, errors = ran(folder, "vae.py", *SMALL)
    assert (code, errors) == (0, "")
    with contextlib.closing(sqlite3.connect(folder / "outputs" / "mlflow.db")) as opened:
        assert set(opened.execute("select status from runs")) == {("FINISHED",)}
        assert list(opened.execute("select name from logged_models")) == [("generator",)]
    artifacts = [path.name for path in (folder / "outputs" / "artifacts").rglob("*")]
    assert {"samples.npz", "MLmodel"} < set(artifacts)


@pytest.mark.usefixtures("agent")
@pytest.mark.parametrize("name", ["it's", 'a "b"', "../../up", "/elsewhere/x", "%25", "."])
def test_an_experiment_may_have_any_name_and_writes_within_outputs(name: str, store: str, tmp_path: Path) -> None:
    with tracking.run(name, name, tags={}, params={}, tracking_uri=store) as run:
        run.text("note", "note.txt")
    assert run.is_sent
    assert tracking.get_run(run.id, store)["name"] == name
    notes = [path for path in tmp_path.rglob("note.txt") if "runs" not in path.parts]
    assert [path.relative_to(tmp_path).parts[:2] for path in notes] == [("outputs", "artifacts")]


@pytest.mark.long
def test_a_comparison_may_have_any_name(place: Path) -> None:
    code, errors = ran(place, *COMPARE, "--name", 'don\'t "x" ../../y')
    assert (code, errors) == (0, "")


def test_bytes_that_are_no_text_are_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    assert redacted(os.fsdecode(b"--name=\xff")) == r"--name=\udcff"
    monkeypatch.setattr(sys, "argv", ["vae.py", os.fsdecode(b"\xff")])
    assert "vae.py" in str(provenance.tags()["command"])


@pytest.mark.usefixtures("agent")
def test_a_run_with_bytes_that_are_no_text_is_sent(store: str) -> None:
    broken = os.fsdecode(b"\xff")
    with tracking.run("generators", broken, tags={"a": broken}, params={"b": broken}, tracking_uri=store) as run:
        run.text(broken, "note.txt")
    assert run.is_sent
    assert tracking.get_run(run.id, store)["params.b"] == r"\udcff"


# --- Stores that are moved, or are others ----------------------------------------------------------------


def test_a_folder_can_be_moved_with_its_store(empty_outputs: Path, tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new name"
    shutil.copytree(empty_outputs, old / "outputs")
    os.chdir(old)
    with processes.agent(old):
        before = said(f"sqlite:///{old}/outputs/mlflow.db")
    os.chdir(tmp_path)
    old.rename(new)
    os.chdir(new)
    store = f"sqlite:///{new}/outputs/mlflow.db"
    with processes.agent(new):
        after = said(store)
    for run in (before, after):
        with tracking.fetched(run.folder.name, "note.txt", store) as path:
            assert path.read_text() == "note"
    assert not old.exists()


@pytest.mark.usefixtures("agent")
def test_an_address_with_a_question_mark_is_the_same_store(store: str) -> None:
    run = said(f"{store}?timeout=60")
    assert tracking.read_runs(tracking_uri=store)["run_id"].tolist() == [run.id]
    assert tracking.read_runs(tracking_uri=f"{store}?timeout=60")["run_id"].tolist() == [run.id]


@pytest.mark.usefixtures("agent")
def test_sync_says_whose_runs_it_leaves_out(store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said(store)
    shutil.copy(tmp_path / "outputs" / "mlflow.db", tmp_path / "other.db")
    with pytest.raises(InputError, match="is not the store of all runs here"):
        closing.sync(f"sqlite:///{tmp_path}/other.db")
    assert "runs of other stores were left out: sqlite:///outputs/mlflow.db" in capsys.readouterr().err
    closing.sync()
    with pytest.raises(InputError, match="nonsense is a folder"):  # also where nothing is left to be sent
        closing.sync("nonsense")


@pytest.mark.usefixtures("agent")
def test_a_run_that_was_purged_or_deleted_is_named_and_left_out(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [said(store) for _ in range(2)]
    client = MlflowClient(store)
    for run in runs:
        client.delete_run(run.id)
    gc = ("mlflow", "gc", "--backend-store-uri", store, "--run-ids", runs[0].id)
    assert processes.run(Path.cwd(), *gc, MLFLOW_TRACKING_URI=store).returncode == 0
    for run in runs:
        sent = local.Sent.read(run.folder)
        sent.journal = 0
        sent.write(run.folder)
    closing.sync(store)
    said_so = capsys.readouterr().err
    assert f"run {runs[0].id} is left out: the store has run {runs[0].id} no more" in said_so
    assert f"run {runs[1].id} is left out: run {runs[1].id} was deleted" in said_so
    assert f"mlflow runs restore --run-id {runs[1].id}" in said_so


def test_reap_closes_ones_own_runs_of_the_harness_alone(
    store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    client, long_ago = MlflowClient(store), 1_700_000_000_000
    experiment = client.create_experiment("generators")
    own = {"journal": "a" * 32, "heartbeat": str(long_ago)}
    runs = {
        name: client.create_run(experiment, long_ago, tags).info.run_id
        for name, tags in {
            "mine": own | {"mlflow.user": local_user()},
            "another's": own | {"mlflow.user": "somebody else"},
            "not the harness's": {"mlflow.user": local_user()},
            "alive": own | {"mlflow.user": local_user(), "heartbeat": str(4_000_000_000_000)},
        }.items()
    }
    closing.reap(60, tracking_uri=store)
    states = {name: client.get_run(run).info.status for name, run in runs.items()}
    assert states == {"mine": "KILLED", "another's": "RUNNING", "not the harness's": "RUNNING", "alive": "RUNNING"}
    assert client.get_run(runs["mine"]).data.tags["reason"] == "no sign of life since 2023-11-14T22:13:20 UTC"
    closing.reap(60, all_users=True, tracking_uri=store)
    assert client.get_run(runs["another's"]).info.status == "KILLED"
    assert client.get_run(runs["not the harness's"]).info.status == "RUNNING"


def local_user() -> str:
    import getpass

    return getpass.getuser()


# --- What was deleted in the UI --------------------------------------------------------------------------


@pytest.mark.usefixtures("agent")
def test_a_deleted_experiment_is_one_line_before_any_work(store: str, tmp_path: Path) -> None:
    client = MlflowClient(store)
    client.delete_experiment(client.create_experiment("generators"))
    code, errors = ran(tmp_path, "vae.py", *SMALL)
    assert code == 2
    assert errors.count("\n") == 1
    assert "the experiment 'generators' was deleted; to have it back: mlflow experiments restore" in errors
    assert not local.folders()


def test_a_run_whose_experiment_goes_behind_another_ones_is_kept_and_made_in_a_new_one(
    store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Deleted and purged within the seconds in which who sends does not look for it again."""
    monkeypatch.setattr(making, "EXPERIMENT_S", 1e9)
    for patience in ("START_PATIENCE_S", "END_PATIENCE_S"):
        monkeypatch.setattr(waiting, patience, 0.0)
    for name in ("ring", "ensure"):
        monkeypatch.setattr(calls, name, lambda *_: None)
    before, client = said(store), stores.client(store)
    shipping.ship(before.folder, client)
    client.delete_run(before.id)
    client.delete_experiment(client.get_experiment_by_name("generators").experiment_id)
    gc = ("mlflow", "gc", "--backend-store-uri", store)
    assert processes.run(Path.cwd(), *gc, MLFLOW_TRACKING_URI=store).returncode == 0
    run = said(store)
    with pytest.raises(making.Away):
        shipping.ship(run.folder, client)
    shipping.ship(run.folder, client)
    assert is_whole_but_for_files(run, store)


@pytest.mark.usefixtures("agent")
def test_a_deleted_comparison_is_named_and_another_store_has_its_own(
    store: str, tmp_path: Path, empty_outputs: Path
) -> None:
    assert ran(tmp_path, *COMPARE, "--name", "t")[0] == 0
    client = MlflowClient(store)
    parent = tracking.read_runs("tags.kind = 'comparison'", tracking_uri=store)["run_id"].iloc[0]
    client.delete_run(parent)
    code, errors = ran(tmp_path, *COMPARE, "--name", "t")
    assert (code, errors.count("\n")) == (2, 1)
    assert (
        f"the comparison t was deleted in the store; to have it back: mlflow runs restore --run-id {parent}" in errors
    )
    shutil.copy(empty_outputs / "mlflow.db", tmp_path / "other.db")
    assert ran(tmp_path, *COMPARE, "--name", "t", "--tracking-uri", "sqlite:///other.db")[0] == 0
    cells = tracking.read_runs("tags.cell_name != ''", tracking_uri=f"sqlite:///{tmp_path}/other.db")
    assert list(cells["status"]) == ["FINISHED"] * 2


# --- Addresses that no store can have --------------------------------------------------------------------


@pytest.fixture
def odd(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "text.db").write_text("no database at all")
    (tmp_path / "unmounted").symlink_to("/nowhere")


@pytest.mark.usefixtures("odd")
@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("./mlruns", "mlflow migrate-filestore --source ./mlruns"),
        ("file:///tmp/mlruns", "mlflow migrate-filestore"),
        ("outputs/mlflow.db", "outputs/mlflow.db is a path; the store in that file is sqlite:///outputs/mlflow.db"),
        ("foo://x", "foo://x is no MLflow store's address"),
        ("sqlite:///folder", "is a folder; a sqlite store is a file, such as sqlite:///folder/mlflow.db"),
        ("sqlite:///text.db", "is no sqlite database"),
        ("sqlite:///text.db/below.db", "cannot be"),
        ("sqlite:///unmounted/mlflow.db", "cannot be written: unmounted is a link to /nowhere, which is not there"),
        ("sqlite://", "is a store in memory"),
        ("sqlite:///", "names no file"),
        ("http://", "names no host"),
        ("mysql://user:pw@host/db", "mysql://host/db has a password in its address"),
    ],
)
def test_an_address_that_no_store_has_is_one_line(address: str, message: str, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError) as refused:
        inputs.check_store(address, "generators")
    if "password" in message:
        with pytest.raises(InputError, match="has a password"):
            addresses.split_password(address)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)
    assert "pw" not in str(refused.value)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_store_of_an_older_mlflow_is_named_with_what_mends_it(store: str, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "outputs" / "mlflow.db") as opened:
        opened.execute("update alembic_version set version_num = '90e64c465722'")
    with pytest.raises(InputError, match=r"is of an older MLflow: mlflow db upgrade sqlite:///"):
        stores.client(store)


# --- Damaged files ---------------------------------------------------------------------------------------


@pytest.mark.usefixtures("agent")
def test_a_judge_is_the_stores_and_is_fetched_by_who_has_none_or_a_damaged_one(store: str, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "outputs" / "judges")
    small, small_classifier = ((*flags, "--judge-steps", "40") for flags in (SMALL, SMALL_CLASSIFIER))
    assert ran(tmp_path, "vae.py", *small) == (0, "training the judge of digits, once: 40 steps\n")
    (trained,) = tmp_path.rglob("judges/*/*.safetensors")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    with processes.agent(elsewhere):
        assert ran(elsewhere, "vae.py", *small, "--seed", "1", "--tracking-uri", store) == (0, "")
        (fetched,) = elsewhere.rglob("judges/*/*.safetensors")
        assert fetched.read_bytes() == trained.read_bytes()
        fetched.write_bytes(fetched.read_bytes()[:1000])
        code, errors = ran(elsewhere, "vae.py", *small, "--seed", "2", "--tracking-uri", store)
        assert code == 0
        assert "is damaged" in errors
        assert fetched.read_bytes() == trained.read_bytes()
        assert ran(elsewhere, "classifier.py", *small_classifier) == (0, "")  # whose own store has none yet
    assert {file.read_bytes() for file in elsewhere.rglob("judges/*/*.safetensors")} == {trained.read_bytes()}
    own = f"sqlite:///{elsewhere}/outputs/mlflow.db"
    assert len(tracking.read_runs("tags.kind = 'judge'", tracking_uri=own)) == 1
    assert len(tracking.read_runs("tags.kind = 'judge'", tracking_uri=store)) == 1
    assert tracking.read_runs("tags.kind = 'generator'", tracking_uri=store)["tags.judge"].nunique() == 1


@pytest.mark.usefixtures("agent")
def test_what_is_damaged_here_is_named_and_fetched_from_the_store(store: str, tmp_path: Path) -> None:
    assert ran(tmp_path, "vae.py", *SMALL) == (0, "")
    run = tracking.read_runs("tags.kind = 'generator'", tracking_uri=store)["run_id"].item()
    for name, command in {
        "samples.npz": ("classifier.py", *SMALL_CLASSIFIER, "--samples", run),
        "generator/weights.safetensors": ("generate.py", "--run", run),
    }.items():
        (kept,) = (path for path in tmp_path.glob(f"outputs/runs/*/files/{name}"))
        whole = kept.read_bytes()
        kept.write_bytes(whole[: len(whole) // 2])
        code, errors = ran(tmp_path, *command)
        assert (code, "is damaged" in errors, "Traceback" in errors) == (0, True, False)
        assert any(path.read_bytes() == whole for path in tmp_path.glob(f"outputs/cache/runs/*/{name}"))


# --- A run that still lives ------------------------------------------------------------------------------


@pytest.mark.usefixtures("agent")
def test_a_run_that_still_lives_is_named_and_waited_for(store: str, tmp_path: Path) -> None:
    long = ("--n-real", "100", "--num-synthetic", "200", "--steps", "100000", "--epochs", "100000", "--resume", "auto")
    (first,) = processes.start(tmp_path, "vae.py", *long)
    until(lambda: any('"metrics":' in path.read_text() for path in tmp_path.glob("outputs/runs/*/journal")))
    code, errors = ran(tmp_path, "vae.py", *long)
    assert (code, errors.count("\n")) == (2, 1)
    assert f"of this very configuration still lives: process {first.pid} on " in errors
    (second,) = processes.start(tmp_path, "vae.py", *long, "--wait")
    until(lambda: "waiting for run" in processes.said(tmp_path)[1])
    processes.kill(first, processes.signal.SIGKILL)
    (folder,) = local.folders()
    until(lambda: local.writer(folder).startswith(f"process {second.pid} on "))
    processes.kill(second, processes.signal.SIGTERM)
    assert processes.wait([second]) == [143]
    assert len(tracking.read_runs("tags.kind = 'generator'", tracking_uri=store)) == 1
