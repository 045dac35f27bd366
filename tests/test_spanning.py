"""Trials that span two real processes under `accelerate launch`."""

from pathlib import Path

import pytest
from processes import ROOT
from study_soak import spanning_case


@pytest.mark.long
def test_an_exception_on_one_rank_ends_both_and_the_study_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{Path(__file__).parent}")
    spanning_case(["exception", "alone"])
