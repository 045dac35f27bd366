"""A journal gives back what was written, whatever happened to the process or the file."""

import math
from pathlib import Path

import pytest

from harness.tracking import journal
from harness.tracking.journal import Journal


def records(path: Path) -> list[dict]:
    return [record for record, _ in journal.read(path)]


def test_values_come_back_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "run" / "journal"
    written = Journal(path)
    written.append(metrics={"train/größe": 0.1 + 0.2, "inf": -math.inf}, step=2**40)
    written.append(text="line\nbreak", none=None)
    assert records(path) == [
        {"metrics": {"train/größe": 0.1 + 0.2, "inf": -math.inf}, "step": 2**40},
        {"text": "line\nbreak", "none": None},
    ]
    written.append(metrics={"nan": math.nan})
    assert math.isnan(records(path)[2]["metrics"]["nan"])


def test_reading_goes_on_from_a_position(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    written = Journal(path)
    for step in range(3):
        written.append(step=step)
    positions = [position for _, position in journal.read(path)]
    assert positions[-1] == written.position == path.stat().st_size
    assert [record for record, _ in journal.read(path, positions[0])] == [{"step": 1}, {"step": 2}]


@pytest.mark.parametrize("torn", [1, 9, 15])
def test_a_torn_last_line_is_dropped_and_what_follows_is_whole(tmp_path: Path, torn: int) -> None:
    path = tmp_path / "journal"
    first = Journal(path)
    first.append(step=0)
    first.close()
    whole = path.read_bytes()
    path.write_bytes(whole + journal.encode({"step": 1})[:torn])
    assert records(path) == [{"step": 0}]
    Journal(path).append(step=2)
    assert records(path) == [{"step": 0}, {"step": 2}]


def test_damage_anywhere_costs_the_line_it_is_in_and_is_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "journal"
    written = Journal(path)
    for step in range(3):
        written.append(step=step)
    written.close()
    content, length = path.read_bytes(), len(journal.encode({"step": 0}))
    for place in range(2 * length):  # the last line's end is what tells a torn one
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        damaged = place // length
        assert records(path) == [{"step": step} for step in range(3) if step != damaged]
        assert "damaged and was skipped" in capsys.readouterr().err
