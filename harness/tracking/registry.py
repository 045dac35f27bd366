"""The model registry. The rule of who is champion: the best validation figure, never a test figure.

A generator's model is a version of the registered model that is named after its method, on a server with users
USER-METHOD: whoever may write to one decides who is champion. The version carries the
data set, n_real, seed and number of synthetic images. Its figure is a metric of the model, as the Models page shows
it, where the run had a validation split: `validation/cas`, the accuracy on the validation split of a classifier that
saw only the generator's samples.

Figures are compared within one data set. `champion-DATASET` is the version with the best one, the oldest of equal
ones; `champion` is that of MNIST where it has one, else of the first data set by name. A version without a
validation figure is never champion, nor is one whose model or experiment was deleted.
"""

import contextlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

from mlflow import MlflowClient
from mlflow.entities import LoggedModel
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.store.entities import PagedList
from mlflow.utils.mlflow_tags import MLFLOW_MODEL_VERSIONS

from harness.tracking.addresses import user_of

FIGURE = "validation/cas"
HEADLINE = "mnist"
TRIES = 20
Figures = Mapping[str, tuple[str, float]]
"""Data set and validation figure of each model that has one, by its address models:/m-ID, a version's source."""
Item = TypeVar("Item")


def register(run_id: str, model_id: str, store: MlflowClient) -> None:
    """Make a generator's model a version, once, and name the champions anew."""
    run = store.get_run(run_id)
    method = run.data.tags["method"]
    name = name_of(method, store)
    version = next(_versions(f"run_id = '{run_id}'", store), None)
    if version is None:
        about = {key: run.data.tags[key] for key in ("dataset", "n_real", "seed")}
        about["num_synthetic"] = run.data.params["num_synthetic"]
        _make_registered_model(name, store)
        version = store.create_model_version(name, f"models:/{model_id}", run_id, tags=about, model_id=model_id)
    model = store.get_logged_model(model_id)
    if MLFLOW_MODEL_VERSIONS not in model.tags:  # a server sets it, a database does not
        known = json.dumps([{"name": name, "version": version.version}])
        store.set_logged_model_tags(model_id, {MLFLOW_MODEL_VERSIONS: known})
    if not _is_beaten(model, name, store):
        update_aliases(method, store)


def name_of(method: str, store: MlflowClient) -> str:
    """The registered model of a method's generators, in letters that an address may have."""
    user = re.sub(r"[^\w.-]+", "-", user_of(str(store.tracking_uri)))
    return f"{user}-{method}" if user else method


def _is_beaten(model: LoggedModel, name: str, store: MlflowClient) -> bool:
    """Whether the champion of a new model's data set is as good, and still there: then no alias changes.

    So that most of a thousand models are registered without a look at all the others.
    """
    for dataset, value in _figures_of(model):
        try:
            champion = store.get_model_version_by_alias(name, f"champion-{dataset}")
            best = store.get_logged_model(str(champion.source).removeprefix("models:/"))
        except MlflowException:  # there is none, or it was deleted
            return False
        is_there = store.get_experiment(best.experiment_id).lifecycle_stage == "active"
        return is_there and any(figure >= (dataset, value) for figure in _figures_of(best))
    return False


def _figures_of(model: LoggedModel) -> list[tuple[str, float]]:
    """Data set and validation figure of a model, if it has one."""
    return [(str(metric.dataset_name), metric.value) for metric in model.metrics or [] if metric.key == FIGURE]


def update_aliases(method: str, store: MlflowClient) -> None:
    """Point the aliases at the champions.

    The choice is made from all versions and looked at again after it was written: of several processes that
    register at once, the one that writes last has seen every version.
    """
    name = name_of(method, store)
    for _ in range(TRIES):
        versions = list(_versions(f"name = '{name}'", store))
        wanted = champions(versions, _figures(method, store))  # read last: what is a version has its figure
        known = store.get_registered_model(name).aliases
        wrong = {alias: version for alias, version in wanted.items() if str(known.get(alias)) != version}
        if not wrong:
            return
        for alias, version in wrong.items():
            with contextlib.suppress(MlflowException):  # two that write a new alias at once: one of them fails
                store.set_registered_model_alias(name, alias, version)
    raise MlflowException(f"the aliases of {name} cannot be set")


def champions(versions: list[ModelVersion], figures: Figures) -> dict[str, str]:
    """The version that each alias belongs to, for versions in any order."""
    scored = [(*figures[str(v.source)], int(v.version)) for v in versions if v.source in figures]
    best = {dataset: str(number) for dataset, _, number in sorted(scored, key=lambda each: (each[1], -each[2]))}
    if not best:
        return {}
    headline = min(best, key=lambda dataset: (dataset != HEADLINE, dataset))
    return {"champion": best[headline]} | {f"champion-{dataset}": version for dataset, version in best.items()}


def _make_registered_model(name: str, store: MlflowClient) -> None:
    try:
        store.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _figures(method: str, store: MlflowClient) -> Figures:
    """Of the models of a method, in whatever experiment."""
    known = [each.experiment_id for each in _all(lambda token: store.search_experiments(page_token=token))]
    wanted = f"params.method = '{method}' AND metrics.`{FIGURE}` >= 0"
    found = _all(lambda token: store.search_logged_models(known, wanted, page_token=token))
    return {f"models:/{model.model_id}": figure for model in found for figure in _figures_of(model)}


def _versions(filter_string: str, store: MlflowClient) -> Iterator[ModelVersion]:
    return _all(lambda token: store.search_model_versions(filter_string, page_token=token))


def _all(search: Callable[[str | None], PagedList[Item]]) -> Iterator[Item]:
    """What a search finds, page by page, each asked for with the token of the one before."""
    token = None
    while True:
        page = search(token)
        yield from page
        token = page.token
        if not token:
            return
