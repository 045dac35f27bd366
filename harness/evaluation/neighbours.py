"""Sets of points beside one another, by their nearest neighbours: fidelity, diversity, copies. No n x m matrix is held.

Points are float [n, d], such as features or pixels; distances are Euclidean. Those to all others are computed fast, as
|x|² + |y|² - 2xy, whose rounding differs from processor to processor: where something is decided by comparing them
they are in double precision, or only name candidates.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

CHUNK = 1000
CANDIDATES = 8
"""By fast distances, of which the exact one decides."""
MANIFOLD_K = 3
"""Neighbour whose distance is a ball's radius, as in Kynkäänniemi et al. 2019."""
DENSITY_K = 5
"""The same in Naeem et al. 2020."""


@dataclass(frozen=True)
class Likeness:
    """How a set lies beside a real one. All are 0 … 1 but density, which may pass 1."""

    precision: float
    """share of the set in a ball of the real ones: what fidelity it has"""
    recall: float
    """share of the real ones in a ball of the set: how much of the variety it has"""
    density: float
    """mean number of real balls that hold a point of the set, over k"""
    coverage: float
    """share of the real balls that hold a point of the set"""


def likeness(points: Tensor, real: Tensor) -> Likeness:
    """Precision and recall (Kynkäänniemi et al. 2019, arXiv:1904.06991, eq. 1 and 2, k = 3), density and coverage
    (Naeem et al. 2020, arXiv:2002.09797, eq. 4 and 5, k = 5) of a set beside a real one, float [n, d] and [m, d].

    A point's ball reaches to its k-th neighbour in its own set, and holds what lies on its edge.
    """
    points, real = points.double(), real.double()
    near, wide = radii(real, (MANIFOLD_K, DENSITY_K))
    own = radii(points, (MANIFOLD_K,))[0]
    in_real, in_wide = 0, 0
    recalled, covered = (torch.zeros(len(real), dtype=torch.bool, device=real.device) for _ in range(2))
    for rows, distance in _distances(points, real):
        in_real += int((distance <= near).any(1).sum())
        held = distance <= wide
        in_wide += int(held.sum())
        covered |= held.any(0)
        recalled |= (distance <= own[rows, None]).any(0)
    return Likeness(
        precision=in_real / len(points),
        recall=float(recalled.float().mean()),
        density=in_wide / (DENSITY_K * len(points)),
        coverage=float(covered.float().mean()),
    )


def radii(points: Tensor, ks: tuple[int, ...]) -> list[Tensor]:
    """The distance of each point to its k-th neighbour in the set, float [n], for each k; itself not counted."""
    found = []
    for rows, distance in _distances(points, points):
        place = torch.arange(len(distance), device=distance.device)
        distance[place, place + rows.start] = torch.inf
        found.append(distance.topk(min(max(ks), len(points) - 1), largest=False).values)
    nearest = torch.cat(found)
    return [nearest[:, min(k, nearest.shape[1]) - 1] for k in ks]


def nearest(points: Tensor, among: Tensor) -> tuple[Tensor, Tensor]:
    """The distance (float [n]) of each point to the nearest `among` others, and which that is (int64 [n]).

    Of equally near ones the first.
    """
    found, places = [], []
    for rows, distance in _distances(points, among):
        candidates = distance.topk(min(CANDIDATES, len(among)), largest=False).indices.sort(1).values
        exact = (points[rows, None] - among[candidates]).norm(dim=2)
        nearest, place = exact.min(1)
        found.append(nearest)
        places.append(candidates.gather(1, place[:, None]).squeeze(1))
    return torch.cat(found), torch.cat(places)


def _distances(points: Tensor, others: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Stretches of points with their distances to all others, [at most CHUNK, m]."""
    for start in range(0, len(points), CHUNK):
        rows = slice(start, min(start + CHUNK, len(points)))
        yield rows, torch.cdist(points[rows], others, compute_mode="use_mm_for_euclid_dist")


def diversity(points: Tensor, labels: Tensor, real: Tensor, real_labels: Tensor) -> Tensor:
    """The spread of each class beside that of the real one, float [classes]: 1 is as varied, 0 one image only.

    The root of the ratio of the total variances (traces of the covariances). NaN for a class with less than two; 1 for
    one whose real points are all equal.
    """
    spreads = [
        torch.stack([_total_variance(values[of == label]) for label in real_labels.unique()])
        for values, of in ((points, labels), (real, real_labels))
    ]
    return (spreads[0] / spreads[1]).where(spreads[1] != 0, 1.0).sqrt()


def _total_variance(points: Tensor) -> Tensor:
    return points.double().var(0).sum() if len(points) > 1 else torch.tensor(torch.nan, dtype=torch.float64)
