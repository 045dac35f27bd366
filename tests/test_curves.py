"""Curves of metrics over trainings of different lengths."""

from pathlib import Path

import pandas as pd
import pytest

from analysis import curves


def test_trainings_of_different_lengths_are_averaged_by_their_shares() -> None:
    short = pd.DataFrame({"run_id": "a", "step": range(100), "value": [float(step // 2) for step in range(100)]})
    long = pd.DataFrame({"run_id": "b", "step": range(0, 1000, 2), "value": 7.0})
    found = curves.averaged(pd.concat([short, long]))
    assert list(found.columns) == ["run_id", "share", "value"]
    assert found[found["run_id"] == "a"]["value"].tolist() == [float(part) for part in range(50)]
    assert found[found["run_id"] == "b"]["share"].tolist() == pytest.approx([part / 50 for part in range(1, 51)])
    assert set(found[found["run_id"] == "b"]["value"]) == {7.0}


def test_the_summary_is_of_runs_not_of_steps() -> None:
    parts = pd.DataFrame(
        {"comparison": "gan", "run_id": ["a", "a", "b", "b"], "share": [0.02, 1.0, 0.02, 1.0], "value": [1.0, 4, 3, 8]}
    )
    (row,) = curves.summary(parts).to_dict("records")
    assert row == {
        "comparison": "gan", "n": 2, "first tenth": 2.0, "first tenth, sd": pytest.approx(2**0.5), "last tenth": 6.0,
        "last tenth, sd": pytest.approx(8**0.5), "run_ids": "a b",
    }  # fmt: skip


def test_names_that_look_like_numbers_are_read_as_text(tmp_path: Path) -> None:
    (tmp_path / "curves.csv").write_text("run_id,share,value,comparison\n72e1590,0.5,1.0,2026\n")
    found = curves.read(tmp_path / "curves.csv")
    assert found[["run_id", "comparison"]].to_numpy().tolist() == [["72e1590", "2026"]]
