"""A generator that MLflow serves: labels and a seed in, images out.

MLflow imports this module, which its models name as their loader; the models themselves hold weights and JSON alone.
"""

from __future__ import annotations

import json
import reprlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE

from harness.errors import InputError
from harness.runs import exported

if TYPE_CHECKING:
    import pandas as pd

MAX_IMAGES = 1000
"""Images in one request: a DDPM draws them in seconds, and MLflow's server gives a request one minute."""


class Refused(MlflowException):
    """A request that cannot be answered: status 400 and one sentence.

    MLflow's server puts the whole request before an exception's message; this one's answer leaves it out.
    """

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence, error_code=INVALID_PARAMETER_VALUE)
        self.sentence = sentence

    def serialize_as_json(self) -> str:
        return json.dumps({"error_code": self.error_code, "message": self.sentence})


class ServedGenerator:
    """`predict({"label": [7, 7, 3], "seed": 0})` -> uint8 [3, H, W, C]; the seed may be in `params` as well.

    A seed beside the labels comes before that in `params`. Raises Refused for what is no label, more than
    `MAX_IMAGES` labels, and more than one seed.
    """

    def __init__(self, folder: Path) -> None:
        self.model = exported.restore_generator(folder)

    def predict(self, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> np.ndarray:
        try:
            images = exported.draw_labels(self.model, _labels(model_input), _seed(model_input, params or {}))
        except InputError as error:
            raise Refused(str(error)) from error
        return images.permute(0, 2, 3, 1).numpy()


def _load_pyfunc(path: str) -> ServedGenerator:
    """What MLflow calls, by this name, with the folder of an exported generator."""
    return ServedGenerator(Path(path))


def _labels(request: pd.DataFrame) -> list[int]:
    """The column `label`: a label a row, or the list of them in one row, which MLflow makes of some requests."""
    cells = (cell if isinstance(cell, list | np.ndarray) else [cell] for cell in request["label"])
    labels = [label for cell in cells for label in cell]
    if len(labels) > MAX_IMAGES:
        raise InputError(f"a request may have {MAX_IMAGES:,} labels, not {len(labels):,}")
    return [_whole("label", label) for label in labels]


def _seed(request: pd.DataFrame, params: dict[str, Any]) -> int:
    if "seed" not in request:
        return int(params.get("seed", 0))
    seeds = sorted({_whole("seed", seed) for seed in request["seed"].dropna()})
    if len(seeds) > 1:
        raise InputError(f"a request has one seed, not {reprlib.repr(seeds)}")
    return seeds[0] if seeds else 0


def _whole(name: str, value: Any) -> int:
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not whole and not (isinstance(value, float | np.floating) and float(value).is_integer()):
        raise InputError(f"a {name} must be a whole number, not {reprlib.repr(value)}")
    return int(value)
