"""Generators as MLflow models: weights and JSON alone, no code, and no requirement that an index does not have.

`harness.runs.served_model`, which must be installed where a model is served, draws from them.
"""

import functools
import json
import tempfile
from importlib.metadata import version
from pathlib import Path

import mlflow.pyfunc
import numpy as np
from mlflow import MlflowClient
from mlflow.entities import LoggedModelOutput, LoggedModelStatus, Metric, Run
from mlflow.models import Model
from mlflow.models.signature import ModelSignature
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema, TensorSpec
from mlflow.types.schema import AnyType
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE

from harness.tracking.journal import Record

LOADER = "harness.runs.served_model"
REQUIREMENTS = ("mlflow", "numpy", "safetensors", "torch")
ABOUT = {
    "MLmodel", "conda.yaml", "input_example.json", "python_env.yaml", "registered_model_meta", "requirements.txt",
    "serving_input_example.json",
}  # fmt: skip
"""What MLflow writes about a model."""
EXPORTED = {"generator.json", "weights.safetensors"}
"""The files of an exported generator."""
GENERATOR = "generator"
"""The folder of an exported generator within a model."""

# `Any` because MLflow casts what comes to a column of whole numbers: for 3.5 it would draw a 3, without a word.
INPUTS = Schema([ColSpec(AnyType(), "label"), ColSpec(AnyType(), "seed", required=False)])


def log(run_id: str, experiment_id: str, folder: Path, said: Record, figures: list[Metric], store: MlflowClient) -> str:
    """Log the folder of an exported generator as the model `generator` of a run, once; returns the model's id.

    `said` has its input example (`labels`), its params (`about`), a `description`, and a `picture` of the run or None.
    `figures` are the run's own, with their data set. The model stands at their last step, where MLflow would look for
    metrics of its. What an agent that was killed has left half made is deleted or finished.
    """
    known = store.search_logged_models([experiment_id], f"source_run_id = '{run_id}'")
    whole = [model.model_id for model in known if model.status == LoggedModelStatus.READY]
    for model in known:
        if model.model_id not in whole[:1]:
            store.delete_logged_model(model.model_id)
    model_id = whole[0] if whole else _make(run_id, experiment_id, folder, said, store)
    if not whole or model_id not in named(store.get_run(run_id)):
        step = max((figure.step for figure in figures), default=0)
        store.log_outputs(run_id, [LoggedModelOutput(model_id, step)])
    if figures:
        store.log_batch(run_id, [_of_model(figure, model_id) for figure in figures], synchronous=True)
    return model_id


def named(run: Run) -> list[str]:
    """The ids of the models that a run names as its own."""
    return [output.model_id for output in run.outputs.model_outputs] if run.outputs else []


def _of_model(figure: Metric, model_id: str) -> Metric:
    """A run's figure as a model's too: with the same time, step and value the store has each of them once."""
    return Metric(
        figure.key, figure.value, figure.timestamp, figure.step, model_id, figure.dataset_name, figure.dataset_digest
    )


def _make(run_id: str, experiment_id: str, folder: Path, said: Record, store: MlflowClient) -> str:
    tags = {MLFLOW_RUN_NOTE: _description(said, run_id, experiment_id)}
    made = store.create_logged_model(experiment_id, GENERATOR, run_id, tags, said["about"])
    try:
        with tempfile.TemporaryDirectory() as place:
            path = Path(place) / "model"
            _save(folder, path, said["labels"], Model(run_id=run_id, model_uuid=made.model_id, model_id=made.model_id))
            store.log_model_artifacts(made.model_id, str(path))
        store.finalize_logged_model(made.model_id, LoggedModelStatus.READY)
    except BaseException:
        store.finalize_logged_model(made.model_id, LoggedModelStatus.FAILED)
        raise
    return made.model_id


def _description(said: Record, run_id: str, experiment_id: str) -> str:
    """The markdown of a model's page: what it is, its samples, how to draw others."""
    page = f"#/experiments/{experiment_id}/runs/{run_id}"
    labels = " ".join(map(str, said["labels"]))
    shown = [f"![samples](get-artifact?path={said['picture']}&run_uuid={run_id})"] if said["picture"] else []
    command = f"python experiments/generate.py --run {run_id} --labels {labels} --out drawn.png"
    return "\n\n".join(
        [
            said["description"],
            f"All samples are `samples.npz` of [its run]({page}/artifacts).",
            *shown,
            f"An image for each label, in seconds:\n\n```bash\n{command}\n```",
        ]
    )


@functools.cache
def _requirements() -> list[str]:
    return [f"{name}=={version(name).partition('+')[0]}" for name in REQUIREMENTS]


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
        pip_requirements=_requirements(),
    )
