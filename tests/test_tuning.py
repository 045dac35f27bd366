"""Studies as a user runs them: real trials on digits, from the command line to the store."""

import contextlib
import json
import math
import pickle
import shutil
import signal
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import processes
import pytest
import study_soak
import ui_pictures
from optuna.trial import TrialState
from PIL import Image
from servers import installed

from analysis import study_answer
from harness import locks, methods, spaces, storages, tracking
from harness.data import datasets
from harness.engine.tasks import Talk
from harness.errors import InputError
from harness.methods import ddpm, gan, vae
from harness.runs import judges
from harness.runs.looks import LOOKS
from harness.settings import Common
from harness.studies import trials, tuning
from harness.studies.trials import Plan
from harness.tracking import local

TINY = (
    "--n-real", "100", "--num-synthetic", "100", "--steps", "20", "--batch-size", "16", "--classifier.steps", "5",
)  # fmt: skip
URI = "sqlite:///outputs/mlflow.db"


def study_of(place: Path, name: str) -> optuna.Study:
    return storages.read_study(name, str(place / "outputs/studies.db"))


def runs_of(place: Path, study: str) -> pd.DataFrame:
    return tracking.read_runs(f"tags.study = '{study}'", tracking_uri=f"sqlite:///{place}/outputs/mlflow.db")


# --- A study ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tuned(place: Path, forked: Callable) -> Any:
    """A study of a GAN, stopped short and gone on with, with more trials."""
    flags = (*TINY, "--epochs", "4", "--name", "small", "--pruner", "none", "--max-failures", "0", "--confirm-seeds")
    first = forked("tune.py", "gan", *flags, "0", "--trials", "2")
    second = forked("tune.py", "gan", *flags, "2", "--trials", "4")
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    return study_of(place, "small"), runs_of(place, "small"), second.stdout


def test_a_study_has_as_many_trials_as_asked_for_and_goes_on(tuned: Any) -> None:
    study, _, said = tuned
    assert [trial.user_attrs["slot"] for trial in study.trials] == ["0", "1", "2", "3"]
    assert {trial.state for trial in study.trials} == {TrialState.COMPLETE}
    assert "small: 4 COMPLETE" in said
    assert "Best trial " in said


def test_the_first_trial_is_the_default(tuned: Any) -> None:
    study, _, _ = tuned
    assert study.trials[0].params == {"augment": "none", "loss": "wgan-gp", "critic_steps": 2}


def test_every_trial_is_a_run_that_agrees_with_the_study(tuned: Any) -> None:
    study, runs, _ = tuned
    trials = runs[runs["tags.kind"] == "trial"].set_index("run_id")
    parent = runs.loc[runs["tags.kind"] == "study"].iloc[0]
    assert len(trials) == len(study.trials)
    assert set(runs["status"]) == {"FINISHED"}
    for trial in study.trials:
        run = trials.loc[trial.user_attrs["run_id"]]
        assert run["parent_run_id"] == parent["run_id"] == study.user_attrs["parent_run"]
        assert run["metrics.objective/accuracy"] == trial.value == run["metrics.validation/accuracy"]
        assert (run["tags.trial"], run["tags.state"]) == (str(trial.number), "COMPLETE")
        assert {name: str(value) for name, value in trial.params.items()} == {
            name.removeprefix("params."): value for name, value in run.items() if name.startswith("params.")
            and name.removeprefix("params.") in study.user_attrs["definition"]["space"] and isinstance(value, str)
        }  # fmt: skip


def test_values_reach_the_training_bit_for_bit(tuned: Any) -> None:
    study, runs, _ = tuned
    generators = runs[runs["tags.kind"] == "generator"].set_index("parent_run_id")
    clipped = [trial for trial in study.trials if "clip_limit" in trial.params]
    for trial in study.trials:
        used = generators.loc[trial.user_attrs["run_id"]]
        for name, value in trial.params.items():
            assert type(value)(used[f"params.{name}"]) == value
    assert all((trial.params["loss"] == "wgan") == (trial in clipped) for trial in study.trials)


