"""What the agent answers to the processes that do not import MLflow."""

import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from mlflow.entities import ViewType
from mlflow.exceptions import MlflowException

from harness.errors import InputError
from harness.outputs import OUTPUTS
from harness.tracking import local
from harness.tracking.addresses import exists, user_of, without_password
from harness.tracking.experiments import deleted, own, require_right
from harness.tracking.searching import Search, experiments_of, row
from harness.tracking.stores import UNKNOWN, Failure, is_refusal

CACHE = OUTPUTS / "cache" / "runs"


def answer(asked: Mapping[str, Any], client: Callable[[str], MlflowClient]) -> Any:
    """The answer to one question, as plain JSON. Raises InputError for what cannot be had."""
    store = asked["store"]
    if asked["question"] != "check" and not exists(store):
        if asked["question"] == "runs":
            return []
        raise InputError(
            f"there is no MLflow store at {without_password(store)}; run an experiment first or give --tracking-uri"
        )
    return QUESTIONS[asked["question"]](
        client(store), **{k: v for k, v in asked.items() if k not in ("question", "store")}
    )


def check(store: MlflowClient, experiment: str) -> None:
    """Raises InputError where no run can be made in an experiment; one who is away may come back."""
    try:
        known = store.get_experiment_by_name(own(experiment, store))
        if known is not None and known.lifecycle_stage == "active" and user_of(str(store.tracking_uri)):
            require_right(known, store)
    except Failure as error:
        if not is_refusal(error):
            return
        raise
    if known is not None and known.lifecycle_stage != "active":
        raise InputError(deleted(known))


def runs(store: MlflowClient, condition: str, deleted: bool) -> list[dict[str, Any]]:
    """The runs that a filter finds, newest first."""
    view = ViewType.DELETED_ONLY if deleted else ViewType.ACTIVE_ONLY
    return list(Search(store, experiments_of(store), condition).rows(view=view).values())


def one_run(store: MlflowClient, run: str) -> dict[str, Any]:
    """One run by its id, or by that of its folder here."""
    try:
        found = store.get_run(local.in_the_store(run))
    except MlflowException as error:
        if error.get_http_status_code() not in UNKNOWN:
            raise
        place = without_password(str(store.tracking_uri))
        raise InputError(f"no run {run!r} in {place}; the UI's run page shows a run's id") from error
    if found.info.lifecycle_stage != "active":
        raise InputError(
            f"run {run} was deleted in the store; to have it back: mlflow runs restore --run-id {found.info.run_id}"
        )
    return row(found)


def fetch(store: MlflowClient, run: str, path: str) -> str:
    """An artifact of a run, or of the run that a model's address is of; the place on the disk where it is kept."""
    found = one_run(store, run)["run_id"]
    place = CACHE / found
    if not (place / path).exists():
        (place / path).parent.mkdir(parents=True, exist_ok=True)
        try:
            store.download_artifacts(found, path, str((place / path).parent))
        except (MlflowException, OSError) as error:
            raise InputError(f"run {run} has no artifact {path}") from error
    return str(place / path)


def model(store: MlflowClient, address: str) -> str:
    """The folder of an exported generator, fetched into a folder of its own, which is the asker's."""
    from harness.tracking.artifacts import generator_in

    place = CACHE.parent / "models" / uuid.uuid4().hex
    place.mkdir(parents=True)
    return str(generator_in(fetched_model(store, address, place), address))


def fetched_model(store: MlflowClient, address: str, place: Path) -> Path:
    """The folder of a logged generator in a place on the disk. Raises InputError where it is no generator's."""
    from harness.tracking.artifacts import generator_in

    uri = str(store.tracking_uri)
    try:
        folder = Path(download_artifacts(address, dst_path=str(place), tracking_uri=uri))
        generator_in(folder, address)
    except (MlflowException, OSError) as error:
        raise InputError(f"no {address} in {without_password(uri)}: {str(error).splitlines()[0]}") from error
    return folder


def tag(store: MlflowClient, run: str, tags: Mapping[str, str]) -> None:
    for key, value in tags.items():
        store.set_tag(one_run(store, run)["run_id"], key, value)


QUESTIONS: dict[str, Callable[..., Any]] = {
    "check": check, "runs": runs, "run": one_run, "fetch": fetch, "model": model, "tag": tag,
}  # fmt: skip
