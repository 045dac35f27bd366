"""Studies made by hand as a table, Optuna's pictures and a page; nothing is trained."""

import json
import math
import re
import socket
import subprocess
import sys
import time
import urllib.request
import warnings
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import optuna
import pytest
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial
from PIL import Image
from servers import free_port

from analysis import pages, study_answer
from analysis import studies as page
from analysis.confirmation import Confirmation, confirmation
from harness import cli, storages, tracking
from harness.errors import InputError

SPACE: dict[str, BaseDistribution] = {
    "epochs": FloatDistribution(5.0, 500.0, log=True),
    "loss": CategoricalDistribution(("vanilla", "wgan", "wgan-gp")),
    "critic_steps": IntDistribution(1, 5),
    "clip_limit": FloatDistribution(0.003, 0.1, log=True),
}
WGAN = {"loss": "wgan", "critic_steps": 3, "clip_limit": 0.02}
BEGIN = datetime(2026, 11, 20, 9)
REASON = "Diverged: <b>the loss</b> is nan | at step 40"


def make(name: str, objectives: Sequence[str] = ("accuracy",), place: str | None = "studies.db") -> optuna.Study:
    """A study without a trial; in memory for no place."""
    directions = ["minimize" if "seconds" in objective else "maximize" for objective in objectives]
    storage = storages.open_storage(place) if place else None
    study = optuna.create_study(study_name=name, storage=storage, directions=directions)
    definition = {
        "method": "gan", "objectives": list(objectives), "data": "digits 1f89b7149c35ec60", "n_real": 200,
        "fixed": {"steps": "400"}, "space": dict.fromkeys(SPACE, "its range"), "pruner": "median",
        "classifier": {"steps": 60},
    }  # fmt: skip
    study.set_user_attr("definition", definition)
    return study


def add(
    study: optuna.Study, slot: int, state: TrialState, values: Sequence[float] | None = None, *,
    minute: float = 0, took_s: float = 60,
    params: dict[str, Any] | None = None, **attributes: Any,
) -> None:  # fmt: skip
    """A trial that began at a minute."""
    params = {} if state == TrialState.WAITING else {"epochs": 20.0 + slot, **(params or WGAN)}
    begin = BEGIN + timedelta(minutes=minute)
    known = {"run_id": f"run{slot}"} if params else {}
    trial = create_trial(
        state=state, values=values, params=params, distributions={name: SPACE[name] for name in params},
        user_attrs={"slot": str(slot), **known, **attributes},
    )  # fmt: skip
    trial.datetime_start = begin if params else None
    trial.datetime_complete = begin + timedelta(seconds=took_s) if state.is_finished() else None
    study.add_trial(trial)


def all_ends(place: str | None = None) -> optuna.Study:
    """8 slots in 10 trials, all ends among them; trial 3 is its slot's second and the best."""
    made = make("gan", place=place)
    add(made, 0, TrialState.COMPLETE, [0.9], params={"loss": "wgan-gp", "critic_steps": 2})
    add(made, 1, TrialState.PRUNED, [0.99], minute=1, took_s=5.25)  # Optuna keeps the last that it reported
    add(made, 2, TrialState.FAIL, minute=2, took_s=3_000)
    add(made, 2, TrialState.COMPLETE, [0.95], minute=60, took_s=20_000)
    add(made, 3, TrialState.FAIL, minute=3, reason=REASON)
    add(made, 4, TrialState.FAIL, minute=4, reason="stopped by SIGTERM")
    add(made, 5, TrialState.FAIL, minute=5, reason="stopped by Ctrl-C")
    add(made, 5, TrialState.FAIL, minute=6)
    add(made, 6, TrialState.RUNNING, minute=7)
    add(made, 7, TrialState.WAITING)
    return made


@pytest.fixture
def study() -> optuna.Study:
    return all_ends("studies.db")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of that study's files."""
    out = tmp_path_factory.mktemp("shown") / "out"
    page.write(all_ends(), None, out)
    return out


def two_objectives() -> optuna.Study:
    made = make("pareto", ("cas", "train_seconds"), place=None)
    for slot, values in enumerate([(0.8, 5.0), (0.9, 9.0), (0.85, 4.0), (0.7, 8.0)]):
        add(made, slot, TrialState.COMPLETE, values, minute=slot)
    add(made, 4, TrialState.FAIL, minute=5, reason=REASON)
    return made


