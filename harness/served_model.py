"""A trained generator as an MLflow model: labels and a seed in, images out.

MLflow loads this file as code ("models from code"), so no pickle is written or read: the weights are
safetensors, the configuration JSON, both in the folder that `harness.exported.export` makes.
"""

import json
import reprlib
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.models import Model, set_model
from mlflow.models.signature import ModelSignature
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc.model import PythonModel, PythonModelContext
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema, TensorSpec
from mlflow.types.schema import AnyType

from harness import exported
from harness.errors import InputError

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


class ServedGenerator(PythonModel):
    """`predict({"label": [7, 7, 3], "seed": 0})` -> uint8 [3, H, W, C]; the seed may be in `params` as well.

    A seed beside the labels comes before that in `params`. Raises Refused for what is no label, more than
    `MAX_IMAGES` labels, and more than one seed.
    """

    def load_context(self, context: PythonModelContext) -> None:
        self.model = exported.restore(Path(context.artifacts["generator"]))

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> np.ndarray:
        try:
            images = exported.generate(self.model, _labels(model_input), _seed(model_input, params or {}))
        except InputError as error:
            raise Refused(str(error)) from error
        return images.permute(0, 2, 3, 1).numpy()


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


# `Any` because MLflow casts what comes to a column of whole numbers: for 3.5 it would draw a 3, without a word.
INPUTS = Schema([ColSpec(AnyType(), "label"), ColSpec(AnyType(), "seed", required=False)])


def log(run_id: str, folder: Path, labels: list[int], store: MlflowClient) -> str:
    """Log the folder of an exported generator as the model `generator` of a run; returns the model's id.

    `labels` are its input example. A run that has its model keeps it.
    """
    known = logged(run_id, store)
    if known:
        return known
    shape = exported.restore(folder).shape
    signature = ModelSignature(
        inputs=INPUTS,
        outputs=Schema([TensorSpec(np.dtype(np.uint8), (-1, shape.height, shape.width, shape.channels))]),
        params=ParamSchema([ParamSpec("seed", DataType.long, 0)]),
    )
    mlflow.set_experiment(experiment_id=store.get_run(run_id).info.experiment_id)
    info = Model.log(
        artifact_path=None,
        name="generator",
        flavor=mlflow.pyfunc,
        run_id=run_id,
        python_model=__file__,
        artifacts={"generator": str(folder)},
        signature=signature,
        input_example={"label": labels, "seed": 0},
        pip_requirements=["synthetic-gain"],
    )
    return str(info.model_id)


def logged(run_id: str, store: MlflowClient) -> str | None:
    """The id of the model that a run has logged whole."""
    outputs = store.get_run(run_id).outputs
    ids = [output.model_id for output in outputs.model_outputs] if outputs else []
    return next((found for found in ids if store.get_logged_model(found).status == "READY"), None)


set_model(ServedGenerator())
