"""Precision, recall, density and coverage against their definitions by brute force; what copies and collapse do."""

import numpy as np
import pytest
import torch
from torch import Tensor

from harness.evaluation import neighbours
from harness.evaluation.neighbours import likeness


def points(number: int, seed: int, dims: int = 4, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(number, dims, generator=torch.Generator().manual_seed(seed))


def by_definition(fake: Tensor, real: Tensor) -> tuple[float, float, float, float]:
    """Kynkäänniemi et al. 2019, eq. 1 and 2; Naeem et al. 2020, eq. 4 and 5: pair by pair, in float64."""
    fakes, reals = fake.double().numpy(), real.double().numpy()

    def radius(point: np.ndarray, among: np.ndarray, k: int) -> float:
        return sorted(float(np.linalg.norm(point - other)) for other in among)[k]  # the 0th is the point itself

    def held(point: np.ndarray, centres: np.ndarray, k: int) -> list[bool]:
        return [bool(np.linalg.norm(point - centre) <= radius(centre, centres, k)) for centre in centres]

    wide = np.array([held(point, reals, 5) for point in fakes])
    return (
        np.mean([any(held(point, reals, 3)) for point in fakes]),
        np.mean([any(held(point, fakes, 3)) for point in reals]),
        wide.sum() / (5 * len(fakes)),
        wide.any(0).mean(),
    )


@pytest.mark.parametrize(("number", "scale"), [(40, 1.0), (25, 0.4), (55, 1.8)])
def test_likeness_is_what_the_papers_define(number: int, scale: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """In stretches that divide neither set."""
    monkeypatch.setattr(neighbours, "CHUNK", 7)
    fake, real = points(number, 1, scale=scale), points(40, 2)
    found = likeness(fake, real)
    expected = by_definition(fake, real)
    assert (found.precision, found.recall, found.density, found.coverage) == pytest.approx(expected)


def test_a_set_beside_itself_is_perfect() -> None:
    real = points(60, 3)
    found = likeness(real, real)
    assert (found.precision, found.recall, found.coverage) == (1, 1, 1)
    assert found.density == pytest.approx((5 + 1) / 5, abs=0.2)  # each point lies in its own ball as well


def test_a_collapsed_set_keeps_its_precision_and_loses_recall_coverage_and_diversity() -> None:
    real, fresh = points(400, 4), points(400, 5)
    collapsed = real[:1] + points(400, 6, scale=0.01)
    labels = torch.zeros(400, dtype=torch.int64)
    good, bad = likeness(fresh, real), likeness(collapsed, real)
    assert bad.precision == 1 > good.precision
    assert good.recall > 0.5 > 0.05 > bad.recall
    assert good.coverage > 0.5 > 0.05 > bad.coverage
    assert float(neighbours.diversity(fresh, labels, real, labels)) == pytest.approx(1, abs=0.1)
    assert float(neighbours.diversity(collapsed, labels, real, labels)) == pytest.approx(0.01, rel=0.2)


def test_diversity_is_that_within_a_class() -> None:
    """Two classes far apart, one of them with a tenth of the spread: total variances by numpy."""
    labels = torch.tensor([0, 1]).repeat(50)
    real = points(100, 7) + 100 * labels[:, None]
    fake = torch.where(labels[:, None] == 1, 0.1, 1.0) * points(100, 8) + 100 * labels[:, None]
    found = neighbours.diversity(fake, labels, real, labels)
    for label in (0, 1):
        ours, theirs = (np.trace(np.cov(values[labels == label].double().numpy().T)) for values in (fake, real))
        assert float(found[label]) == pytest.approx(np.sqrt(ours / theirs))


def test_the_nearest_neighbour_of_a_copy_is_at_no_distance() -> None:
    among = points(50, 9) + 1000  # where the fast squared distances are wrong by 0.1
    distance, which = neighbours.nearest(among[[31, 4]], among)
    assert which.tolist() == [31, 4]
    assert distance.tolist() == [0, 0]
