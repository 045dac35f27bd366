"""What every process of a launch computes, for test_ranks.py: `accelerate launch tests/ranks.py FOLDER`.

Also imported by the test, which computes the same with one process.
"""

import dataclasses
import sys
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

sys.path.insert(0, str(Path(__file__).parent.parent))

from harness import methods
from harness.data import datasets
from harness.data.images import ImageShape
from harness.errors import InputError
from harness.evaluation import classifier, judging
from harness.runs import generators
from harness.training import launch, sampling
from harness.training.loop import Batch, Batches, train

STEPS, BATCH = 7, 24
VARIANTS: dict[str, dict[str, Any]] = {
    "ddpm": {"hidden_channels": 16, "num_steps": 50, "sampler_steps": 3},
    "ddpm conditioned": {"hidden_channels": 16, "num_steps": 50, "sampler_steps": 3, "augment": "conditioned"},
    "vae": {"augment": "moved"},
    "drifting": {"samples_per_image": 2},
    "gan": {"loss": "wgan-gp", "critic_steps": 2},
    "gan vanilla": {"loss": "vanilla", "critic_steps": 2, "augment": "diff"},
    "gan relativistic": {"loss": "relativistic", "critic_steps": 1},
    "gan wgan": {"loss": "wgan", "critic_steps": 2},
}


CLASSIFIERS = {
    "plain": classifier.Config(batch_size=BATCH, batch="replaced", synthetic_weight=0.3),
    "residual": classifier.Config(batch_size=BATCH, width=8, augment=True),
}


class Doubles(Batches):
    """Batches in float64."""

    def __getitem__(self, step: int) -> Batch:
        batch = super().__getitem__(step)
        return dataclasses.replace(batch, images=batch.images.double())


def trained(variant: str, dtype: torch.dtype, steps: int, accelerator: Accelerator, accumulate: int = 1) -> Any:
    torch.set_default_dtype(dtype)  # of the draws and the weights
    try:
        name = variant.split()[0]
        config = methods.find(name).Config(steps=STEPS, batch_size=BATCH, **VARIANTS[variant])
        model = generators.build_generator(name, config, ImageShape(1, 8, 8, 10), seed=0).to(dtype)
        model.prepare(accelerator)
        real = datasets.load("digits", n_real=200).real
        kind = Doubles if dtype == torch.float64 else Batches
        moved = config.augment == "moved"
        batches = kind((real, BATCH), seed=0, accelerator=accelerator, accumulate=accumulate, moved=moved)
        for _ in train(model, batches, steps):
            pass
        return model
    finally:
        torch.set_default_dtype(torch.float32)


def taught(config: classifier.Config, accelerator: Accelerator) -> dict[str, Any]:
    """The float32 gradients of a classifier's first step, and its weights after it."""
    model = classifier.build_classifier(config, ImageShape(1, 8, 8, 10), seed=0)
    model.prepare(accelerator)
    digits = datasets.load("digits", n_real=200)
    batches = classifier.batches_of(config, digits.real, digits.validation, 0, accelerator)
    for _ in train(model, batches, 1):
        pass
    gradients = {name: weight.grad for name, weight in model.named_parameters()}
    return {"gradients": gradients, "weights": model.state_dict()}


def refused(config: classifier.Config, accelerator: Accelerator) -> str:
    """Why a classifier cannot be trained so; nothing where it can."""
    try:
        classifier.build_classifier(config, ImageShape(1, 8, 8, 10), seed=0).prepare(accelerator)
    except InputError as error:
        return str(error)
    return ""


def results(accelerator: Accelerator, accumulate: int = 1) -> dict[str, Any]:
    """Per variant: float32 gradients of the first step, weights after STEPS, and the digest of samples; scores."""
    found = {}
    for variant in VARIANTS:
        begun = trained(variant, torch.float32, 1, accelerator, accumulate)
        single, double = (
            trained(variant, dtype, STEPS, accelerator, accumulate) for dtype in (torch.float32, torch.float64)
        )
        fresh = generators.build_generator(variant.split()[0], single.config, single.shape, seed=1).to(
            accelerator.device
        )
        samples, _ = sampling.draw_sample_set(fresh, 1300, 10, 0, accelerator)
        found[variant] = {
            "gradients": {name: weight.grad for name, weight in begun.named_parameters() if weight.grad is not None},
            "float32": single.state_dict(),
            "float64": double.state_dict(),
            "samples": samples.digest,
        }
    judge = classifier.build_classifier(classifier.Config(), ImageShape(1, 8, 8, 10), seed=0).eval()
    found |= {name: taught(config, accelerator) for name, config in CLASSIFIERS.items()}
    found["refused"] = refused(classifier.Config(width=8, batch_norm=True), accelerator)
    found["scores"] = judging.conditional_accuracy(judge, datasets.load("digits", n_real=1001).real, 10, accelerator)
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    here = launch.accelerator(30)
    torch.save(results(here, int(sys.argv[2])), Path(sys.argv[1]) / f"rank{here.process_index}.pt")
