"""Studies as Optuna keeps them: where, under what definition, and how their trials are read.

A study has slots, the trials that were asked for; a slot has a trial for each attempt at it. No torch in
here, so that a study can be read without it.
"""

import time
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import optuna
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, RDBStorage
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from harness import signals
from harness.errors import InputError
from harness.outputs import OUTPUTS
from harness.tracking.addresses import without_password
from harness.tracking.redaction import redacted

SLOT, REASON, RUN = "slot", "reason", "run_id"
"""A trial's own words in the study. A trial that failed without a reason was cut off with the study's process."""
DIED = "died: "
"""How the reason begins of a trial whose process is gone."""
DEFINITION, PARENT = "definition", "parent_run"
"""A study's own words."""
DEFAULT = OUTPUTS / "studies.db"
SQLITE = "sqlite:///"
AWAY_S, POLL_S = 600.0, 0.5
"""How long a database that is away is waited for, each time."""
Direction = Literal["maximize", "minimize"]
T = TypeVar("T")

optuna.logging.set_verbosity(optuna.logging.ERROR)  # how a trial ended is said in one line, by us
warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
warnings.filterwarnings("ignore", message="Fixed parameter .* is out of", category=UserWarning)


# --- Where they are kept ---------------------------------------------------------------------------------


def url_of(place: str | None = None) -> str:
    """The address of a storage: a file of SQLite's, by default under outputs/, or a database's URL.

    Raises InputError for a file in a folder that is not there.
    """
    place = place or str(DEFAULT)
    if "://" in place and not place.startswith(SQLITE):
        return place.replace("postgresql://", "postgresql+psycopg://", 1)
    file = Path(place.removeprefix(SQLITE))
    if file.is_dir() or not (file.parent.is_dir() or file == DEFAULT):
        raise InputError(f"--storage {place} must be a file in a folder that exists, or a database's URL")
    return f"{SQLITE}{file}"


def open_storage(place: str | None = None, create: bool = True) -> BaseStorage:
    """The storage at a place, see `url_of`.

    Raises InputError where there is none and none is to be made, and for one that cannot be opened.
    """
    place, url = place or str(DEFAULT), url_of(place)
    file = Path(url.removeprefix(SQLITE)) if url.startswith(SQLITE) else None
    if file and not create and not file.is_file():
        raise InputError(f"there are no studies in {place}: run experiments/tune.py, or give its --storage")
    if file == DEFAULT:
        OUTPUTS.mkdir(exist_ok=True)
    options: dict[str, Any] = {"connect_args": {"timeout": 60}} if file else {"pool_pre_ping": True}
    try:
        return _opened(url, options, create)
    except Exception as error:  # drivers that are missing, URLs that are none, servers that are away
        said = str(error.__cause__ or error)
        reason = redacted(said.splitlines()[0] if said else type(error).__name__)
        raise InputError(
            f"the storage {without_password(place)} cannot be opened ({reason[:200]}); give a file, or "
            "postgresql://USER:PASSWORD@HOST/DATABASE"
        ) from error


def _opened(url: str, options: Mapping[str, Any], create: bool) -> BaseStorage:
    """Who only reads makes no tables: the file may be of another program."""
    try:
        return RDBStorage(url, engine_kwargs=dict(options), skip_table_creation=not create)
    except SQLAlchemyError:  # such as of another process that was making its tables at the same moment
        time.sleep(POLL_S)
        return RDBStorage(url, engine_kwargs=dict(options), skip_table_creation=not create)


def patiently(call: Callable[[], T]) -> T:
    """Call it again for as long as the database is away. Raises InputError where it stays away."""
    until, said = time.monotonic() + AWAY_S, False
    while True:
        try:
            return call()
        except (StorageInternalError, SQLAlchemyError) as error:
            reason = redacted(str(error).splitlines()[0])[:200]
            if time.monotonic() > until:
                raise InputError(f"the study's storage is away ({reason}); the same command goes on with it") from error
            if not said:
                print(f"the study's storage is away ({reason}); waiting for it", flush=True)
            said = True
        time.sleep(POLL_S)


# --- Their trials ----------------------------------------------------------------------------------------


