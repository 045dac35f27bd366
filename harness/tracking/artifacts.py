"""A run's files and models, fetched for the length of a block."""

import contextlib
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

from mlflow.artifacts import download_artifacts
from mlflow.exceptions import MlflowException
from mlflow.models import Model

from harness.errors import InputError
from harness.tracking.reading import get_run
from harness.tracking.stores import answering, reading_client, shown


@contextlib.contextmanager
def fetched(run_id: str, path: str, tracking_uri: str | None = None) -> Iterator[Path]:
    """A run's artifact, fetched for the length of the block. Raises InputError where the run has none."""
    with answering(tracking_uri):
        store = reading_client(tracking_uri)
    with tempfile.TemporaryDirectory() as folder:
        try:
            local = store.download_artifacts(run_id, path, folder)
        except (MlflowException, OSError) as error:
            get_run(run_id, tracking_uri)  # it may be the run that is missing, or the store
            raise InputError(f"run {run_id} has no artifact {path}") from error
        yield Path(local)


@contextlib.contextmanager
def fetched_model(model: str, tracking_uri: str | None = None) -> Iterator[Path]:
    """The folder of a logged generator, which `harness.exported.restore` reads, for the length of the block.

    `model` is an address such as models:/ddpm@champion, models:/ddpm/3 or models:/m-ID. Raises InputError for
    another one, and where the store has no such model or it is not a generator's.
    """
    if not re.fullmatch(r"models:/([^/@]+(@[^/@]+|/\d+)|m-[^/@]+)", model):
        raise InputError(f"{model} is no model's address; models:/ddpm@champion and models:/ddpm/3 are")
    uri = str(reading_client(tracking_uri).tracking_uri)
    with tempfile.TemporaryDirectory() as folder:
        try:
            local = download_artifacts(model, dst_path=folder, tracking_uri=uri)
            flavors = Model.load(local).flavors
        except (MlflowException, OSError) as error:
            raise InputError(f"no {model} in {shown(uri)}: {str(error).splitlines()[0]}") from error
        generator = flavors.get("python_function", {}).get("artifacts", {}).get("generator")
        if not generator:
            raise InputError(f"{model} is not a generator's; experiments/ddpm.py, vae.py and gan.py make them")
        yield Path(local) / generator["path"]
