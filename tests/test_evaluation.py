"""Figures of sample sets against independent references."""

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from harness import classifier, data, evaluation
from harness.data import Images, to_float


def test_the_frechet_distance_is_that_of_two_gaussians() -> None:
    """Heusel et al. 2017, eq. 6, with the covariances' product's root by scipy."""
    digits = data.load("digits", n_real=400)
    judge = classifier.build(classifier.Config(hidden=12), evaluation.image_shape(digits), 0).eval()
    samples = Images(255 - digits.real.images[:300], digits.real.labels[:300])
    with torch.inference_mode():
        ours, theirs = (
            judge.features(to_float(images.images)).double().numpy() for images in (samples, digits.validation)
        )
    root = sqrtm(np.cov(ours.T) @ np.cov(theirs.T)).real
    shift = np.square(ours.mean(0) - theirs.mean(0)).sum()
    expected = shift + np.trace(np.cov(ours.T) + np.cov(theirs.T) - 2 * root)
    assert evaluation.frechet_distance(judge, samples, digits.validation) == pytest.approx(expected, rel=1e-4)
    assert evaluation.frechet_distance(judge, digits.validation, digits.validation) == pytest.approx(0, abs=1e-3)
