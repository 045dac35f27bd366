"""The judge of a data set: a classifier of all its training images, which tells what samples show and how they lie."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from harness import numerics
from harness.data.datasets import Dataset
from harness.data.images import Images, to_float
from harness.evaluation import classifier
from harness.evaluation.classifier import Classifier
from harness.training.loop import train, with_progress_bar

if TYPE_CHECKING:
    from accelerate import Accelerator

JUDGE_SEED = 0
STEPS, FEWEST_STEPS, PASSES = 1600, 300, 100
"""In colour, where a step takes long: of few images a judge has learned all it can after so many passes."""


def save_weights(model: nn.Module, path: Path) -> None:
    """Write a network's weights as safetensors, which takes contiguous tensors alone."""
    save_file({name: weight.contiguous() for name, weight in model.state_dict().items()}, path)


def weights_digest(model: nn.Module) -> str:
    """SHA-256 over the names and values of a network's weights, hexadecimal."""
    digest = hashlib.sha256()
    for name, weight in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(weight.cpu().contiguous().numpy().data)
    return digest.hexdigest()


def judge_config(dataset: Dataset, steps: int | None = None, width: int | None = None) -> classifier.Config:
    """The judge's size and training, by the images' colours where they are not asked for.

    In colour a wider one than usual is deeper too, and learns as much longer as it is wider.
    """
    if dataset.train.shape[0] == 1:
        return classifier.with_size(classifier.Config(steps=steps or 1400, width=width), dataset.image_shape)
    more = {"augment": True, "label_smoothing": 0.2, "batch_norm": True}
    config = classifier.with_size(classifier.Config(width=width, **more), dataset.image_shape)
    larger = max(1.0, (config.width or 0) / classifier.COLOUR_WIDTH)
    few = math.ceil(PASSES * len(dataset.train) / config.batch_size)
    steps = steps or min(round(STEPS * larger), max(FEWEST_STEPS, few))
    return dataclasses.replace(config, steps=steps, depth=2 if larger > 1 else 1)


def judge_key(dataset: Dataset, config: classifier.Config) -> str:
    """What a judge is of, 16 hexadecimal digits: equal ones may judge for one another."""
    moves = "".join(dataset.unusual_moves.values()) if config.augment else ""
    parts = f"{dataset.train.digest}{config}{numerics.VERSION}{moves}"
    return hashlib.sha256(parts.encode()).hexdigest()[:16]


def train_judge(dataset: Dataset, config: classifier.Config, seed: int = JUDGE_SEED) -> Classifier:
    """The judge of a data set: a classifier trained on all training images; it never sees the test split.

    By this process alone, so that its weights do not depend on how many there are.
    """
    model = classifier.build_classifier(config, dataset.image_shape, seed)
    model.prepare(None)
    batches = classifier.batches_of(config, dataset.train, None, seed, moves=dataset.moves)
    for _ in with_progress_bar(train(model, batches, config.steps), "judge", config.steps, batches.size):
        pass
    return model.eval()


def restore_judge(dataset: Dataset, weights: Mapping[str, Tensor], config: classifier.Config) -> Classifier:
    """The judge of a data set from its weights, ready to predict."""
    model = classifier.build_classifier(config, dataset.image_shape, JUDGE_SEED)
    model.load_state_dict(weights)
    return model.eval()


def conditional_accuracy(
    judge: Classifier, samples: Images, num_classes: int, accelerator: Accelerator
) -> dict[str, float]:
    """GAN-test (Shmelkov et al. 2018, arXiv:1807.09499): share (0 … 1) that the judge sees as it was asked for.

    Overall; of the images asked for as a class, which is the class's recall; of those seen as a class, its precision;
    where there are any.
    """
    seen = classifier.predict(judge, samples.images, accelerator)
    agrees = (seen == samples.labels).float()
    scores = {"samples/conditional_accuracy": float(agrees.mean())}
    for label in range(num_classes):
        if (samples.labels == label).any():  # a filter may have left none
            scores[f"samples/conditional_accuracy_class_{label}"] = float(agrees[samples.labels == label].mean())
        if (seen == label).any():
            scores[f"samples/conditional_precision_class_{label}"] = float(agrees[seen == label].mean())
    return scores


@torch.inference_mode()
def features(judge: Classifier, images: Tensor, chunk: int = 2000) -> Tensor:
    """The judge's last hidden layer of uint8 images, float [n, hidden]."""
    device = next(judge.parameters()).device
    return torch.cat([judge.features(to_float(part.to(device))).float() for part in images.split(chunk)])
