"""A trained generator as an MLflow model: labels and a seed in, images out.

MLflow loads this file as code ("models from code"), so no pickle is written or read: the weights are
safetensors, the configuration JSON, both in the folder that `harness.exported.export` makes.
"""

from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow.models import Model, set_model
from mlflow.models.signature import ModelSignature
from mlflow.pyfunc.model import PythonModel, PythonModelContext
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema, TensorSpec

from harness import exported


class ServedGenerator(PythonModel):
    """`predict({"label": [7, 7, 3]}, params={"seed": 0})` -> uint8 [3, H, W, C]."""

    def load_context(self, context: PythonModelContext) -> None:
        self.model = exported.restore(Path(context.artifacts["generator"]))

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> np.ndarray:
        labels = [int(label) for label in model_input["label"]]
        images = exported.generate(self.model, labels, int((params or {}).get("seed", 0)))
        return images.permute(0, 2, 3, 1).numpy()


def log(run_id: str, folder: Path, labels: list[int]) -> None:
    """Log the folder of an exported generator as the model `generator` of a run; `labels` are its input example."""
    shape = exported.restore(folder).shape
    signature = ModelSignature(
        inputs=Schema([ColSpec(DataType.long, "label")]),
        outputs=Schema([TensorSpec(np.dtype(np.uint8), (-1, shape.height, shape.width, shape.channels))]),
        params=ParamSchema([ParamSpec("seed", DataType.long, 0)]),
    )
    mlflow.set_experiment(experiment_id=mlflow.get_run(run_id).info.experiment_id)
    Model.log(
        artifact_path=None,
        name="generator",
        flavor=mlflow.pyfunc,
        run_id=run_id,
        python_model=__file__,
        artifacts={"generator": str(folder)},
        signature=signature,
        input_example={"label": labels},
        pip_requirements=["synthetic-gain"],
    )


set_model(ServedGenerator())
