"""MLflow's experiments: the lists in which its UI shows runs of one kind."""

import re
import shlex

from mlflow import MlflowClient
from mlflow.entities import Experiment
from mlflow.exceptions import MlflowException

from harness.errors import InputError
from harness.tracking import views
from harness.tracking.addresses import database_file, user_of, without_password

KIND = "mlflow.experimentKind", "custom_model_development"
"""What MLflow's UI takes an experiment to be for. Its menu (3.17) leads with agents all the same."""
DESCRIPTION = "mlflow.note.content"
DESCRIPTIONS = {
    "generators": """
        A run is one generator: trained, sampled, scored. `samples/conditional_accuracy` says whether it draws what it
        is asked for, `validation/cas` what a classifier learns of its samples alone, `test/quality/…` beside
        `test/floor/…` how they lie beside real images, `cost/…` what it took. `Views` has mean
        curves over seeds, and curves over device-seconds.""",
    "classifiers": """
        A run is one classifier that saw real images and an arm's: `test/accuracy`. The judges, which saw all real
        images, are here too.""",
    "comparisons": """
        A run is a comparison, and its description the answer; its cells, a classifier each, are under it.
        `test/gain/ARM` (percentage points) with `test/gain_low/ARM` and `test/gain_high/ARM` by n_real, which is the
        step, are learning curves. `Views` has those of its generators' trainings.""",
    "studies": """
        A run is a study of one method's hyperparameters: what it came to, as text, figures and the page
        `study/study.html`; its trials are under it, their hyperparameters as params.""",
    "benchmarks": "A run is a benchmark: medians, extremes and each turn of what was measured.",
}


WITH_GENERATORS = ("generators", "comparisons")


class Gone(Exception):
    """The store has a run no more, or will not have it: nothing of it can be sent."""


def own(name: str, store: MlflowClient) -> str:
    """NAME/generators of `generators`, and so on, on a server with users: each may write to their own, and read all."""
    user = user_of(str(store.tracking_uri))
    return f"{user}/{name}" if user and name in DESCRIPTIONS else name


def require_right(experiment: Experiment, store: MlflowClient) -> None:
    """Raises InputError with the command that grants it, where this user may not write to an experiment."""
    try:
        store.set_experiment_tag(experiment.experiment_id, *KIND)
    except MlflowException as error:
        if error.get_http_status_code() != 403:
            raise
        uri = without_password(str(store.tracking_uri))
        user = user_of(uri) or "USER"
        raise InputError(
            f"{user} may not write to the experiment {experiment.name!r} of {uri}; its administrator grants it by: "
            f"{shlex.join(['python', '-m', 'harness.tracking', 'grant', user, experiment.name])} --tracking-uri {uri}"
        ) from error


def grant(user: str, name: str, store: MlflowClient) -> None:
    """As an administrator: let a user write to an experiment, which is made where there is none."""
    from mlflow.server import get_app_client  # seconds

    known = store.get_experiment_by_name(name)
    experiment_id = known.experiment_id if known else store.create_experiment(name, tags=_tags(name))
    get_app_client("basic-auth", str(store.tracking_uri)).grant_user_permission(
        user, "experiment", experiment_id, "EDIT"
    )


def find_or_make(name: str, store: MlflowClient) -> Experiment:
    """An experiment, made where there is none. Raises Gone for a deleted one, with what restores it."""
    name = own(name, store)
    known = store.get_experiment_by_name(name)
    if known is None:
        # A server chooses the place of artifacts; for a bare database it stands beside the database.
        file = database_file(str(store.tracking_uri))
        place = (file.absolute().parent / "artifacts" / _folder_name(name)).as_uri() if file else None
        try:
            known = store.get_experiment(store.create_experiment(name, place, _tags(name)))
        except MlflowException:  # another process was first
            known = store.get_experiment_by_name(name)
            if known is None:
                raise
    if known.lifecycle_stage != "active":
        raise Gone(deleted(known))
    return known


def deleted(experiment: Experiment) -> str:
    """What is said of an experiment that was deleted in the UI."""
    return (
        f"the experiment {experiment.name!r} was deleted; to have it back: mlflow experiments restore "
        f"--experiment-id {experiment.experiment_id}, or give another --experiment-name"
    )


def _folder_name(name: str) -> str:
    """A name as one folder, whatever stands in it."""
    return re.sub(r"[^\w \-.]+", "-", name).strip(". ") or "experiment"


def _tags(name: str) -> dict[str, str]:
    of = name.rpartition("/")[2]
    described = {DESCRIPTION: " ".join(DESCRIPTIONS[of].split())} if of in DESCRIPTIONS else {}
    return dict([KIND]) | described | (views.tags() if of in WITH_GENERATORS else {})
