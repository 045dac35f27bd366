"""What a comparison's own run says while the comparison goes on."""

import re
from collections.abc import Sequence

import processes
import pytest

from analysis import answer
from harness import tracking
from harness.evaluation import classifier
from harness.studies import answering, comparison
from harness.studies.plans import ComparisonPlan, Hyperparameters
from harness.tracking import local


@pytest.mark.usefixtures("agent")
def test_a_comparison_that_goes_on_answers_at_every_tenth(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two n_real, the one whose cells are all there has figures, of which each stands once in its curve."""
    monkeypatch.setattr(answering, "ANSWER_S", 0)
    coming, gains, caveats = [], [], []

    def log(run: tracking.Run, parent: str, uri: str | None, to_come: Sequence[int]) -> None:
        answer.log(run, parent, uri, to_come)
        processes.until(lambda: local.is_sent(run.folder))
        coming.append(list(to_come))
        told = tracking.read_histories([parent], ["test/accuracy/none", "test/gain/affine"], uri)
        gains.append(sorted((row.key, row.step) for row in told.itertuples()))
        with tracking.fetched(parent, "answer.html", uri) as page:
            texts = tracking.get_run(parent, uri)["tags.mlflow.note.content"], page.read_text()
        caveats.append([{*re.findall("cells to come: ([0-9]+)", text)} for text in texts])

    plan = ComparisonPlan(
        methods=(), controls=("affine",), n_real=(50, 100), seeds=1, num_synthetic=50, tracking_uri=store
    )
    comparison.compare(plan, Hyperparameters(classifier=classifier.Config(steps=5)), log)
    assert coming == [[50, 100, 100], [100, 100], [100], []]
    assert caveats == [[{"3"}] * 2, [{"2"}] * 2, [{"1"}] * 2, [set()] * 2]
    at_50, at_100 = ([(name, n_real) for name in ("test/accuracy/none", "test/gain/affine")] for n_real in (50, 100))
    assert gains == [[], at_50, at_50, sorted(at_50 + at_100)]
