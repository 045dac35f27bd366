"""Runs are read as the store has them, whether they are kept on the disk or not; and a store that is away is named."""

import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from servers import TrackingServer

from harness import tracking
from harness.errors import InputError
from harness.tracking import cache, searching
from harness.tracking.stores import LATE

OLD = 1_700_000_000_000  # ms since the epoch


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrackingServer]:
    server = TrackingServer(tmp_path_factory.mktemp("server"))
    server.start()
    yield server
    server.kill()


@pytest.fixture
def server(made: TrackingServer) -> TrackingServer:
    """The server, which runs."""
    if not made.is_running:
        made.start()
    return made


@pytest.fixture
def database(made: TrackingServer) -> str:
    """The server's store without the server."""
    return f"sqlite:///{made.folder}/mlflow.db"


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short answers are kept too, and read in pages of two."""
    monkeypatch.setattr(cache, "WORTH_KEEPING", 1)
    monkeypatch.setattr(searching, "PAGE", 2)


class Runs:
    """An experiment of its own with finished runs of long ago, and what befalls them."""

    def __init__(self, uri: str, name: str) -> None:
        self.uri, self.name = uri, name
        self.store = MlflowClient(uri)
        self.experiment = self.store.create_experiment(name)
        self.ids = [self.finished(number) for number in range(5)]

    def started(self, number: int) -> str:
        run = self.store.create_run(self.experiment, OLD + number, {"number": str(number)}, f"run {number}")
        self.store.log_metric(run.info.run_id, "test/accuracy", number / 10)
        return run.info.run_id

    def finished(self, number: int) -> str:
        run_id = self.started(number)
        self.end(run_id, OLD + number + 1)
        return run_id

    def end(self, run_id: str, end_ms: int) -> None:
        self.store.set_terminated(run_id, "FINISHED", end_ms)

    def read(self, **more) -> pd.DataFrame:
        return tracking.read_runs(experiments=[self.name], tracking_uri=self.uri, **more)

    # --- What befalls them

    def new_run(self) -> None:
        self.store.create_run(self.experiment)

    def new_run_that_has_ended(self) -> None:
        self.end(self.started(7), now_ms())

    def resumed(self) -> None:
        self.store.update_run(self.ids[1], "RUNNING")
        self.store.log_metric(self.ids[1], "test/accuracy", 0.75, step=1)

    def resumed_and_ended(self) -> None:
        self.resumed()
        self.end(self.ids[1], now_ms())

    def late_records(self) -> None:
        self.store.log_metric(self.ids[1], "test/accuracy", 0.875, step=1)
        self.store.log_metric(self.ids[1], LATE, now_ms())

    def deleted(self) -> None:
        self.store.delete_run(self.ids[1])


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def agree(runs: Runs, is_whole: bool = False) -> pd.DataFrame:
    """The answer from the disk is the store's, and was not read whole: of the first run nothing is read again."""
    runs.store.set_tag(runs.ids[0], "aside", str(now_ms()))
    read, asked = runs.read(), runs.read(refresh=True)
    if is_whole:
        pd.testing.assert_frame_equal(read, asked)
    others = [frame[frame["run_id"] != runs.ids[0]].drop(columns="tags.aside", errors="ignore")
              for frame in (read, asked)]  # fmt: skip
    pd.testing.assert_frame_equal(*others)
    assert read["run_id"].tolist() == asked["run_id"].tolist()
    seen = [frame.get("tags.aside", pd.Series(index=frame.index))[frame["run_id"] == runs.ids[0]].tolist()
            for frame in (read, asked)]  # fmt: skip
    assert (seen[0] == seen[1]) == is_whole
    return read


# --- Runs


def test_columns_are_info_metrics_params_and_tags_with_nan_where_a_run_has_none(database: str) -> None:
    runs = Runs(database, "columns")
    runs.store.log_param(runs.ids[2], "steps", 3)
    runs.store.log_metric(runs.ids[3], "test/loss", float("nan"))
    found = runs.read()
    assert list(found) == [
        "run_id", "experiment", "status", "name", "start_time", "end_time", "parent_run_id", "metrics.test/accuracy",
        "metrics.test/loss", "params.steps", "tags.mlflow.runName", "tags.number",
    ]  # fmt: skip
    assert found["run_id"].tolist() == runs.ids[::-1]
    assert found["experiment"].unique().tolist() == ["columns"]
    assert found["metrics.test/accuracy"].tolist() == [0.4, 0.3, 0.2, 0.1, 0.0]
    assert found["start_time"].iloc[0] == pd.Timestamp(OLD + 4, unit="ms")
    assert found["end_time"].iloc[0] == pd.Timestamp(OLD + 5, unit="ms")
    assert found["params.steps"].isna().tolist() == [True, True, False, True, True]
    row = tracking.get_run(runs.ids[2], database)
    assert {key: row[key] for key in ("run_id", "params.steps", "tags.number", "metrics.test/accuracy")} == {
        "run_id": runs.ids[2], "params.steps": "3", "tags.number": "2", "metrics.test/accuracy": 0.2,
    }  # fmt: skip
    assert "metrics.test/loss" not in row


