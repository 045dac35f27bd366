"""How good a sample set is: what the judge says of it, and what a classifier learns from it alone."""

import hashlib
import os
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance

from harness import classifier
from harness.classifier import Classifier
from harness.data import Dataset, Images, to_float
from harness.methods import ImageShape
from harness.training import Batches, shown, train

JUDGE = classifier.Config(steps=1400)
JUDGE_SEED = 0


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


def image_shape(dataset: Dataset) -> ImageShape:
    return ImageShape(*dataset.train.shape, dataset.num_classes)


def judge(dataset: Dataset, folder: Path, accelerator: Accelerator) -> tuple[Classifier, str]:
    """The judge of a data set and its weights' digest: a classifier trained on all training images.

    It is trained once, by one process alone so that its weights do not depend on how many there are, and
    kept in `folder`. It never sees the test split.
    """
    found: list[Any] = [_judge_weights(dataset, folder) if accelerator.is_main_process else None]
    if accelerator.num_processes > 1:
        broadcast_object_list(found)
    model = classifier.build(JUDGE, image_shape(dataset), JUDGE_SEED)
    model.load_state_dict(found[0])
    return model.to(accelerator.device).eval(), weights_digest(model)


def _judge_weights(dataset: Dataset, folder: Path) -> dict[str, Tensor]:
    key = hashlib.sha256(f"{dataset.train.digest}{JUDGE}".encode()).hexdigest()[:16]
    path = folder / f"{dataset.name}-{key}.safetensors"
    if not path.exists():
        model = classifier.build(JUDGE, image_shape(dataset), JUDGE_SEED)
        model.prepare(None)
        batches = Batches((dataset.train, JUDGE.batch_size), seed=JUDGE_SEED)
        for _ in shown(train(model, batches, JUDGE.steps), "judge", JUDGE.steps, batches.size):
            pass
        folder.mkdir(parents=True, exist_ok=True)
        aside = path.with_suffix(f".{os.getpid()}")  # another run may be training it as well
        save_weights(model, aside)
        aside.replace(path)
    return load_file(path)


def conditional_accuracy(
    judge: Classifier, samples: Images, num_classes: int, accelerator: Accelerator
) -> dict[str, float]:
    """Share (0 … 1) of a set in which the judge sees the label that was asked for: overall and per class."""
    agrees = (classifier.predict(judge, samples.images, accelerator) == samples.labels).float()
    per_class = {
        f"samples/conditional_accuracy_class_{label}": float(agrees[samples.labels == label].mean())
        for label in range(num_classes)
    }
    return {"samples/conditional_accuracy": float(agrees.mean()), **per_class}


def classification_accuracy_score(
    samples: Images, dataset: Dataset, config: classifier.Config, seed: int, accelerator: Accelerator
) -> dict[str, float]:
    """CAS (Ravuri & Vinyals 2019, arXiv:1905.10887): accuracy on real images of a classifier that saw only samples.

    `samples/cas` is on the test split, `validation/cas` on the validation split, each where there is one.
    """
    model = classifier.build(config, image_shape(dataset), seed)
    model.prepare(accelerator)
    batches = Batches((samples, config.batch_size), seed=seed, accelerator=accelerator)
    training = train(model, batches, config.steps)
    for _ in shown(training, "CAS", config.steps, batches.size, accelerator.is_main_process):
        pass
    model.eval()
    splits = {"samples/cas": dataset.test, "validation/cas": dataset.validation}
    return {name: accuracy(model, images, accelerator) for name, images in splits.items() if len(images)}


def frechet_distance(judge: Classifier, samples: Images, real: Images, chunk: int = 2000) -> float:
    """FID (Heusel et al. 2017, arXiv:1706.08500, eq. 6) of two sets in the judge's features, at least 0.

    It falls with the number of images, so only distances of equally large sets may be compared.
    """
    distance = FrechetInceptionDistance(_Features(judge)).to(next(judge.parameters()).device)
    for images, is_real in ((real, True), (samples, False)):
        for part in images.images.split(chunk):
            distance.update(part.to(distance.device), real=is_real)
    return float(distance.compute())


class _Features(nn.Module):
    """The judge's last hidden layer, as torchmetrics asks for features: uint8 [n, C, H, W] -> [n, num_features]."""

    def __init__(self, judge: Classifier) -> None:
        super().__init__()
        self.judge, self.num_features = judge, judge.config.hidden

    @torch.inference_mode()
    def forward(self, images: Tensor) -> Tensor:
        return self.judge.features(to_float(images))


def accuracy(model: Classifier, images: Images, accelerator: Accelerator) -> float:
    return float((classifier.predict(model, images.images, accelerator) == images.labels.cpu()).float().mean())