def test_a_trial_whose_end_no_driver_heard_of_is_another_ones_result(
    tuned: Any, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, _, _ = tuned
    monkeypatch.chdir(place)
    done = study.trials[-1]
    job = trials.Job(_plan(TINY), study.user_attrs["parent_run"], "trial", "3", 99, done.params, [0])
    with processes.agent(place):
        assert trials.run_trial(Talk(tmp_path), job) == done.values
    own = "tags.study = 'small' AND tags.slot = '3' AND tags.kind = 'trial'"
    run = tracking.read_runs(own, tracking_uri=URI).iloc[0]
    assert (run["run_id"], run["status"], run["tags.state"]) == (done.user_attrs["run_id"], "FINISHED", "COMPLETE")
    assert (run["tags.trial"], run["metrics.objective/accuracy"]) == ("99", done.value)


def test_no_figure_of_the_test_split_is_in_a_study(tuned: Any) -> None:
    _, runs, _ = tuned
    seen = [name for name in runs if name.startswith("metrics.test/")]
    assert not seen or runs[seen].isna().all(axis=None)


def test_the_best_trial_is_tagged_and_its_configuration_is_taken_back(
    tuned: Any, place: Path, forked: Callable
) -> None:
    study, runs, _ = tuned
    parent = runs.loc[runs["tags.kind"] == "study"].iloc[0]
    best = max(study.trials, key=lambda trial: (trial.value, -trial.number))
    assert (parent["tags.best_trial"], parent["tags.best_run"]) == (str(best.number), best.user_attrs["run_id"])
    assert list(runs.loc[runs["tags.best"] == "yes", "run_id"]) == [best.user_attrs["run_id"]]
    with tracking.fetched(parent["run_id"], "best.toml", f"sqlite:///{place}/outputs/mlflow.db") as path:
        kept = shutil.copy(path, place / "best.toml")
    assert tomllib.loads(kept.read_text())["gan"] == {"steps": 20, "epochs": 4.0, "batch_size": 16, **best.params}
    done = forked("gan.py", "--config", "best.toml", "--n-real", "100", "--num-synthetic", "100",
                  "--experiment-name", "again", "--latent-size", "8")  # fmt: skip
    assert done.returncode == 0, done.stderr
    again = tracking.read_runs(experiments=["again"], tracking_uri=f"sqlite:///{place}/outputs/mlflow.db").iloc[0]
    assert again["params.latent_size"] == "8"
    assert all(again[f"params.{name}"] == str(value) for name, value in best.params.items())


def test_the_winner_is_held_against_the_default_on_fresh_seeds(tuned: Any) -> None:
    study, runs, said = tuned
    parent = runs.loc[runs["tags.kind"] == "study"].iloc[0]
    confirming = runs[runs["tags.kind"] == "confirmation"]
    if study.best_trial.params == study.trials[0].params:  # TPE's seed is not fixed
        assert "No trial beat the study's first one" in said
        assert confirming.empty
        return
    seeds = runs[runs["parent_run_id"].isin(confirming["run_id"]) & (runs["tags.kind"] == "generator")]["tags.seed"]
    assert set(seeds) == {"1", "2"}  # the trials had seed 0
    assert not parent["metrics.confirmation/low"] > parent["metrics.confirmation/difference"]  # NaN: equal differences
    assert "fresh seeds" in said


def test_the_studys_run_is_its_answer(tuned: Any, place: Path, forked: Callable) -> None:
    """Its figures are those of its page, of another look, and of the study, whose trials they count."""
    study, runs, _ = tuned
    parent = runs.loc[runs["tags.kind"] == "study"].iloc[0]
    best = max(study.trials, key=lambda trial: (trial.value, -trial.number))
    assert parent["metrics.best/accuracy"] == best.value
    for name in ("loss", "critic_steps", "clip_limit"):
        assert parent[f"tags.best/{name}"] == str(best.params.get(name, "-"))
    again = forked("analysis.studies", "small", "--out", "again")
    assert again.returncode == 0, again.stderr
    uri = f"sqlite:///{place}/outputs/mlflow.db"
    with tracking.fetched(parent["run_id"], "study", uri) as page:
        tables = {path.name: path.read_text() for path in page.glob("*.csv")}
        assert {path.name for path in page.iterdir()} == {path.name for path in (place / "again").iterdir()}
        assert tables == {path.name: path.read_text() for path in (place / "again").glob("*.csv")}
        assert "trials.csv" in tables
        told = parent.filter(like="metrics.importance/").dropna()
        if "importances.csv" in tables:
            shares = pd.read_csv(page / "importances.csv").set_index("importance of")["accuracy"]
            assert dict(told) == pytest.approx({f"metrics.importance/{name}": of for name, of in shares.items()})
        else:  # which no such trials tell apart, by the rounding of their processor
            assert told.empty
    assert parent["tags.mlflow.note.content"].startswith("**small**: Slots: 4, trials: 4 (4 complete). Best trial ")
    ends = tracking.read_histories([parent["run_id"]], ["trials/complete", "trials/failed"], uri)
    said = {*zip(ends["key"], ends["step"], ends["value"], strict=True)}
    assert {number for _, number, _ in said} >= {2, 4}  # after each of its two calls
    assert said == {(name, number, 0 if name == "trials/failed" else number) for name, number, _ in said}
    assert not [name for name, value in parent.items() if name.startswith("metrics.system/") and not pd.isna(value)]


@pytest.mark.long
@pytest.mark.usefixtures("tuned")
def test_mlflows_pages_show_the_study_and_draw_its_trials(place: Path, tmp_path: Path) -> None:
    """In a browser; what they must show is asserted in ui_pictures.py."""
    installed(ui_pictures.chromium)
    ui_pictures.study_pictures(f"sqlite:///{place}/outputs/mlflow.db", tmp_path)
    for name in ("study_gan.png", "study_gan_page.png"):
        with Image.open(tmp_path / name) as picture:
            assert picture.width == ui_pictures.SIZE["width"]


def test_a_conditional_hyperparameter_is_a_parameter_of_the_trials_in_which_it_holds(
    tuned: Any, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, _, _ = tuned
    monkeypatch.chdir(place)
    values = {"loss": "wgan", "critic_steps": 1, "clip_limit": 0.01}
    plan = _plan(("gan", *TINY, "--objectives", "conditional_accuracy", "--pruner", "none"))
    job = trials.Job(plan, study.user_attrs["parent_run"], "trial", "7", 98, values, [0])
    with processes.agent(place):
        trials.run_trial(Talk(tmp_path), job)
    run = tracking.read_runs("tags.trial = '98' AND tags.kind = 'trial'", tracking_uri=URI).iloc[0]
    assert {name: run[f"params.{name}"] for name in values} == {name: str(value) for name, value in values.items()}


# --- What a trial may see --------------------------------------------------------------------------------


def test_a_trial_cannot_read_the_test_split(tmp_path: Path, forked: Callable, place: Path) -> None:
    """It runs through where the files of the test split are not even files of a data set."""
    raw = tmp_path / "KMNIST" / "raw"
    raw.mkdir(parents=True)
    digits = datasets.load("digits")
    images = digits.train.images
    for part in ("train", "t10k"):
        header = (0x803).to_bytes(4) + b"".join(side.to_bytes(4) for side in (len(images), 8, 8))
        (raw / f"{part}-images-idx3-ubyte").write_bytes(header + images.numpy().tobytes())
        labels = (0x801).to_bytes(4) + len(images).to_bytes(4) + digits.train.labels.byte().numpy().tobytes()
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(labels)
    for kind in ("images-idx3", "labels-idx1"):
        (raw / f"t10k-{kind}-ubyte").write_text("not for tuning")
    common = ("--dataset", "kmnist", "--data-root", str(tmp_path), "--n-real", "100", "--num-synthetic", "100")
    normal = forked("vae.py", *common, "--steps", "5")
    assert normal.returncode == 2
    assert "t10k-images-idx3-ubyte is damaged" in normal.stderr
    objectives = ("--objectives", "accuracy", "cas", "--trials", "1", "--confirm-seeds", "0", "--name", "blind")
    done = forked(
        "tune.py", "vae", *common, "--steps", "5", "--classifier.steps", "5", "--judge-steps", "40", *objectives
    )
    assert done.returncode == 0, done.stderr
    assert study_of(place, "blind").trials[0].state == TrialState.COMPLETE


# --- Pruning, failures, two objectives -------------------------------------------------------------------


def test_a_pruned_trial_says_by_what_and_when(place: Path, forked: Callable) -> None:
    """Halving keeps the best half at each look: of six trials some must go."""
    flags = (*TINY, "--objectives", "fid", "--pruner", "halving", "--sampler", "random", "--confirm-seeds", "0")
    done = forked("tune.py", "vae", *flags, "--trials", "6", "--name", "halved")
    assert done.returncode == 0, done.stderr
    study, runs = study_of(place, "halved"), runs_of(place, "halved")
    pruned = [trial for trial in study.trials if trial.state == TrialState.PRUNED]
    assert pruned
    trials = runs[runs["tags.kind"] == "trial"].set_index("run_id")
    for trial in pruned:
        run = trials.loc[trial.user_attrs["run_id"]]
        assert (run["status"], run["tags.state"]) == ("KILLED", "PRUNED")
        assert run["tags.reason"].startswith(f"pruned at step {max(trial.intermediate_values) * 4}: fid of 500 samples")
        generator = runs[runs["parent_run_id"] == run.name].iloc[0]
        assert generator["status"] == "KILLED"
        assert generator["metrics.early/fid"] == list(trial.intermediate_values.values())[-1]
        assert pd.isna(generator.get("metrics.validation/fid", math.nan))
    assert f"{len(pruned)} PRUNED" in done.stdout


@pytest.mark.parametrize(
    ("objective", "measured", "told", "said"),
    [
        ("accuracy", "fid", -94.5, "median by fid"),
        ("cas", "fid", -94.5, "median by fid"),
        ("fid", "fid", 94.5, "median"),
        ("conditional_accuracy", "conditional_accuracy", 94.5, "median"),
    ],
)
def test_a_pruner_hears_what_is_better_as_its_study_counts(
    tmp_path: Path, objective: str, measured: str, told: float, said: str
) -> None:
    """A small distance is good, and the larger value where accuracy is looked for; the definition names a proxy."""
    plan = _plan(("vae", "--objectives", objective))
    assert tuning.check(plan)["pruner"] == said
    job = trials.Job(plan, "parent", "trial", "0", 0, {}, [0, 1])
    (tmp_path / "answer-2").write_bytes(pickle.dumps(True))
    watch = trials.watch_of(job, 1, Talk(tmp_path))
    assert watch is not None
    assert (watch.measure, watch.should_stop(2, 94.5)) == (measured, True)
    assert pickle.loads((tmp_path / "say-1").read_bytes()) == ("report", 1 * LOOKS + 2, told)


def test_two_objectives_and_seeds_per_trial(place: Path, forked: Callable) -> None:
    flags = (*TINY, "--objectives", "conditional_accuracy", "train_seconds", "--seeds-per-trial", "2")
    done = forked("tune.py", "vae", *flags, "--trials", "1", "--confirm-seeds", "0", "--name", "../../two")
    assert done.returncode == 0, done.stderr
    assert [path.parent for path in place.parent.rglob("*two*/best.toml")] == [place / "outputs/studies/_.._two"]
    study, runs = study_of(place, "../../two"), runs_of(place, "../../two")
    assert [direction.name for direction in study.directions] == ["MAXIMIZE", "MINIMIZE"]
    for trial in study.trials:
        parts = runs[runs["parent_run_id"] == trial.user_attrs["run_id"]]
        assert set(parts["tags.seed"]) == {"0", "1"}
        figures = parts[["metrics.samples/conditional_accuracy", "metrics.cost/training_device_seconds"]].mean()
        assert trial.values == pytest.approx(list(figures))


def test_a_trial_that_diverges_fails_with_its_reason_and_the_study_goes_on(place: Path, forked: Callable) -> None:
    flags = (*TINY, "--objectives", "conditional_accuracy", "--confirm-seeds", "0", "--fix", "learning_rate=1e9")
    ended = ("--trials", "2", "--max-failures", "2", "--name", "diverged")
    done = forked("tune.py", "vae", *flags, *ended)
    assert done.returncode == 2
    assert "all 2 trials of diverged have failed, the last with: " in done.stderr
    study, runs = study_of(place, "diverged"), runs_of(place, "diverged")
    assert {trial.state for trial in study.trials} == {TrialState.FAIL}
    trials = runs[runs["tags.kind"] == "trial"].set_index("run_id")
    for trial in study.trials:
        run = trials.loc[trial.user_attrs["run_id"]]
        assert (run["status"], run["tags.state"], run["tags.reason"]) == ("FAILED", "FAIL", trial.user_attrs["reason"])


def test_ctrl_c_ends_the_trials_as_killed_and_the_same_command_goes_on_though_one_is_killed(place: Path) -> None:
    command = ("vae", *TINY, "--steps", "300", "--epochs", "1000", "--objectives", "conditional_accuracy", "--pruner",
               "none", "--trials", "2", "--workers", "2", "--confirm-seeds", "0", "--name", "stopped")  # fmt: skip
    lock = place / judges.path(datasets.load("digits"), Common()).with_suffix(".lock")
    with locks.held(lock, 60) as gate:  # no trial ends before it has the judge
        assert gate is not None
        (running,) = processes.start(place, "tune.py", *command)
        processes.until(lambda: _train(place, "stopped") == 2)
        processes.kill(running, signal.SIGINT)
        assert processes.wait([running]) == [130], processes.said(place)
    stopped = study_of(place, "stopped").trials
    assert [trial.state for trial in stopped] == [TrialState.FAIL, TrialState.FAIL]
    assert {trial.user_attrs["reason"] for trial in stopped} == {"stopped by Ctrl-C"}
    processes.until(lambda: set(runs_of(place, "stopped")["status"]) == {"KILLED"})
    with locks.held(lock, 60):
        (running,) = processes.start(place, "tune.py", *command)
        processes.until(lambda: study_soak.writers(place, running))
        study_soak.writers(place, running)[0].kill()
    assert processes.wait([running]) == [0], processes.said(place)
    after = storages.by_slot(study_of(place, "stopped").trials)
    assert [[trial.state.name for trial in past] for past in after.values()] == [["FAIL", "COMPLETE"]] * 2
    with contextlib.chdir(place):
        of = [{local.in_the_store(trial.user_attrs["run_id"]) for trial in past} for past in after.values()]
    assert [len(runs) for runs in of] == [1, 1]  # gone on with, not begun anew
    runs = runs_of(place, "stopped")
    assert set(runs["status"]) == {"FINISHED"}
    assert len(runs) == 1 + 2 + 2  # the study, its trials, their generators


def _train(place: Path, study: str) -> int:
    """How many generators of a study have made steps."""
    journals = [path.read_text() for path in place.glob("outputs/runs/*/journal")]
    return sum(f'"study":"{study}"' in text and "train/" in text for text in journals)


# --- Bad input -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("flow",), "unknown method 'flow'; known are ddpm, drifting, gan, vae"),
        (("vae", "--objectives", "beauty"), "unknown objective 'beauty'; known are accuracy, cas"),
        (("vae", "--objectives", "cas", "cas"), "must be one, or two different ones"),
        (("vae", "--objectives", "cas", "fid", "--pruner", "median"), "--pruner median needs one objective"),
        (
            ("vae", "--space", "clip_limit=1:2"),
            "'clip_limit' is not searched; those that are: augment=none,moved, latent",
        ),
        (("vae", "--n-real", "1430"), "leaves 8; give a smaller one, or --pruner none, since a pruner looks at fid"),
        (
            ("vae", "--n-real", "1430", "--objectives", "fid"),
            "fid needs 10 validation images, and --n-real 1430 leaves 8",
        ),
        (("vae", "--space", "latent_size=32:8"), "low 32 is above high 8"),
        (("vae", "--space", "latent_size=8:4000"), "latent_size=8:4000 is not within 4:64:log"),
        (("vae", "--space", "latent_size"), "must be NAME=low:high[:log] or NAME=a,b"),
        (("gan", "--space", "loss=wgan,mse"), "'mse' is none of vanilla,relativistic,wgan,wgan-gp"),
        (("gan", "--fix", "loss=mse"), "'mse' is none of vanilla, saturating, relativistic, wgan, wgan-gp"),
        (("gan", "--fix", "loss=wgan", "loss=vanilla"), "--fix has loss twice, as loss=wgan and loss=vanilla"),
        (("vae", "--space", "latent-size=4:8", "latent_size=5:8"), "--space has latent_size twice"),
        (("vae", "--fix", "latent_size=many"), "'many' is no int"),
        (("vae", "--fix", "learning_rate=nan"), "--fix learning-rate nan must be a number, above 0"),
        (("vae", "--fix", "beauty=1"), "there is no 'beauty'; there are steps, epochs"),
        (("vae", "--storage", "no/folder/studies.db"), "must be a file in a folder that exists"),
        (("vae", "--storage", "postgresql://127.0.0.1:1/studies"), "postgresql://127.0.0.1:1/studies cannot be opened"),
        (("vae", "--n-real", "1438"), "with --n-real 1438 there is no validation split"),
        (
            ("vae", "--n-real", "1436", "--objectives", "fid"),
            "needs 10 validation images, and --n-real 1436 leaves 2",
        ),
        (("vae", "--confirm-seeds", "1"), "gives no interval"),
        (("vae", "--workers", "2", "--cluster", "tcp://127.0.0.1:1"), "--workers is for this host"),
        (("vae", "--tls", "certificates"), "--tls is for a --cluster"),
    ],
)
def test_bad_input_is_one_line_and_makes_nothing(flags: tuple[str, ...], message: str, tmp_path: Path) -> None:
    plan = _plan(flags)
    with pytest.raises(InputError) as refused:
        tuning.tune(plan, study_answer.log)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not list(tmp_path.iterdir())


