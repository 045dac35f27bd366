"""Generators as MLflow models: weights and JSON alone, no code, and no requirement that an index does not have.

`harness.runs.served_model`, which must be installed where a model is served, draws from them.
"""

import json
import tempfile
from importlib.metadata import version
from pathlib import Path

import mlflow.pyfunc
import numpy as np
from mlflow import MlflowClient
from mlflow.entities import LoggedModelOutput, LoggedModelStatus
from mlflow.models import Model
from mlflow.models.signature import ModelSignature
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema, TensorSpec
from mlflow.types.schema import AnyType

LOADER = "harness.runs.served_model"
REQUIREMENTS = ("mlflow", "numpy", "safetensors", "torch")
GENERATOR = "generator"
"""The folder of an exported generator within a model."""

# `Any` because MLflow casts what comes to a column of whole numbers: for 3.5 it would draw a 3, without a word.
INPUTS = Schema([ColSpec(AnyType(), "label"), ColSpec(AnyType(), "seed", required=False)])


def log(run_id: str, folder: Path, labels: list[int], store: MlflowClient) -> str:
    """Log the folder of an exported generator as the model `generator` of a run; returns the model's id.

    `labels` are its input example.
    """
    experiment = store.get_run(run_id).info.experiment_id
    made = store.create_logged_model(experiment, GENERATOR, source_run_id=run_id)
    try:
        with tempfile.TemporaryDirectory() as place:
            path = Path(place) / "model"
            _save(folder, path, labels, Model(run_id=run_id, model_uuid=made.model_id, model_id=made.model_id))
            store.log_model_artifacts(made.model_id, str(path))
        store.finalize_logged_model(made.model_id, LoggedModelStatus.READY)
    except BaseException:
        store.finalize_logged_model(made.model_id, LoggedModelStatus.FAILED)
        raise
    store.log_outputs(run_id, [LoggedModelOutput(made.model_id, step=0)])
    return made.model_id


def _save(folder: Path, path: Path, labels: list[int], model: Model) -> None:
    shape = json.loads((folder / "generator.json").read_text())["shape"]
    images = TensorSpec(np.dtype(np.uint8), (-1, shape["height"], shape["width"], shape["channels"]))
    mlflow.pyfunc.save_model(
        path,
        loader_module=LOADER,
        data_path=str(folder),
        mlflow_model=model,
        signature=ModelSignature(
            inputs=INPUTS,
            outputs=Schema([images]),
            params=ParamSchema([ParamSpec("seed", DataType.long, 0)]),
        ),
        input_example={"label": labels, "seed": 0},
        pip_requirements=[f"{name}=={version(name).partition('+')[0]}" for name in REQUIREMENTS],
    )


def logged(run_id: str, store: MlflowClient) -> str | None:
    """The id of the model that a run has logged whole."""
    outputs = store.get_run(run_id).outputs
    ids = [output.model_id for output in outputs.model_outputs] if outputs else []
    return next((found for found in ids if store.get_logged_model(found).status == "READY"), None)