def test_only_the_columns_asked_for(database: str, kept: None) -> None:
    runs = Runs(database, "asked")
    for _ in range(2):  # from the store, from the disk
        found = runs.read(columns=["tags.number", "metrics.none/such", "metrics.test/accuracy"])
        assert list(found)[7:] == ["tags.number", "metrics.none/such", "metrics.test/accuracy"]
        assert found["tags.number"].tolist() == ["4", "3", "2", "1", "0"]
        assert found["metrics.none/such"].isna().all()
    assert list(tracking.read_runs(experiments=["none"], tracking_uri=database, columns=["tags.a"]))[7:] == ["tags.a"]
    with pytest.raises(InputError, match=r"no column 'accuracy': they are run_id, .*, metrics\.NAME, params\.NAME"):
        runs.read(columns=["accuracy"])


# --- Kept answers


@pytest.mark.parametrize(
    "change",
    [Runs.new_run, Runs.new_run_that_has_ended, Runs.resumed, Runs.resumed_and_ended, Runs.late_records, Runs.deleted],
)
def test_a_kept_answer_follows(change: Callable[[Runs], None], database: str, kept: None) -> None:
    runs = Runs(database, change.__name__)
    before = runs.read()
    change(runs)
    assert not agree(runs).equals(before)


def test_a_kept_answer_follows_a_run_to_its_end_however_long_ago_that_was(database: str, kept: None) -> None:
    runs = Runs(database, "to the end")
    going = runs.started(9)
    runs.read()
    runs.store.log_metric(going, "test/accuracy", 0.5, step=1)
    assert agree(runs).set_index("run_id").loc[going, "metrics.test/accuracy"] == 0.5
    runs.store.log_metric(going, "test/accuracy", 0.625, step=2)
    runs.end(going, OLD + 10)
    after = agree(runs).set_index("run_id").loc[going]
    assert (after["metrics.test/accuracy"], after["status"]) == (0.625, "FINISHED")


def test_a_run_that_is_restored_comes_back_as_it_is(database: str, kept: None) -> None:
    runs = Runs(database, "restored")
    runs.store.delete_run(runs.ids[3])
    assert len(runs.read()) == 4
    runs.store.restore_run(runs.ids[3])
    runs.store.set_tag(runs.ids[3], "number", "33")
    assert agree(runs)["tags.number"].tolist() == ["4", "33", "2", "1", "0"]


def test_what_comes_or_goes_unseen_has_all_read_again(database: str, kept: None) -> None:
    runs = Runs(database, "unseen")
    runs.read()
    runs.finished(6)  # with the times of long ago, as an import would
    assert len(agree(runs, is_whole=True)) == 6


def test_the_store_evaluates_the_filter_of_a_kept_answer(database: str, kept: None) -> None:
    runs = Runs(database, "filter")
    few = {"filter_string": "metrics.`test/accuracy` > 0.15 and attributes.status = 'FINISHED'"}
    assert runs.read(**few)["tags.number"].tolist() == ["4", "3", "2"]
    runs.resumed()
    assert runs.read(**few)["tags.number"].tolist() == ["4", "3", "2"]
    runs.end(runs.ids[1], now_ms())
    assert runs.read(**few)["tags.number"].tolist() == ["4", "3", "2", "1"]
    runs.store.update_run(runs.ids[3], "RUNNING")
    assert runs.read(**few)["tags.number"].tolist() == ["4", "2", "1"]


@pytest.mark.parametrize("damage", [lambda content: content[:-9], lambda _: b"", lambda content: content + b"\0"])
def test_a_torn_file_is_made_again(damage: Callable[[bytes], bytes], database: str, kept: None) -> None:
    name = f"torn {now_ms()}"
    runs = Runs(database, name)
    before = runs.read()
    (file,) = Path("outputs/cache").iterdir()
    file.write_bytes(damage(file.read_bytes()))
    pd.testing.assert_frame_equal(runs.read(), before)
    runs.new_run()
    agree(runs)


def test_short_answers_are_not_kept(database: str) -> None:
    Runs(database, "short").read()
    assert not Path("outputs/cache").exists()


def test_readers_and_writers_at_once(server: TrackingServer, kept: None) -> None:
    runs = Runs(server.uri, "at once")
    with ThreadPoolExecutor(4) as pool:
        frames = [pool.submit(runs.read) for _ in range(12)]
        for number in range(10, 16):
            runs.finished(number)
        for frame in frames:
            assert set(runs.ids) <= set(frame.result()["run_id"])
    agree(runs)
    assert [path.suffix for path in Path("outputs/cache").iterdir()] == [".json"]