def confirmed(best: Sequence[float], default: Sequence[float]) -> None:
    """What the fresh seeds gave for trial 3 of the study."""
    fresh = optuna.create_study(
        study_name="gan confirmation 3", storage=storages.open_storage("studies.db"), direction="maximize"
    )
    fresh.set_user_attr("definition", {"of": "gan", "winner": {}})
    for which, values in (("best", best), ("default", default)):
        for seed, value in enumerate(values, 1):
            fresh.add_trial(create_trial(value=value, user_attrs={"slot": f"{which} seed {seed}"}))


def said(study: optuna.Study, found: Confirmation | None = None) -> str:
    """What the page says that the study came to."""
    winner = storages.best(study)
    assert winner
    return " ".join(page.conclusions(study, winner, found))


def drawn(study: optuna.Study) -> dict[str, list[Axes]]:
    """The axes of the pictures, by the names of their files."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {name: figure.axes for name, (figure, _) in page.pictures(study).items()}


# --- The table -------------------------------------------------------------------------------------------


def test_trials_are_counted_by_how_they_ended_and_complete_ones_alone_have_values() -> None:
    frame = page.frame_of(all_ends())
    assert page.counted(frame) == (
        "slots: 8, trials: 10 (2 complete, 2 died, 2 stopped, 1 pruned, 1 failed, 1 running, 1 waiting)"
    )
    assert frame["trial"].tolist() == list(range(10))
    assert frame["slot"].tolist() == ["0", "1", "2", "2", "3", "4", "5", "5", "6", "7"]
    assert frame.loc[frame["accuracy"].notna(), ["trial", "accuracy"]].to_numpy().tolist() == [[0, 0.9], [3, 0.95]]
    assert frame.loc[0, ["critic_steps", "loss", "seconds", "run_id"]].tolist() == [2, "wgan-gp", 60, "run0"]


def test_the_files_have_a_row_per_trial(files: Path) -> None:
    rows = [line.strip("|").split(" | ") for line in (files / "trials.md").read_text().splitlines()]
    assert [text.strip() for text in rows[0]] == [
        "trial", "slot", "state", "clip_limit", "critic_steps", "epochs", "loss", "accuracy", "seconds", "reason",
    ]  # fmt: skip
    assert [text.strip() for text in rows[3]] == ["1", "1", "pruned", "0.02", "3", "21", "wgan", "-", "5.25", "-"]
    assert rows[6][-1].strip() == "Diverged: <b>the loss</b> is nan \\| at step 40"
    assert len(rows) == 2 + 10
    csv = (files / "trials.csv").read_text().splitlines()
    assert csv[4] == "3,2,complete,0.02,3,22,wgan,0.95,2026-11-20 10:00:00,20000,,run2"


# --- The winner --------------------------------------------------------------------------------------------


def test_the_confirmation_is_a_paired_difference(study: optuna.Study) -> None:
    confirmed([0.93, 0.95, 0.94, 0.5], [0.92, 0.92, 0.92])  # a seed has no partner
    found = confirmation("gan", storages.open_storage("studies.db"))
    assert found
    assert found.frame["seed"].tolist() == [1, 2, 3]
    # Student's t of 2 degrees of freedom: 4.3027 standard errors of 0.01 / sqrt(3).
    assert found.difference[:3] == pytest.approx((0.02, -0.004841, 0.044841), abs=1e-6)
    assert found.words("accuracy", "maximize") == (
        "on 3 fresh seeds not shown to differ: accuracy best - default +0.02 [-0.004841, +0.04484], p = 0.074"
    )
    assert "Against the default, on 3 fresh seeds not shown to differ: accuracy best" in said(study, found)


def test_differences_that_do_not_vary_give_no_interval(study: optuna.Study) -> None:
    confirmed([0.93, 0.95], [0.92, 0.94])
    found = confirmation("gan", storages.open_storage("studies.db"))
    assert found
    assert found.words("accuracy", "maximize") == (
        "on 2 fresh seeds not shown to differ: accuracy best - default +0.01 on each, which gives no interval"
    )


def test_without_fresh_seeds_the_page_says_so(study: optuna.Study) -> None:
    assert confirmation("gan", storages.open_storage("studies.db")) is None
    assert "has not been held against the default on fresh seeds" in said(study)


def test_with_two_objectives_the_best_is_by_the_first_and_the_front_is_named() -> None:
    words = "Best trial 1: cas 0.9, train_seconds 9 (best by cas; on the Pareto front: 1, 2), epochs 21, loss wgan"
    assert words in said(two_objectives())


# --- Pictures ------------------------------------------------------------------------------------------------


def test_pictures_are_of_the_complete_trials_and_of_the_time_of_all() -> None:
    found = drawn(all_ends())
    assert set(found) == {"history", "slices", "parallel", "importances", "timeline"}
    history = found["history"][0]
    assert history.get_ylabel() == "accuracy"
    assert history.collections[0].get_offsets().tolist() == [[0, 0.9], [3, 0.95]]
    slices = found["slices"]
    assert [panel.get_xlabel() for panel in slices[:4]] == ["clip_limit", "critic_steps", "epochs", "loss"]
    assert slices[2].collections[0].get_offsets().tolist() == [[20, 0.9], [22, 0.95]]
    assert len(found["timeline"][0].patches) == 10
    assert not plt.get_fignums()


def test_two_objectives_have_pictures_each_and_the_pareto_front() -> None:
    found = drawn(two_objectives())
    each = {f"{kind}_{name}" for kind in ("history", "slices", "importances") for name in ("cas", "train_seconds")}
    assert set(found) == each | {"pareto", "timeline"}
    assert found["slices_train_seconds"][0].get_ylabel() == "train_seconds"
    front = found["pareto"][0]
    assert (front.get_xlabel(), front.get_ylabel()) == ("cas", "train_seconds")
    dots = dict(zip([text.get_text() for text in front.get_legend().get_texts()], front.collections, strict=True))
    assert sorted(dots["Best Trial"].get_offsets().tolist()) == [[0.85, 4], [0.9, 9]]


def test_importances_are_for_good_values_whichever_way_these_lie() -> None:
    """What is good comes of the loss alone, the worst of it of the epochs."""
    made = make("pareto", ("cas", "train_seconds"), place=None)
    for slot in range(40):
        epochs, loss = 5.0 + (slot * 7) % 40 * 10, ("wgan-gp", "vanilla")[slot % 2]
        values = (0.9, 1.0) if loss == "vanilla" else (epochs / 1000, 1000 - epochs)
        add(made, slot, TrialState.COMPLETE, values, params={"epochs": epochs, "loss": loss})
    found = drawn(made)
    for name in ("cas", "train_seconds"):
        assert [text.get_text() for text in found[f"importances_{name}"][0].get_yticklabels()] == ["epochs", "loss"]


@pytest.mark.parametrize(
    ("values", "ranges", "expected"),
    [
        ([0.9], SPACE, {"history", "slices", "parallel", "timeline"}),
        ([0.9, 0.9, 0.9], SPACE, {"history", "slices", "parallel", "timeline"}),
        ([0.7, 0.8, 0.9], {"epochs": FloatDistribution(5, 5)}, {"history", "slices", "parallel", "timeline"}),
        ([0.7, 0.8, 0.9], {}, {"history", "timeline"}),
    ],
    ids=["one trial", "one value", "a range of one value", "no parameter"],
)
def test_a_study_of_little_has_what_pictures_it_can(
    values: list[float], ranges: dict[str, BaseDistribution], expected: set[str], tmp_path: Path
) -> None:
    made = make("gan", place=None)
    params = {name: {"epochs": 5.0, "loss": "wgan", "critic_steps": 2}.get(name, 0.01) for name in ranges}
    for slot, value in enumerate([0.99, *values]):
        state, own = (TrialState.COMPLETE if slot else TrialState.PRUNED), {"slot": str(slot)}
        made.add_trial(create_trial(state=state, value=value, params=params, distributions=ranges, user_attrs=own))
    *_, paths = page.write(made, None, tmp_path / "out")
    pictures = [path for path in paths if path.suffix == ".png"]
    assert {path.stem for path in pictures} == expected
    for path in pictures:
        with Image.open(path) as picture:
            assert min(picture.size) > pages.DPI


# --- The page ------------------------------------------------------------------------------------------------


def test_the_page_has_all_in_itself_and_takes_no_word_for_markup(files: Path) -> None:
    text = (files / "study.html").read_text(encoding="utf-8")
    assert not re.search(r"https?://|<script|url\(", text)
    assert [source[:22] for source in re.findall(r'src="([^"]*)"', text)] == 5 * ["data:image/png;base64,"]
    assert "Diverged: &lt;b&gt;the loss&lt;/b&gt; is nan | at step 40" in text
    for words in (
        "<title>Study gan</title>", "Slots: 8, trials: 10 (2 complete", "Best trial 3: accuracy 0.95", "run run2.",
        "data: digits 1f89b7149c35ec60", "objectives: accuracy maximize", "fixed: steps 400",
        "of 2 complete trials. Fewer than 50 give a hint at most.",
    ):  # fmt: skip
        assert words in text


# --- From the command's point of view ------------------------------------------------------------------------


def test_the_command_reads_the_one_study_and_adds_its_files_to_its_run(
    study: optuna.Study, tmp_path: Path, capsys: pytest.CaptureFixture, store: str
) -> None:
    confirmed([0.93, 0.95, 0.94], [0.92, 0.92, 0.92])
    make("comparison").set_user_attr("definition", {"comparison": "abc"})
    client = tracking.client(store)
    experiment = client.create_experiment("studies", (tmp_path / "artifacts").as_uri())
    study.set_user_attr("parent_run", client.create_run(experiment).info.run_id)
    page.main(storage="studies.db", tracking_uri=store)
    out, err = capsys.readouterr()
    assert "on 3 fresh seeds not shown to differ" in out
    assert out.endswith("page: outputs/tables/studies/gan/study.html\n")
    assert err == ""
    logged = [file.path for file in client.list_artifacts(study.user_attrs["parent_run"], "study")]
    assert logged == sorted(f"study/{path.name}" for path in Path("outputs/tables/studies/gan").iterdir())


@pytest.mark.usefixtures("agent")
def test_a_study_that_went_on_leaves_no_figure_of_its_earlier_winner(study: optuna.Study, store: str) -> None:
    def answer(**which: Any) -> str:
        with tracking.run("studies", "gan", tags={}, params={}, tracking_uri=store, **which) as run:
            study_answer.log(run, "gan", storages.open_storage("studies.db"), "[gan]\nepochs = 5\n", is_over=True)
        return run.id

    confirmed([0.93, 0.95, 0.94], [0.92, 0.92, 0.92])
    parent = answer()
    client = tracking.client(store)
    before = client.get_run(parent).data
    ends = {"complete": 2, "pruned": 1, "failed": 1, "stopped": 2, "died": 2}
    assert {f"trials/{name}": number for name, number in ends.items()}.items() <= before.metrics.items()
    fresh = [before.metrics[f"confirmation/{name}"] for name in ("difference", "p")]
    assert fresh == pytest.approx([0.02, 0.0742], rel=1e-3)
    assert (before.metrics["best/accuracy"], before.tags["best_trial"], before.tags["best_run"]) == (0.95, "3", "run2")
    assert {name: before.tags[f"best/{name}"] for name in SPACE} == {
        "epochs": "22.0", "loss": "wgan", "critic_steps": "3", "clip_limit": "0.02",
    }  # fmt: skip
    told = page.importances(study).set_index("importance of")["accuracy"]
    assert {f"importance/{name}": share for name, share in told.items()}.items() <= before.metrics.items()

    add(study, 8, TrialState.COMPLETE, [0.97], minute=9, params={"loss": "vanilla", "critic_steps": 1})
    answer(of=parent)
    after = client.get_run(parent).data
    assert (after.metrics["best/accuracy"], after.metrics["trials/complete"]) == (0.97, 3)
    assert (after.tags["best_trial"], after.tags["best_run"]) == ("10", "run8")
    assert (after.tags["best/clip_limit"], after.tags["best/loss"]) == ("-", "vanilla")
    assert all(math.isnan(after.metrics[f"confirmation/{name}"]) for name in ("difference", "low", "high", "p"))
    words = after.tags["mlflow.note.content"]
    assert words.startswith("**gan**: Slots: 9, trials: 11 (3 complete")
    assert "has not been held against the default on fresh seeds" in words
    assert [line.split("|")[1].strip() for line in words.splitlines() if "#/runs/" in line] == [
        "[10](#/runs/run8)", "[3](#/runs/run2)", "[0](#/runs/run0)",
    ]  # fmt: skip
    assert "```toml\n[gan]\nepochs = 5\n```" in words
    kept = {Path(file.path).name for file in client.list_artifacts(parent, "study")}
    assert {"study.html", "history.png", "importances.csv", "trials.md", "confirmation_3.csv"} <= kept


def test_two_objectives_have_importances_each() -> None:
    made = two_objectives()
    winner = storages.best(made)
    assert winner
    found = study_answer.figures(made, winner, None, has_confirmed=False)
    assert (found["best/cas"], found["best/train_seconds"]) == (0.9, 9.0)
    assert {name for name in found if name.startswith("importance/")} == {
        f"importance/{objective}/{name}" for objective in ("cas", "train_seconds") for name in SPACE
    }
    assert not [name for name in found if name.startswith("confirmation/")]


@pytest.mark.usefixtures("agent")
def test_a_study_without_a_complete_trial_says_how_its_trials_ended(store: str) -> None:
    made = make("young")
    add(made, 0, TrialState.FAIL, reason=REASON)
    with tracking.run("studies", "young", tags={}, params={}, tracking_uri=store) as run:
        study_answer.log(run, "young", storages.open_storage("studies.db"), "", is_over=False)
    said = tracking.client(store).get_run(run.id).data
    assert (said.metrics["trials/failed"], said.metrics["trials/complete"]) == (1, 0)
    assert said.tags["mlflow.note.content"] == "No trial is complete yet: slots: 1, trials: 1 (1 failed)."


def test_a_store_without_the_run_is_said_and_is_not_made(capsys: pytest.CaptureFixture) -> None:
    page.keep("0" * 32, [], "sqlite:///none.db")
    assert capsys.readouterr().err == (
        "not added to the study's run: there is no MLflow store at sqlite:///none.db; run an experiment first or give "
        "--tracking-uri\n"
    )
    assert not Path("none.db").exists()


@pytest.mark.parametrize(
    ("name", "place", "message"),
    [
        ("vae", "studies.db", "no study 'vae' in studies.db; there are gan, empty, dead"),
        ("gan confirmation 3", "studies.db", "no study 'gan confirmation 3' in studies.db; there are gan"),
        (None, "studies.db", "a study must be named in studies.db; there are gan, empty, dead"),
        ("empty", "studies.db", r"no trial of the study empty is complete \(none has begun\)"),
        (
            "dead",
            "studies.db",
            r"no trial of the study dead is complete \(slots: 2, trials: 2 \(1 failed, 1 pruned",
        ),
        ("gan", "none.journal", "there are no studies in none.journal"),
        ("gan", "sqlite:///none.db", "there are no studies in sqlite:///none.db"),
    ],
)
def test_what_cannot_be_shown_is_one_line_and_nothing_is_made(
    name: str | None, place: str, message: str, study: optuna.Study, tmp_path: Path
) -> None:
    confirmed([0.9, 0.9], [0.9, 0.8])
    make("empty")
    dead = make("dead")
    add(dead, 0, TrialState.FAIL, reason=REASON)
    add(dead, 1, TrialState.PRUNED, [0.99])
    before = set(tmp_path.iterdir())
    with pytest.raises(InputError, match=message) as refused:
        page.main(name, storage=place)
    assert "\n" not in str(refused.value)
    assert set(tmp_path.iterdir()) == before


def test_the_command_takes_the_name_first_and_ends_with_2(
    study: optuna.Study, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(sys, "argv", ["studies.py", "vae", "--storage", "studies.db"])
    with pytest.raises(SystemExit) as end:
        cli.main(page.main)
    out, err = capsys.readouterr()
    assert (end.value.code, out) == (2, "")
    assert err == "studies.py: no study 'vae' in studies.db; there are gan\n"


# --- The dashboard ---------------------------------------------------------------------------------------------


def test_the_dashboard_shows_a_storage_on_loopback_and_leaves_it_as_it_is(study: optuna.Study) -> None:
    before, port = Path("studies.db").read_bytes(), free_port()
    command = [Path(sys.executable).with_name("optuna-dashboard"), "sqlite:///studies.db", "--host", "127.0.0.1"]
    server = subprocess.Popen([*map(str, command), "--port", str(port)])
    try:
        summaries = answer(f"http://127.0.0.1:{port}/api/studies")["study_summaries"]
        with socket.socket() as outside, pytest.raises(ConnectionRefusedError):
            outside.connect(("127.0.0.2", port))
    finally:
        server.terminate()
        server.wait(20)
    assert [summary["study_name"] for summary in summaries] == ["gan"]
    assert Path("studies.db").read_bytes() == before


def answer(url: str, patience_s: float = 60) -> Any:
    until = time.monotonic() + patience_s
    while True:
        try:
            with urllib.request.urlopen(url, timeout=10) as reply:
                return json.load(reply)
        except OSError:
            if time.monotonic() > until:
                raise
        time.sleep(0.1)
