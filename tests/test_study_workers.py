"""Studies whose processes and driver are killed while the tracking server is away: CI's share of `make soak`."""

from pathlib import Path

from study_soak import study_case


def test_every_trial_ends_once_whatever_happens_to_processes_driver_and_server(tmp_path: Path) -> None:
    study_case(tmp_path, number=6, kills=1, seed=0, workers=2)