def test_another_store_at_the_same_address_is_another(server: TrackingServer, kept: None) -> None:
    runs = Runs(server.uri, "replaced")
    runs.read()
    with sqlite3.connect(server.folder / "mlflow.db") as tables:  # as many runs in an experiment of the same id
        for table in ("runs", "metrics", "latest_metrics", "params", "tags"):
            tables.execute(
                f"update {table} set run_uuid = substr(run_uuid, 17) || substr(run_uuid, 1, 16) where run_uuid in "
                f"({', '.join('?' * len(runs.ids))})", runs.ids,
            )  # fmt: skip
    runs.ids = [run_id[16:] + run_id[:16] for run_id in runs.ids]
    assert runs.read()["run_id"].tolist() == runs.ids[::-1]


# --- Histories


def test_histories_are_long_and_whole(server: TrackingServer) -> None:
    runs = Runs(server.uri, "histories")
    first, second = runs.ids[:2]
    for step, value in ((0, 1.5), (1, float("nan")), (2, 0.5)):
        runs.store.log_metric(second, "train/loss", value, OLD + step, step)
    runs.store.log_metric(first, "train/loss", 0.0, OLD, 30_000)
    with sqlite3.connect(server.folder / "mlflow.db") as tables:  # 25,000 are a page
        rows = [("train/loss", step / 7, OLD + step, first, step, False) for step in range(30_000)]
        tables.executemany(
            "insert into metrics (key, value, timestamp, run_uuid, step, is_nan) values (?, ?, ?, ?, ?, ?)", rows
        )
    found = tracking.read_histories([second, first], ["train/loss", "none/such"], server.uri)
    assert list(found) == ["run_id", "key", "step", "time", "value"]
    assert found["key"].unique().tolist() == ["train/loss"]
    assert found["run_id"].tolist() == [second] * 3 + [first] * 30_001
    np.testing.assert_array_equal(found["value"][:3], [1.5, np.nan, 0.5])
    assert found["step"][3:].tolist() == list(range(30_001))
    assert found["time"].iloc[2] == pd.Timestamp(OLD + 2, unit="ms")
    every = tracking.read_histories([second], tracking_uri=server.uri)
    assert every.groupby("key").size().to_dict() == {"test/accuracy": 1, "train/loss": 3}
    assert list(tracking.read_histories([], tracking_uri=server.uri)) == list(found)
    with pytest.raises(InputError, match=r"no run 'abc' in http://127.0.0.1:\d+; the UI's run page shows"):
        tracking.read_histories([first, "abc"], tracking_uri=server.uri)


# --- Stores that do not answer


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")


class Refusing(BaseHTTPRequestHandler):
    """Answers every question with the status that its path begins with: http://HOST/401."""

    def do_POST(self) -> None:
        self.send_response(int(self.path.split("/")[1]))
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_POST

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def refusing() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as made:
        Thread(target=made.serve_forever, daemon=True).start()
        yield made.server_port
        made.shutdown()


@pytest.mark.parametrize(
    ("status", "message"),
    [(401, "wants a user: set MLFLOW_TRACKING_USERNAME and"), (403, "does not allow it"), (500, "does not answer")],
)
def test_a_store_that_refuses_is_named_without_credentials(
    refusing: int, impatient: None, status: int, message: str
) -> None:
    uri = f"http://somebody:secret@127.0.0.1:{refusing}/{status}"
    for read in (tracking.read_runs, tracking.read_histories, tracking.get_run):
        more = {"filter_string": ""} if read is tracking.read_runs else {}
        args = () if more else (["abc"],) if read is tracking.read_histories else ("abc",)
        with pytest.raises(InputError) as refused:
            read(*args, **more, tracking_uri=uri)
        assert f"the MLflow store http://127.0.0.1:{refusing}/{status} {message}" in str(refused.value)
        assert "\n" not in str(refused.value)
        assert "secret" not in str(refused.value)


def test_a_filter_that_the_store_does_not_understand_is_quoted(server: TrackingServer, database: str) -> None:
    for uri in (server.uri, database):
        with pytest.raises(InputError, match=r"refuses the question: .*colour"):
            tracking.read_runs("colour = 'blue'", tracking_uri=uri)


def test_a_file_that_is_no_store_is_refused(tmp_path: Path) -> None:
    (tmp_path / "some.db").write_bytes(b"not a database" * 1000)
    with pytest.raises(InputError, match=r"sqlite:///.*some\.db is no sqlite database; give another file"):
        tracking.read_runs(tracking_uri=f"sqlite:///{tmp_path}/some.db")


def test_a_server_that_is_gone_is_named_and_missed_artifacts_are_not_blamed_on_it(
    server: TrackingServer, impatient: None
) -> None:
    run_id = Runs(server.uri, "gone").ids[0]
    with (
        pytest.raises(InputError, match=f"run {run_id} has no artifact samples.npz"),
        tracking.fetched(run_id, "samples.npz", server.uri),
    ):
        pass
    server.kill()
    for read in (lambda: tracking.read_runs(tracking_uri=server.uri), lambda: tracking.get_run(run_id, server.uri)):
        with pytest.raises(InputError, match=f"the MLflow store {server.uri} does not answer: "):
            read()
    with (
        pytest.raises(InputError, match="does not answer: "),
        tracking.fetched(run_id, "samples.npz", server.uri),
    ):
        pass
