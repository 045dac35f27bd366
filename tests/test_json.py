"""--json: one object on stdout, with the numbers of the CSV files to their last digit, and the runs behind each row."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import known_cells
import pandas as pd
import processes
import pytest
from mlflow import MlflowClient
from processes import ROOT
from test_accuracy_table import stored_comparison
from test_agent import SAYS, WITHOUT_MLFLOW, said
from test_report import full_cells
from test_stores import local_user
from test_studies_analysis import all_ends, confirmed

from analysis import low_data, runs
from harness import cli, tracking
from harness.errors import InputError

LISTED = {path.stem for path in (ROOT / "analysis").glob("[a-z]*.py") if "cli.main(main)" in path.read_text()}
OF_ROWS = {
    "controls": known_cells.known_cells,
    "on_top": known_cells.both_settings,
    "claims": full_cells,
    "cost_vs_gain": known_cells.known_cells,
    "equivalence": known_cells.known_cells,
    "low_data": known_cells.known_cells,
    "per_digit": known_cells.measured_cells,
    "quality_vs_gain": known_cells.measured_cells,
    "report": known_cells.measured_cells,
    "significance": known_cells.known_cells,
    "sweeps": known_cells.known_cells,
    "tasks": known_cells.both_settings,
    "long_tail": lambda: known_cells.measured_cells().assign(recall_rare=lambda cells: cells["recall"] - 0.1),
}
OF_STORES = {
    "accuracy_table": ["--comparison", "low-data"],
    "curves": ["test/cas", "--comparisons", "low-data"],
    "quality_over_cost": ["--comparisons", "low-data"],
    "records": ["--experiment", "generators"],
    "studies": ["--storage", "studies.db"],
}


@pytest.fixture(scope="module")
def comparison(files_store: Path) -> tuple[str, str]:
    """A store with a comparison; its URI and the comparison's run id."""
    return stored_comparison(files_store)


def refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")


def printed(folder: Path, *command: str, code: int = 0) -> dict[str, Any]:
    """The object that a command prints with --json; nothing else may stand on stdout."""
    done = processes.run(folder, *command, "--json")
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout, parse_constant=refuse)


WITHOUT_RUNS = ("importances", "confirmation_")
"""Tables of a whole study."""


def is_written(value: Any, text: str) -> bool:
    """Whether a value of the object is what a CSV file says; that has ten digits of a number, and inf as such."""
    if isinstance(value, float):
        return float(text) in (value, float(f"{value:.10g}"))
    return text == ("" if value is None else " ".join(value) if isinstance(value, list) else str(value))


def ids_in(row: dict[str, Any]) -> Iterator[str]:
    """The runs that a row names."""
    for name, value in row.items():
        if name.endswith("run_ids"):
            yield from value
        elif name == "run_id" and value is not None:
            yield value


def check(told: dict[str, Any], folder: Path, run_ids: set[str]) -> None:
    """That the tables are the CSV files', that all files are named, and that rows of figures name their runs."""
    files = [folder / name for name in told["files"]]
    assert {path.parent for path in files} == {files[0].parent}
    assert set(files) == set(files[0].parent.iterdir())
    for path in files:
        if path.suffix == ".csv":
            rows = told["tables"][path.stem]["rows"]
            stored = pd.read_csv(path, dtype=str, keep_default_na=False).to_dict("records")
            assert [set(row) for row in rows] == [set(row) for row in stored]
            assert not [
                (path.name, name, row[name], text)
                for row, texts in zip(rows, stored, strict=True)
                for name, text in texts.items()
                if not is_written(row[name], text)
            ]
            for row in () if path.stem.startswith(WITHOUT_RUNS) else rows:
                found = set(ids_in(row))
                assert found <= run_ids
                of_nothing = 0 in (row.get("num_seeds"), row.get("n")) or row.get("arm") == runs.BASELINE
                assert found or of_nothing or row.get("state") == "waiting", (path.name, row)


def test_every_analysis_that_is_listed_has_its_test() -> None:
    assert {*OF_ROWS, *OF_STORES} == LISTED


@pytest.mark.parametrize("name", OF_ROWS)
def test_an_analysis_of_rows_prints_what_its_files_say(name: str, tmp_path: Path) -> None:
    cells = OF_ROWS[name]()
    runs.add_rows(cells, tmp_path / "rows.csv")
    told = printed(tmp_path, f"analysis.{name}", "--rows", "rows.csv")
    check(told, tmp_path, set(cells["run_id"]))
    assert all(table["notes"] for of, table in told["tables"].items() if of != "runs")


