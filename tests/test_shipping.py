"""What a run says reaches the store once, whatever happens to the server or the process."""

import contextlib
import os
import sqlite3
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import quote

import numpy as np
import processes
import pytest
from processes import environment, until
from servers import Gate, TrackingServer

from harness import tracking
from harness.errors import InputError
from harness.tracking import calls, experiments, inputs, journal, local, waiting, writing


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrackingServer]:
    made = TrackingServer(tmp_path_factory.mktemp("server"))
    made.start()
    yield made
    made.kill()


@pytest.fixture
def up(server: TrackingServer, tmp_path: Path) -> Iterator[TrackingServer]:
    """The server, and an agent that is not patient with it."""
    if not server.is_running:
        server.kill()
        server.start()
    with processes.agent(tmp_path, MLFLOW_HTTP_REQUEST_TIMEOUT="2", MLFLOW_HTTP_REQUEST_MAX_RETRIES="0"):
        yield server


def started(uri: str):
    return tracking.run("generators", "a run", tags={"method": "vae"}, params={"steps": 3}, tracking_uri=uri)


def histories(uri: str, run_id: str, *keys: str) -> list[tuple[str, int, float, int]]:
    store = tracking.client(uri)
    rows = [(m.key, m.step, m.value, m.timestamp) for key in keys for m in store.get_metric_history(run_id, key)]
    assert len(rows) == len(set(rows)), "a row is stored twice"
    return sorted(rows)


def say(run: tracking.Run, first: int, last: int) -> list[tuple[str, int, float, int]]:
    for step in range(first, last):
        run.metrics({"train/loss": step / 7}, step, 1_700_000_000_000 + step)
    return [("train/loss", step, step / 7, 1_700_000_000_000 + step) for step in range(first, last)]


def sent(run: tracking.Run) -> local.Sent:
    return local.Sent.read(run.folder)


