"""The model registry. The rule of who is champion: the best validation figure, never a test figure.

A generator's model is a version of the registered model that is named after its method. The version carries the
data set, n_real, seed, number of synthetic images and, where the run had a validation split, `validation/cas`: the
accuracy on the validation split of a classifier that saw only the generator's samples.

Figures are compared within one data set. `champion-DATASET` is the version with the best one, the oldest of equal
ones; `champion` is that of MNIST where it has one, else of the first data set by name. A version without a
validation figure is never champion.
"""

import contextlib
from collections.abc import Iterator

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

FIGURE = "validation/cas"
HEADLINE = "mnist"
TRIES = 20


def register(run_id: str, model_id: str, store: MlflowClient) -> None:
    """Make a generator's model a version, once, and name the champions anew."""
    run = store.get_run(run_id)
    name = run.data.tags["method"]
    if not any(_versions(f"run_id = '{run_id}'", store)):
        about = {key: run.data.tags[key] for key in ("dataset", "n_real", "seed")}
        about["num_synthetic"] = run.data.params["num_synthetic"]
        if FIGURE in run.data.metrics:
            about[FIGURE] = str(run.data.metrics[FIGURE])
        _make_registered_model(name, store)
        store.create_model_version(name, f"models:/{model_id}", run_id, tags=about, model_id=model_id)
    update_aliases(name, store)


def update_aliases(name: str, store: MlflowClient) -> None:
    """Point the aliases at the champions.

    The choice is made from all versions and looked at again after it was written: of several processes that
    register at once, the one that writes last has seen every version.
    """
    for _ in range(TRIES):
        wanted = champions(list(_versions(f"name = '{name}'", store)))
        known = store.get_registered_model(name).aliases
        wrong = {alias: version for alias, version in wanted.items() if str(known.get(alias)) != version}
        if not wrong:
            return
        for alias, version in wrong.items():
            with contextlib.suppress(MlflowException):  # two that write a new alias at once: one of them fails
                store.set_registered_model_alias(name, alias, version)
    raise MlflowException(f"the aliases of {name} cannot be set")


def champions(versions: list[ModelVersion]) -> dict[str, str]:
    """The version that each alias belongs to, for versions in any order."""
    scored = [version for version in versions if FIGURE in version.tags]
    best = {
        version.tags["dataset"]: str(version.version)
        for version in sorted(scored, key=lambda v: (float(v.tags[FIGURE]), -int(v.version)))
    }
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


def _versions(filter_string: str, store: MlflowClient) -> Iterator[ModelVersion]:
    token = None
    while True:
        page = store.search_model_versions(filter_string, page_token=token)
        yield from page
        token = page.token
        if not token:
            return
