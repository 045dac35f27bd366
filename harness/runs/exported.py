"""A trained generator outside its run: safetensors and JSON in a folder, nothing that is executed when read."""

import dataclasses
import json
import reprlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from harness import bounds, methods
from harness.bounds import ImageSize, Moves, Within
from harness.data.images import ImageShape
from harness.data.moves import usual_moves
from harness.errors import InputError
from harness.evaluation.judging import save_weights
from harness.training import sampling


@dataclasses.dataclass(frozen=True)
class Allowed:
    """The image shapes of which networks are made: a file that says more would take the memory of the machine."""

    channels: Annotated[int, Within(int, 1, most=4)]
    height: ImageSize
    width: ImageSize
    num_classes: Annotated[int, Within(int, 2, most=100_000)]
    moves: Moves = "rotate"


def export_generator(folder: Path, method: str, model: Any, shape: ImageShape, classes: Sequence[str]) -> None:
    """Write a trained generator: its weights, configuration, image shape and the names of its classes by label."""
    folder.mkdir(parents=True, exist_ok=True)
    save_weights(model, folder / "weights.safetensors")
    described = {
        "method": method,
        "config": dataclasses.asdict(model.config),
        "shape": dataclasses.asdict(shape),
        "classes": list(classes),
    }
    (folder / "generator.json").write_text(json.dumps(described, indent=2))


def restore_generator(folder: Path) -> Any:
    """A generator from the folder that `export` wrote, on the CPU; its `classes` are their names by label."""
    described = json.loads((folder / "generator.json").read_text())
    method = methods.find(described["method"])
    try:
        if "moves" not in described["shape"]:  # an earlier version's, whose moves were by the colours alone
            described["shape"]["moves"] = usual_moves(described["shape"]["channels"])
        config, shape = method.Config(**described["config"]), ImageShape(**described["shape"])
        bounds.check_fields(config, f"the {described['method']}'s ")
        bounds.check_fields(Allowed(**described["shape"]), "its image's ")
    except TypeError as error:
        raise InputError(f"{folder / 'generator.json'} is of another version of the harness: {error}") from error
    model = method(config, shape)
    model.load_state_dict(load_file(folder / "weights.safetensors"))
    model.classes = described["classes"]
    return model.eval()


def labels_of(model: Any, words: Sequence[str]) -> list[int]:
    """The labels of classes that are given by their names, or by numbers that no class has for a name.

    Raises InputError for what is neither.
    """
    labels, known = [], list(model.classes)
    for word in words:
        if word not in known and not (word.isdecimal() and int(word) < len(known)):
            names = ", ".join(known[:30]) + (", …" if len(known) > 30 else "")
            raise InputError(
                f"label {word} is no class of this generator, which draws {names}; or give 0 … {len(known) - 1}"
            )
        labels.append(known.index(word) if word in known else int(word))
    return labels


def draw_labels(model: Any, labels: list[int], seed: int) -> Tensor:
    """uint8 [n, C, H, W] for labels; the same seed and labels give the same images."""
    num_classes = model.shape.num_classes
    wrong = sorted({label for label in labels if not 0 <= label < num_classes})
    if wrong or not labels:
        raise InputError(
            f"labels must be one or more of 0 … {num_classes - 1}, not {reprlib.repr(wrong)[1:-1] or 'none'}"
        )
    device = next(model.parameters()).device
    return sampling.draw_images(model, torch.tensor(labels), seed, device).images