def test_a_server_that_is_killed_and_started_again_misses_nothing(
    up: TrackingServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(writing, "AGENT_LOOK_S", 0.0)
    with started(up.uri) as run:
        expected = say(run, 0, 1500)
        until(lambda: sent(run).run_id)
        up.kill()
        expected += say(run, 1500, 2600)
        run.tags({"said": "while it was away"})
        run.text("also", "away.txt")
        until(lambda: sent(run).trouble)
        expected += say(run, 2600, 2601)
        up.start()
        expected += say(run, 2601, 2700)
    assert histories(up.uri, run.id, "train/loss") == sorted(expected)
    row = tracking.get_run(run.id, up.uri)
    assert (row["status"], row["tags.said"]) == ("FINISHED", "while it was away")
    with tracking.fetched(run.id, "away.txt", up.uri) as path:
        assert path.read_text() == "also"
    assert sent(run).trouble == ""
    assert capsys.readouterr().err.count("its journal keeps everything") == 1


@pytest.mark.parametrize("busy", ["beginning", "sending others"])
def test_a_run_waits_for_a_busy_agent(busy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a slow machine it imports and makes a database for a minute; or it has other runs' records to send first."""
    now_s = 0.0

    def sleep(seconds: float) -> None:
        nonlocal now_s
        now_s += 10
        length = (run.folder / local.JOURNAL).stat().st_size
        if now_s >= 60 or busy != "beginning":
            local.Sent(run_id="a" * 32, journal=length if now_s >= 80 else 0).write(run.folder)
        if busy != "beginning":
            os.utime(lock, (now_s, now_s))

    lock = calls.place() / calls.LOCK
    lock.parent.mkdir(parents=True)
    lock.touch()
    clock = SimpleNamespace(monotonic=lambda: now_s, sleep=sleep)
    monkeypatch.setattr(waiting, "time", clock)
    for name in ("ring", "ensure"):
        monkeypatch.setattr(calls, name, lambda *_: None)
    with started(f"sqlite:///{tmp_path}/mlflow.db") as run:
        run.metrics({"train/loss": 1.0}, 0)
    assert run.is_sent


def test_what_is_left_at_the_end_is_sent_by_sync_and_sent_once(
    up: TrackingServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(waiting, "END_PATIENCE_S", 1.0)
    with started(up.uri) as run:
        expected = say(run, 0, 100)
        until(lambda: sent(run).run_id)
        up.kill()
        expected += say(run, 100, 1300)
        run.image("samples", np.zeros((8, 8), np.uint8), 5)
        run.data("digits real", "d" * 64, "digits", "training")
    assert tracking.exit_code() == 3
    assert f"python -m harness.tracking sync --tracking-uri {up.uri}" in capsys.readouterr().err
    away = processes.run(
        tmp_path, "harness.tracking", "sync", "--tracking-uri", up.uri, MLFLOW_HTTP_REQUEST_MAX_RETRIES="0"
    )
    assert away.returncode == 2
    assert "are still to be sent" in away.stderr
    up.start()
    for _ in range(2):
        tracking.sync(up.uri)
        assert histories(up.uri, run.id, "train/loss") == sorted(expected)
        row = tracking.get_run(run.id, up.uri)
        assert row["status"] == "FINISHED"
        assert (row["end_time"] - row["start_time"]).total_seconds() < 30  # when it ended, not when it was sent
        with tracking.fetched(run.id, "images", up.uri) as folder:
            assert len(list(folder.glob("*.png"))) == 1
        assert len(tracking.client(up.uri).get_run(run.id).inputs.dataset_inputs) == 1
    (run.folder / local.SENT).unlink()  # the journal alone, on another machine
    tracking.sync(up.uri)
    assert histories(up.uri, run.id, "train/loss") == sorted(expected)
    assert len(tracking.read_runs(f"tags.journal = '{run.folder.name}'", tracking_uri=up.uri)) == 1


@pytest.mark.usefixtures("agent")
def test_values_are_stored_as_they_are_or_refused_in_a_line(store: str) -> None:
    import torch

    uri = store
    with started(uri) as run:
        run.metrics({"nan": float("nan"), "inf": float("inf"), "numpy": np.float32(0.25), "größe/µ": 1.0}, 0)
        run.metrics({"tensor": torch.tensor(0.5)}, 0)
        run.params({"long": "x" * 20_000, "short": [1, 2]})
        with pytest.raises(InputError, match="'a=b' cannot be a metric's name"):
            run.metrics({"a=b": 1.0}, 0)
    row = tracking.get_run(run.id, uri)
    assert (row["metrics.numpy"], row["metrics.tensor"], row["metrics.größe/µ"]) == (0.25, 0.5, 1.0)
    assert np.isnan(row["metrics.nan"])
    assert row["metrics.inf"] == float("inf")
    assert row["params.short"] == "[1, 2]"
    with tracking.fetched(run.id, "params/long.txt", uri) as path:
        assert path.read_text() == "x" * 20_000


@pytest.mark.usefixtures("agent")
def test_twenty_thousand_metrics(store: str, tmp_path: Path) -> None:
    with started(store) as run:
        for step in range(4000):
            run.metrics({f"train/metric {number}": step / (number + 1) for number in range(5)}, step)
    with contextlib.closing(sqlite3.connect(tmp_path / "outputs" / "mlflow.db")) as opened:
        query = "select count(*), count(distinct key || step), sum(value) from metrics where key like 'train/%'"
        count, different, total = opened.execute(query).fetchone()
    assert (count, different) == (20_000, 20_000)
    assert total == pytest.approx(sum(step / (number + 1) for step in range(4000) for number in range(5)))


@pytest.fixture
def gate(up: TrackingServer) -> Iterator[Gate]:
    made = Gate(up.port)
    yield made
    made.close()


@pytest.mark.parametrize("mode", ["500", *(pytest.param(mode, marks=pytest.mark.long) for mode in ("403", "hang"))])
def test_a_bad_server_ends_no_training_and_costs_no_word(
    mode: str, gate: Gate, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(waiting, "END_PATIENCE_S", 3.0)
    monkeypatch.setattr(writing, "AGENT_LOOK_S", 0.0)
    with started(gate.uri) as run:
        until(lambda: sent(run).run_id)
        gate.mode = mode
        expected = say(run, 0, 50)
        until(lambda: gate.refused)
        expected += say(run, 50, 60)
        until(lambda: sent(run).trouble)
        expected += say(run, 60, 61)
    said = capsys.readouterr().err
    assert said.count("its journal keeps everything") == 1
    assert "records are still to be sent" in said
    gate.mode = "open"
    tracking.sync(gate.uri)
    assert histories(gate.uri, run.id, "train/loss") == sorted(expected)
    assert tracking.get_run(run.id, gate.uri)["status"] == "FINISHED"


def test_a_file_that_the_server_does_not_take_holds_back_nothing_and_is_sent_later(
    gate: Gate, capsys: pytest.CaptureFixture[str]
) -> None:
    gate.mode = "no files"
    with started(gate.uri) as run:
        run.text("large", "large.txt")
        expected = say(run, 0, 50)
    row = tracking.get_run(run.id, gate.uri)
    assert row["status"] == "FINISHED"
    assert histories(gate.uri, run.id, "train/loss") == sorted(expected)
    said = capsys.readouterr().err
    assert "records are still to be sent (file provenance/" in said
    assert "413" in said
    gate.mode = "open"
    tracking.sync(gate.uri)
    with tracking.fetched(run.id, "large.txt", gate.uri) as path:
        assert path.read_text() == "large"
    assert sent(run).aside == {}


def test_a_run_begins_while_the_server_is_away(
    up: TrackingServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(waiting, "END_PATIENCE_S", 1.0)
    up.kill()
    inputs.check_store(up.uri, "generators")
    with started(up.uri) as run:
        expected = say(run, 0, 50)
    assert "records are still to be sent" in capsys.readouterr().err
    up.start()
    tracking.sync()
    assert histories(up.uri, run.id, "train/loss") == sorted(expected)
    assert tracking.get_run(run.id, up.uri)["status"] == "FINISHED"


def test_a_run_that_is_made_after_its_asker_gave_up_is_no_second_one(gate: Gate) -> None:
    """As a killed agent's: the server goes on with its request, and another has asked again."""
    gate.mode = "late"
    with started(gate.uri) as run:
        expected = say(run, 0, 50)
        until(lambda: sent(run).run_id)
        gate.release()
        until(lambda: len(tracking.read_runs(f"tags.journal = '{run.folder.name}'", tracking_uri=gate.uri)) == 2)
    (row,) = tracking.read_runs(f"tags.journal = '{run.folder.name}'", tracking_uri=gate.uri).to_dict("records")
    assert (row["run_id"], row["status"]) == (run.id, "FINISHED")
    assert histories(gate.uri, run.id, "train/loss") == expected


def test_a_store_that_refuses_everything_is_named_before_any_work(gate: Gate) -> None:
    gate.mode = "403"
    with pytest.raises(InputError, match="does not allow it") as refused:
        inputs.check_store(gate.uri.replace("://", "://user:s3cret-pw@"), "generators")
    assert "s3cret-pw" not in str(refused.value)
    assert "\n" not in str(refused.value)


FULL = """
import resource, sys
from harness import tracking
with tracking.run("generators", "long", tags={}, params={}, tracking_uri=sys.argv[1]) as run:
    print(run.folder.name, flush=True)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
    for step in range(100_000):
        run.metrics({"train/loss": step / 7}, step, 1_700_000_000_000 + step)
"""


def test_a_full_disk_ends_the_run_with_its_reason_and_all_it_said(up: TrackingServer, tmp_path: Path) -> None:
    full = subprocess.run(
        [sys.executable, "-c", FULL, up.uri], cwd=tmp_path, env=environment(), capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert full.returncode == 1
    run_id = full.stdout.strip()
    until(lambda: tracking.get_run(run_id, up.uri)["status"] == "FAILED")
    row = tracking.get_run(run_id, up.uri)
    assert "cannot be written: File too large; free some space" in row["tags.reason"]
    assert full.stderr.count("free some space") == 1
    records = [record for record, _ in journal.read(tmp_path / "outputs" / "runs" / run_id / "journal")]
    said = [record for record in records if "train/loss" in record.get("metrics", {})]
    assert len(said) > 100
    assert [m[1] for m in histories(up.uri, row["run_id"], "train/loss")] == list(range(len(said)))


def test_no_secret_is_stored_or_said(
    up: TrackingServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    password, token = f"p4ss/word@{uuid.uuid4()}:", f"tok-{uuid.uuid4()}"  # nowhere in the source, whose diff is stored
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", password)
    monkeypatch.setenv("HF_TOKEN", token)
    monkeypatch.setattr(waiting, "END_PATIENCE_S", 1.0)
    address = up.uri.replace("://", f"://someone:{quote(password, safe='')}@")
    monkeypatch.setattr(sys, "argv", ["ddpm.py", "--tracking-uri", address])

    def fail() -> None:
        said = {"address": address, "token": f"it is {token}."}
        with tracking.run("generators", token, tags=said, params=said, tracking_uri=address) as run:
            ids.append(run.id)
            run.params({"long": token * 1000})
            run.text(f"- old {token}\n+ new {password}", "provenance/uncommitted.diff")
            run.describe(f"see {address}")
            until(lambda: local.is_sent(run.folder))
            up.kill()
            raise ValueError(f"no answer from {address}")

    ids: list[str] = []
    with pytest.raises(ValueError, match="no answer"):
        fail()
    up.start()
    tracking.sync(address)
    row = tracking.get_run(ids[0], address)
    assert row["params.address"] == up.uri.replace("://", "://***@")
    assert row["tags.token"] == "it is ***."
    assert row["tags.reason"] == f"ValueError: no answer from {row['params.address']}"
    places = [*tmp_path.rglob("*"), *up.folder.rglob("*")]
    assert len([p for p in places if p.is_file()]) > 5
    for text in (password, quote(password, safe=""), token):
        assert not [p for p in places if p.is_file() and text.encode() in p.read_bytes()]
        assert text not in "".join(capfd.readouterr())


def test_an_experiment_is_made_for_trainings_and_says_what_it_holds(server: TrackingServer) -> None:
    store = tracking.client(server.uri)
    made = [experiments.find_or_make(name, store) for name in ("studies", "of my own")]
    assert [each.tags["mlflow.experimentKind"] for each in made] == ["custom_model_development"] * 2
    assert "its trials are under it" in made[0].tags["mlflow.note.content"]
    assert experiments.find_or_make("studies", store).experiment_id == made[0].experiment_id