def _plan(flags: tuple[str, ...]) -> Plan:
    import tyro

    return tyro.cli(Plan, args=list(flags))


def test_bad_input_on_the_command_line(forked: Callable) -> None:
    done = forked("tune.py", "vae", "--space", "latent_size=32:8")
    assert (done.returncode, done.stdout) == (2, "")
    assert (
        done.stderr
        == "tune.py: --space latent_size=32:8: low 32 is above high 8; give NAME=low:high, within 4:64:log\n"
    )


def test_a_study_of_something_else_under_the_same_name_is_refused(tuned: Any, forked: Callable) -> None:
    done = forked("tune.py", "gan", *TINY, "--name", "small", "--objectives", "cas")
    assert done.returncode == 2
    assert "the study 'small' is another one: its objectives is ['accuracy'], not ['cas']" in done.stderr


# --- Spaces ----------------------------------------------------------------------------------------------


def test_the_searched_ranges_hold_the_defaults() -> None:
    for method in methods.names():
        config = methods.find(method).Config
        for name, found in spaces.space_of(config).items():
            default = getattr(config(), name)
            assert default in found.choices or found.low <= default <= found.high, (method, name)


def test_the_four_of_the_design_are_searched() -> None:
    assert {"schedule", "min_beta", "max_beta", "num_steps"} <= set(spaces.space_of(ddpm.Config))
    assert {"latent_size", "kl_weight"} <= set(spaces.space_of(vae.Config))
    assert {"clip_limit", "critic_steps", "epochs", "loss"} <= set(spaces.space_of(gan.Config))


