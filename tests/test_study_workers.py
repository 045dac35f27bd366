"""Studies whose processes and driver are killed while the tracking server is away."""

from pathlib import Path

import pytest
from study_soak import study_case


@pytest.mark.long
def test_every_trial_ends_once_whatever_happens_to_processes_driver_and_server(tmp_path: Path) -> None:
    study_case(tmp_path, number=6, kills=1, seed=0, workers=2)
