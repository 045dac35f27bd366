"""A trained generator outside its run: safetensors and JSON in a folder, nothing that is executed when read."""

import dataclasses
import json
import reprlib
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from harness import methods, sampling
from harness.errors import InputError
from harness.evaluation import save_weights
from harness.methods import ImageShape


def export(folder: Path, method: str, model: Any, shape: ImageShape) -> None:
    """Write a trained generator: its weights, configuration and image shape."""
    folder.mkdir(parents=True, exist_ok=True)
    save_weights(model, folder / "weights.safetensors")
    described = {
        "method": method,
        "config": dataclasses.asdict(model.config),
        "shape": dataclasses.asdict(shape),
    }
    (folder / "generator.json").write_text(json.dumps(described, indent=2))


def restore(folder: Path) -> Any:
    """A generator from the folder that `export` wrote, on the CPU."""
    described = json.loads((folder / "generator.json").read_text())
    method = methods.find(described["method"])
    model = method(method.Config(**described["config"]), ImageShape(**described["shape"]))
    model.load_state_dict(load_file(folder / "weights.safetensors"))
    return model.eval()


def generate(model: Any, labels: list[int], seed: int) -> Tensor:
    """uint8 [n, C, H, W] for labels; the same seed and labels give the same images."""
    num_classes = model.shape.num_classes
    wrong = sorted({label for label in labels if not 0 <= label < num_classes})
    if wrong or not labels:
        raise InputError(
            f"labels must be one or more of 0 … {num_classes - 1}, not {reprlib.repr(wrong)[1:-1] or 'none'}"
        )
    device = next(model.parameters()).device
    return sampling.draw(model, torch.tensor(labels), seed, device).images