def test_conditional_ranges_follow_what_is_fixed() -> None:
    class Middle:
        """A trial that suggests the least of a range."""

        def suggest_categorical(self, name: str, choices: tuple) -> Any:
            return choices[0]

        def suggest_int(self, name: str, low: int, high: int, log: bool) -> int:
            return low

        def suggest_float(self, name: str, low: float, high: float, log: bool) -> float:
            return low

    assert {"clip_limit", "rmsprop_lr"} <= set(trials.suggest_values(_plan(("gan", "--fix", "loss=wgan")), Middle()))
    assert "clip_limit" not in trials.suggest_values(_plan(("gan", "--fix", "loss=vanilla")), Middle())
    assert "min_beta" not in trials.suggest_values(_plan(("ddpm", "--space", "schedule=cosine")), Middle())
    assert (
        trials.suggest_values(_plan(("gan", "--space", "loss=wgan", "clip_limit=0.01:0.05")), Middle())["clip_limit"]
        == 0.01
    )


def test_a_configuration_file_keeps_floats_to_the_last_bit() -> None:
    found = optuna.create_trial(
        params={"clip_limit": 0.1 + 0.2},
        distributions={"clip_limit": optuna.distributions.FloatDistribution(0, 1)},
        value=1.0,
    )
    assert tomllib.loads(tuning.best_toml(_plan(("gan",)), found))["gan"]["clip_limit"] == 0.1 + 0.2
    assert json.loads(json.dumps(0.1 + 0.2)) == 0.1 + 0.2
