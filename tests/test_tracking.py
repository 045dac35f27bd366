"""Runs in a real store: what is sent is there, and a run is closed however it ends."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from processes import ROOT, environment, until

from harness import tracking
from harness.errors import InputError
from harness.tracking import journal, local, searching


@pytest.fixture
def uri(store: str, agent: None) -> str:
    return store


def started(uri: str, **more):
    return tracking.run("generators", "a run", tags={"method": "vae"}, params={"steps": 3}, tracking_uri=uri, **more)


def test_every_metric_arrives_once_with_its_step_and_time(uri: str) -> None:
    with started(uri) as run:
        for step in range(2500):  # more than two requests' worth
            run.metrics({"train/loss": step / 7, "train/kl": np.float32(0.5)}, step, 1_700_000_000_000 + step)
    store = tracking.client(uri)
    history = store.get_metric_history(run.id, "train/loss")
    assert [(m.step, m.value, m.timestamp) for m in sorted(history, key=lambda m: m.step)] == [
        (step, step / 7, 1_700_000_000_000 + step) for step in range(2500)
    ]
    assert len(store.get_metric_history(run.id, "train/kl")) == 2500


def test_a_run_carries_where_it_comes_from(uri: str) -> None:
    with started(uri) as run:
        run.data("digits real", "d" * 64, "digits", "training")
    row = tracking.get_run(run.id, uri)
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert row["tags.mlflow.source.git.commit"] == commit.stdout.strip()
    assert row["tags.git_dirty"] in {"True", "False"}
    assert row["params.steps"] == "3"
    assert Path(sys.argv[0]).name in row["tags.command"]
    with tracking.fetched(run.id, "provenance/packages.txt", uri) as path:
        packages = path.read_text().splitlines()
    assert packages[0].startswith("python==3.")
    assert any(line.startswith("torch==") for line in packages)
    inputs = tracking.client(uri).get_run(run.id).inputs.dataset_inputs
    assert [(i.dataset.name, i.dataset.digest, i.tags[0].value) for i in inputs] == [
        ("digits real", "d" * 32, "training")
    ]


def test_an_exception_fails_the_run_with_its_reason(uri: str) -> None:
    def fail() -> None:
        with started(uri) as run:
            ids.append(run.id)
            run.metrics({"train/loss": 1.0}, 0)
            _ = 1 / 0

    ids: list[str] = []
    with pytest.raises(ZeroDivisionError):
        fail()
    row = tracking.get_run(ids[0], uri)
    assert row["status"] == "FAILED"
    assert row["tags.reason"] == "ZeroDivisionError: division by zero"
    assert row["metrics.train/loss"] == 1.0
    with tracking.fetched(ids[0], "traceback.txt", uri) as path:
        assert "_ = 1 / 0" in path.read_text()


KILLED = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs inherit "ignore"
from harness import tracking
with tracking.run("generators", "long", tags={}, params={}) as run:
    run.metrics({"train/loss": 0.25}, 7)
    print("said", flush=True)
    time.sleep(120)
"""


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_run_is_closed_with_its_metrics(uri: str, tmp_path: Path, signal_number: int) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment(),
        cwd=tmp_path,
    )  # fmt: skip
    assert process.stdout
    assert process.stdout.readline() == b"said\n"
    os.kill(process.pid, signal_number)
    assert process.wait(timeout=60) in {128 + signal.SIGTERM, -signal.SIGINT}
    (row,) = tracking.read_runs(tracking_uri=uri).to_dict("records")
    assert row["status"] == "KILLED"
    assert row["metrics.train/loss"] == 0.25


def test_other_processes_than_the_main_one_write_nothing(uri: str) -> None:
    before = len(tracking.read_runs(tracking_uri=uri))
    with started(uri, active=False) as run:
        run.metrics({"train/loss": 1.0}, 0)
        run.tags({"a": 1})
        run.image("samples", np.zeros((4, 4), np.uint8), 0)
    assert run.id == ""
    assert len(tracking.read_runs(tracking_uri=uri)) == before


def test_children_parents_and_resumed_runs(uri: str) -> None:
    with started(uri) as parent, started(uri, parent=parent.id) as child:
        pass
    assert tracking.get_run(child.id, uri)["parent_run_id"] == parent.id
    with started(uri, resume=parent.id) as again:
        until(lambda: tracking.get_run(parent.id, uri)["status"] == "RUNNING")
    assert again.id == parent.id
    assert tracking.get_run(parent.id, uri)["status"] == "FINISHED"


def test_a_run_whose_writer_was_killed_at_its_first_line_says_its_settings_when_it_goes_on(uri: str) -> None:
    with started(uri) as run:
        pass
    place = run.folder / local.JOURNAL
    place.write_bytes(place.read_bytes().split(b"\n")[0] + b"\n")
    for _ in range(2):
        with started(uri, resume=run.id):
            pass
    assert [record["params"] for record, _ in journal.read(place) if "params" in record] == [{"steps": "3"}]
    assert "provenance/packages.txt" in [record.get("file") for record, _ in journal.read(place)]


def test_reading_filters_and_pages(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(searching, "PAGE", 20)
    store = tracking.client(uri)
    experiment = store.create_experiment("many")
    for number in range(103):
        store.create_run(experiment, tags={"number": str(number)})
    runs = tracking.read_runs(experiments=["many"], tracking_uri=uri)
    assert sorted(runs["tags.number"].astype(int)) == list(range(103))
    one = tracking.read_runs("tags.number = '17'", experiments=["many"], tracking_uri=uri)
    assert one["tags.number"].tolist() == ["17"]
    assert tracking.read_runs(experiments=["none such"], tracking_uri=uri).empty


def test_unknown_runs_artifacts_and_stores_are_named(uri: str, tmp_path: Path) -> None:
    with started(uri) as run:
        pass
    with pytest.raises(InputError, match=r"no run 'abc' in sqlite:///.*; the UI's run page"):
        tracking.get_run("abc", uri)
    with pytest.raises(InputError, match=r"has no artifact samples.npz"), tracking.fetched(run.id, "samples.npz", uri):
        pass
    with pytest.raises(InputError, match="there is no MLflow store at sqlite:///"):
        tracking.read_runs(tracking_uri=f"sqlite:///{tmp_path}/nowhere.db")
    assert not (tmp_path / "nowhere.db").exists()


def test_the_shortest_run_has_its_costs_and_system_metrics(uri: str) -> None:
    with started(uri) as run:
        run.describe("**a run**")
    row = tracking.get_run(run.id, uri)
    assert 0 <= row["metrics.system/cpu_utilization_percentage"] <= 100
    assert row["metrics.system/system_memory_usage_megabytes"] > 0
    assert row["metrics.cost/peak_memory_bytes"] > 50e6
    assert 0 < row["metrics.cost/wall_seconds"] < 60
    assert row["tags.mlflow.note.content"] == "**a run**"
    with started(uri, parent=run.id) as child:
        child.describe("**a child**")
    assert f"(#/runs/{run.id})" in tracking.get_run(child.id, uri)["tags.mlflow.note.content"]