@pytest.mark.parametrize("name", OF_STORES)
def test_an_analysis_of_a_store_prints_what_its_files_say(
    name: str, comparison: tuple[str, str], tmp_path: Path
) -> None:
    uri, _ = comparison
    all_ends("studies.db")
    confirmed([0.93, 0.95, 0.94], [0.92, 0.92, 0.92])
    told = printed(tmp_path, f"analysis.{name}", *OF_STORES[name], "--tracking-uri", uri)
    trials = {f"run{slot}" for slot in range(8)}
    check(told, tmp_path, {*tracking.read_runs(tracking_uri=uri)["run_id"], *trials})
    if name == "studies":
        (row,) = told["tables"]["confirmation"]["rows"]
        assert row["difference"] == pytest.approx(0.02)
        assert [seed["best"] for seed in told["tables"]["fresh_seeds"]["rows"]] == [0.93, 0.95, 0.94]
    if name == "curves":
        (row,) = told["tables"]["summary"]["rows"]
        assert row["run_ids"] == [told["tables"]["test_cas"]["rows"][0]["run_id"]]


def test_numbers_are_those_of_the_frame_and_rows_name_their_pairs(tmp_path: Path) -> None:
    runs.add_rows(known_cells.known_cells(), tmp_path / "rows.csv")
    rows = printed(tmp_path, "analysis.low_data", "--rows", "rows.csv")["tables"]["low_data_gains"]["rows"]
    frame = low_data.gains(runs.whole_arms(runs.read_rows(tmp_path / "rows.csv")))
    for row, expected in zip(rows, frame.to_dict("records"), strict=True):
        assert row["gain_high_points"] == (
            None if pd.isna(expected["gain_high_points"]) else expected["gain_high_points"]
        )
    (ddpm,) = [row for row in rows if (row["n_real"], row["method"]) == (10000, "ddpm")]
    assert ddpm["run_ids"] == [f"ddpm-whole-10000-{seed}" for seed in range(4)]
    assert ddpm["baseline_run_ids"] == [f"none-whole-10000-{seed}" for seed in range(4)]  # seed 4 has no pair


def test_a_process_of_its_own_reads_a_store_and_stdout_is_one_line(comparison: tuple[str, str], tmp_path: Path) -> None:
    uri, parent = comparison
    done = processes.run(tmp_path, "analysis.accuracy_table", "--json", "--tracking-uri", uri)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1
    assert done.stdout.isascii()
    rows = json.loads(done.stdout)["tables"]["accuracy_table"]["rows"]
    children = tracking.read_runs(
        f"tags.mlflow.parentRunId = '{parent}' and tags.kind = 'classifier'", tracking_uri=uri
    )
    finished = children.loc[children["status"] == "FINISHED", "run_id"]
    assert sorted(run for row in rows for run in row["run_ids"]) == sorted(finished)


def test_what_cannot_be_answered_leaves_stdout_empty(tmp_path: Path) -> None:
    done = processes.run(tmp_path, "analysis.low_data", "--rows", "none.csv", "--json")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)


def test_what_else_is_printed_goes_to_stderr_and_what_was_found_outlives_an_error(
    capsys: pytest.CaptureFixture[str],
) -> None:

    def fail() -> None:
        with cli.answer(True) as answer:
            print("on the way")
            answer["found"] = [Path("a"), None]
            raise InputError("no more")

    with pytest.raises(InputError):
        fail()
    assert capsys.readouterr() == ('{"found": ["a", null]}\n', "on the way\n")
    with cli.answer(False) as answer:
        print("in words")
        answer["found"] = 1
    assert capsys.readouterr() == ("in words\n", "")


# --- The tracking ----------------------------------------------------------------------------------------


def test_sync_says_what_was_left_then_sent_and_closed(store: str, tmp_path: Path) -> None:
    assert said(tmp_path, "killed", code=WITHOUT_MLFLOW + SAYS).returncode == -signal.SIGKILL
    (tmp_path / "file").touch()
    nowhere = f"sqlite:///{tmp_path}/file/mlflow.db"
    left = printed(tmp_path, "harness.tracking", "sync", "--tracking-uri", nowhere, code=2)
    (run,) = left["runs"]
    assert (left["sent"], left["closed"]) == (0, 0)
    assert left["left"] == run["left"] > 300
    assert nowhere in run["reasons"][0]
    done = printed(tmp_path, "harness.tracking", "sync", "--tracking-uri", store)
    row = tracking.read_runs(tracking_uri=store).iloc[0]
    assert row["status"] == "KILLED"
    assert done == {
        "sent": left["left"], "left": 0, "closed": 1, "other_stores": [],
        "runs": [{"run_id": row["run_id"], "sent": left["left"], "left": 0, "closed": True, "reasons": []}],
    }  # fmt: skip
    again = printed(tmp_path, "harness.tracking", "sync")
    assert again == {"sent": 0, "left": 0, "closed": 0, "other_stores": [], "runs": []}


def test_reap_says_which_runs_it_has_closed(store: str, tmp_path: Path) -> None:
    client = MlflowClient(store)
    tags = {"journal": "a" * 32, "heartbeat": "1700000000000", "mlflow.user": local_user()}
    run = client.create_run(
        client.create_experiment("generators"), 1_700_000_000_000, tags, "of a dead host"
    ).info.run_id
    assert printed(tmp_path, "harness.tracking", "reap", "--tracking-uri", store) == {
        "closed": 1,
        "runs": [{"run_id": run, "name": "of a dead host", "last_seen_utc": "2023-11-14T22:13:20"}],
    }
    assert client.get_run(run).info.status == "KILLED"