def by_slot(trials: Collection[FrozenTrial]) -> dict[str, list[FrozenTrial]]:
    """The trials of each slot, one per attempt, in their order; what has no slot was never begun."""
    found: dict[str, list[FrozenTrial]] = {}
    for trial in sorted(trials, key=lambda trial: trial.number):
        if SLOT in trial.user_attrs:
            found.setdefault(trial.user_attrs[SLOT], []).append(trial)
    return found


def is_over(past: Sequence[FrozenTrial]) -> bool:
    """Whether a slot has a value, was pruned, or failed by itself; what was stopped or died is tried again."""
    if not past or not past[-1].state.is_finished():
        return False
    return past[-1].state != TrialState.FAIL or not (died(past[-1]) or was_stopped(past[-1]))


def died(trial: FrozenTrial) -> bool:
    """Whether a trial was cut off: its process is gone, or the study's."""
    return trial.state == TrialState.FAIL and trial.user_attrs.get(REASON, DIED).startswith(DIED)


def was_stopped(trial: FrozenTrial) -> bool:
    return trial.state == TrialState.FAIL and signals.STOPPED in trial.user_attrs.get(REASON, "")


# --- Making and finding studies --------------------------------------------------------------------------


def make_study(
    name: str,
    storage: BaseStorage,
    directions: Sequence[Direction],
    definition: Mapping[str, Any],
    make_parent: Callable[[], str],
) -> str:
    """Make a study, or find it where it is: the id of its MLflow run, which whoever makes the study makes too.

    Raises InputError for a study of that name with another definition, with the differences.
    """
    study = optuna.create_study(storage=storage, study_name=name, directions=list(directions), load_if_exists=True)
    if DEFINITION not in study.user_attrs:  # new, or its maker was killed
        study.set_user_attr(DEFINITION, dict(definition))
    _check_same(study, definition)
    if PARENT not in study.user_attrs:
        study.set_user_attr(PARENT, make_parent())
    return study.user_attrs[PARENT]


def check_definition(name: str, storage: BaseStorage, definition: Mapping[str, Any]) -> None:
    """Raises InputError where a study of that name is of something else."""
    if name in optuna.get_all_study_names(storage):
        _check_same(optuna.load_study(study_name=name, storage=storage), definition)


def _check_same(study: optuna.Study, definition: Mapping[str, Any]) -> None:
    known = study.user_attrs.get(DEFINITION, definition)
    different = [
        f"{key} is {known.get(key)}, not {definition.get(key)}"
        for key in {**known, **definition}
        if known.get(key) != definition.get(key)
    ]
    if different:
        raise InputError(
            f"the study {study.study_name!r} is another one: its {'; its '.join(different)}; give another --name"
        )


def best(study: optuna.Study) -> FrozenTrial | None:
    """The trial with the best first objective, the earliest of equal ones; None before any is complete."""
    done = study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
    sign = 1 if study.directions[0] == optuna.study.StudyDirection.MINIMIZE else -1
    return min(done, key=lambda trial: (sign * trial.values[0], trial.number), default=None)


def confirmation_name(study: str, winner: FrozenTrial) -> str:
    """The study in which the fresh seeds of a study's winner and of the default are."""
    return f"{study} confirmation {winner.number}"


def has_confirmed(study: str, storage: BaseStorage) -> bool:
    """Whether a winner of the study, this one or an earlier one, was given fresh seeds."""
    return any(name.startswith(f"{study} confirmation ") for name in optuna.get_all_study_names(storage))


def read_study(name: str | None, place: str | None = None) -> optuna.Study:
    """A hyperparameter study to look at; without a name the only one of its storage.

    The fresh seeds on which a study's winner was confirmed are no such study.
    Raises InputError for a storage or a study that is not there, with those that are.
    """
    storage = open_storage(place, create=False)
    shown_place = without_password(place or str(DEFAULT))
    found = optuna.get_all_study_summaries(storage, include_best_trial=False)
    names = [study.study_name for study in found if "objectives" in study.user_attrs.get(DEFINITION, {})]
    if not names:
        raise InputError(f"there is no study in {shown_place}: run experiments/tune.py, or give its --storage")
    if name is None and len(names) == 1:
        name = names[0]
    if name not in names:
        said = f"no study {name!r}" if name else "a study must be named"
        raise InputError(f"{said} in {shown_place}; there are {', '.join(names)}")
    return optuna.load_study(study_name=name, storage=storage)
