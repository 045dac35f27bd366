"""A folder's run in its store: made once, however often it is asked for."""

import functools
import time
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Run, ViewType
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from harness.errors import InputError
from harness.tracking import experiments, local
from harness.tracking.addresses import without_password
from harness.tracking.experiments import Gone
from harness.tracking.journal import Record
from harness.tracking.local import JOURNAL, RUNS, Sent

FOLDER_TAG = "journal"
"""The tag by which a store knows the run of a folder."""
NAME_LENGTH = 250
"""Of a run's name in MLflow's table of runs: PostgreSQL refuses a longer one, as a cell of many settings has."""
EXPERIMENT_S = 5.0
"""For which an experiment that was found is not looked for again."""
REFERENCES = ("samples_run", "trained_by")
"""Tags that name another run: by the store's id, where it has one."""


class Away(Exception):
    """The store does not answer."""


def make(folder: Path, store: MlflowClient, sent: Sent) -> None:
    """See to it that a folder has its run in the store. Raises Away and Gone."""
    begun = local.beginning(folder)
    if "name" not in begun and "of" not in begun:
        raise InputError(f"{folder / JOURNAL} does not begin with its run")
    try:
        if "of" in begun:
            known = [store.get_run(_parent(begun["of"], store))]
        else:
            sent.experiment = _experiment(begun["experiment"], store, time.monotonic() // EXPERIMENT_S)
            known = _of_folder(folder, sent.experiment, store)
        run = known[0] if known else _create(folder, store, sent.experiment, begun)
    except MlflowException as error:
        _experiment.cache_clear()  # it may have been deleted meanwhile
        if "of" in begun and error.error_code == "RESOURCE_DOES_NOT_EXIST":
            raise Gone(f"the store has run {begun['of']} no more: it was purged") from error
        raise Away(str(error)) from error
    except (InputError, Gone, Away):
        raise
    except Exception as error:
        raise Away(f"{without_password(str(store.tracking_uri))} takes nothing at present ({error})") from error
    if known:  # with pictures, perhaps
        sent.images = (folder / JOURNAL).stat().st_size
    sent.run_id, sent.experiment, sent.store = run.info.run_id, run.info.experiment_id, str(store.tracking_uri)
    sent.write(folder)
    if "of" not in begun:
        local.note(sent.run_id, folder)


@functools.lru_cache(maxsize=16)
def _experiment(name: str, store: MlflowClient, period: float) -> str:
    return experiments.find_or_make(name, store).experiment_id


def _create(folder: Path, store: MlflowClient, experiment_id: str, begun: Record) -> Run:
    tags = {**begun["tags"], FOLDER_TAG: folder.name}
    tags = {key: referred(key, value) for key, value in tags.items()}
    if begun.get("parent"):
        tags[MLFLOW_PARENT_RUN_ID] = _parent(begun["parent"], store)
    return store.create_run(experiment_id, begun["time"], tags, begun["name"][:NAME_LENGTH])


def _of_folder(folder: Path, experiment_id: str, store: MlflowClient) -> list[Run]:
    """The runs that the store has made of a folder, first those that were not deleted."""
    found = store.search_runs([experiment_id], f"tags.{FOLDER_TAG} = '{folder.name}'", ViewType.ALL)
    return sorted(found, key=lambda run: run.info.lifecycle_stage)


def experiment_of(sent: Sent, store: MlflowClient) -> str:
    """The id of a run's experiment, which earlier versions did not keep."""
    return sent.experiment or store.get_run(sent.run_id).info.experiment_id


def delete_doubles(folder: Path, store: MlflowClient, sent: Sent) -> None:
    """Delete what else was made of a folder: a server goes on with a request whose asker was killed, or gave up."""
    if str(store.tracking_uri).startswith("sqlite"):  # which nobody but the asker writes
        return
    for run in _of_folder(folder, experiment_of(sent, store), store):
        if run.info.run_id != sent.run_id and run.info.lifecycle_stage == "active":
            store.delete_run(run.info.run_id)


def _parent(run: str, store: MlflowClient) -> str:
    """The store's id of a parent, which is made first where it is of this folder."""
    folder = RUNS / run
    if (folder / JOURNAL).exists() and not (sent := Sent.read(folder)).run_id:
        make(folder, store, sent)
    return local.in_the_store(run)


def referred(key: str, value: str) -> str:
    """A tag's value, which may be another run's id."""
    return local.in_the_store(value) if key in REFERENCES else value
