"""Workers that are killed and a database that is restarted, under a real study: CI's share of `make soak`."""

import tempfile
from pathlib import Path

from servers import installed
from study_soak import workers_case

from harness import postgres


def test_every_trial_ends_once_whatever_happens_to_workers_and_database() -> None:
    installed(postgres.binaries)
    with tempfile.TemporaryDirectory(prefix="study-") as folder:
        workers_case(Path(folder), trials=8, kills=1, restarts=1, seed=0)
