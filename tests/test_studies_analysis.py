"""Studies made by hand, read as tables, pictures and a page; nothing is trained."""

import json
import math
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest
import ui_pictures
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial
from PIL import Image
from servers import free_port, installed

from analysis import studies as page
from analysis import study_plots as plots
from analysis.study_reading import Reading, counted, read
from harness import cli, tracking
from harness.errors import InputError
from harness.studies import storages
from harness.studies.confirmation import confirmation

GOLDEN = Path(__file__).parent / "golden"
SPACE: dict[str, BaseDistribution] = {
    "epochs": FloatDistribution(5.0, 500.0, log=True),
    "loss": CategoricalDistribution(("vanilla", "wgan", "wgan-gp")),
    "critic_steps": IntDistribution(1, 5),
    "clip_limit": FloatDistribution(0.003, 0.1, log=True),
}
WGAN = {"loss": "wgan", "critic_steps": 3, "clip_limit": 0.02}
BEGIN = datetime(2026, 11, 20, 9)
REASON = "Diverged: <b>the loss</b> is nan | at step 40"


def make(name: str, objectives: Sequence[str] = ("accuracy",), place: str = "studies.db") -> optuna.Study:
    directions = ["minimize" if "seconds" in objective else "maximize" for objective in objectives]
    storage = storages.open_storage(place)
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


def all_ends(place: str = "studies.db") -> optuna.Study:
    """8 trials in 10 attempts, all ends among them; trial 3 is its slot's second attempt and the best."""
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
    return all_ends()


Shown = tuple[Reading, set[str], str, Path]


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Shown:
    """That study as read, the names of its files, its page, and where they are."""
    folder = tmp_path_factory.mktemp("shown")
    return *written(all_ends(str(folder / "studies.db")), folder / "out"), folder / "out"


def two_objectives() -> optuna.Study:
    made = make("pareto", ("cas", "train_seconds"))
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


def written(study: optuna.Study, out: Path) -> tuple[Reading, set[str], str]:
    """The study as read, the names of its files, and the page."""
    reading = read(study)
    out.mkdir()
    paths = page.write(reading, None, out)
    return reading, {path.name for path in paths}, out.joinpath("study.html").read_text(encoding="utf-8")


# --- Counts and tables -----------------------------------------------------------------------------------


def test_trials_are_counted_by_how_they_ended_and_attempts_before_the_last_apart(study: optuna.Study) -> None:
    reading = read(study)
    assert counted(reading.attempts) == (
        "8 trials: 2 complete, 1 pruned, 1 failed, 1 stopped, 1 died, 1 running, 1 waiting; "
        "2 earlier attempts (1 stopped, 1 died) were tried again"
    )
    assert reading.trials["slot"].tolist() == ["0", "1", "2", "3", "4", "5", "6", "7"]
    assert reading.best == 3


def test_one_is_singular() -> None:
    made = make("gan")
    add(made, 0, TrialState.FAIL)
    add(made, 0, TrialState.COMPLETE, [0.5])
    assert counted(read(made).attempts) == (
        "1 trial: 1 complete, 0 pruned, 0 failed, 0 stopped, 0 died; 1 earlier attempt (1 died) was tried again"
    )


@pytest.mark.parametrize("name", ["trials.md", "trials.csv"])
def test_the_tables_are_those_stored(name: str, shown: Shown) -> None:
    new, golden = shown[-1] / name, GOLDEN / f"study_{name}"
    assert new.read_text(encoding="utf-8") == golden.read_text(encoding="utf-8"), f"if it should be: cp {new} {golden}"


def test_the_key_parameters_come_first_and_a_pruned_trial_has_no_value(study: optuna.Study) -> None:
    reading = read(study)
    assert list(reading.parameters) == ["clip_limit", "critic_steps", "epochs", "loss"]
    assert reading.trials["objective/accuracy"].notna().sum() == 2
    assert reading.trials["params.critic_steps"].dtype == "Int64"


# --- The winner --------------------------------------------------------------------------------------------


def test_the_confirmation_is_a_paired_difference(study: optuna.Study) -> None:
    confirmed([0.93, 0.95, 0.94, 0.5], [0.92, 0.92, 0.92])  # a seed has no partner
    found = confirmation("gan", storages.open_storage("studies.db"))
    assert found
    assert found.frame["seed"].tolist() == [1, 2, 3]
    # Student's t of 2 degrees of freedom: 4.3027 standard errors of 0.01 / sqrt(3).
    assert (found.difference, found.low, found.high) == pytest.approx((0.02, -0.004841, 0.044841), abs=1e-6)
    assert found.words("accuracy", "maximize") == (
        "on 3 fresh seeds not shown to differ: accuracy best - default +0.02 [-0.004841, +0.04484], p = 0.074"
    )
    words = page.markdown(read(study), found)
    assert "Against the default, on 3 fresh seeds not shown to differ: accuracy best - default +0.02" in words


def test_differences_that_do_not_vary_give_no_interval(study: optuna.Study) -> None:
    confirmed([0.93, 0.95], [0.92, 0.94])
    found = confirmation("gan", storages.open_storage("studies.db"))
    assert found
    assert found.words("accuracy", "maximize") == (
        "on 2 fresh seeds not shown to differ: accuracy best - default +0.01 on each, which gives no interval"
    )


def test_without_fresh_seeds_the_page_says_so(study: optuna.Study) -> None:
    assert confirmation("gan", storages.open_storage("studies.db")) is None
    assert "has not been held against the default on fresh seeds" in page.markdown(read(study), None)


# --- Pictures ------------------------------------------------------------------------------------------------


def test_one_objective_gives_every_picture_but_the_front(shown: Shown) -> None:
    _, names, text, out = shown
    expected = {"history.png", "importances.png", "slices.png", "parallel.png", "timeline.png"}
    assert names == expected | {"trials.md", "trials.csv", "study.html"}
    for name in expected:
        assert (out / name).stat().st_size < 200_000
        with Image.open(out / name) as picture:
            assert min(picture.size) > 150
    assert "Pareto" not in text


def test_two_objectives_give_the_pareto_front(tmp_path: Path) -> None:
    reading, names, text = written(two_objectives(), tmp_path / "out")
    assert list(reading.front) == [1, 2]
    assert "pareto.png" in names
    assert '<img alt="Pareto front"' in text
    assert "Best trial 1: cas 0.9, train_seconds 9 (best by cas); on the Pareto front: 1, 2." in text
    panel = plots.pareto(reading).axes[0]
    assert [note.get_text() for note in panel.texts] == ["2", "1"]  # from the left
    assert panel.get_ylabel() == "training [device-seconds], lower is better"


def test_pictures_name_their_objective_and_mark_what_has_no_value(shown: Shown) -> None:
    reading = shown[0]
    panel = plots.history(reading).axes[0]
    assert panel.get_ylabel() == "validation accuracy (0 … 1)"
    ticks = {line.get_color(): list(line.get_xdata()) for line in panel.lines if line.get_marker() == "|"}
    assert {colour: ticks[colour] for colour in (plots.COLOURS["pruned"], plots.COLOURS["died"])} == {
        plots.COLOURS["pruned"]: [1], plots.COLOURS["died"]: [7],
    }  # fmt: skip
    labels = [panel.get_xlabel() for panel in plots.slices(reading).axes]
    assert labels[:2] == ["clip_limit\n(in 6 of 8 trials)", "critic_steps\n(in 7 of 8 trials)"]
    texts = [text.get_text() for text in plots.parallel(reading).axes[0].texts]
    assert {"unused", "wgan-gp", "validation accuracy\n(0 … 1)"} <= set(texts)


def test_attempts_at_once_have_lanes_and_long_pauses_are_cut_out() -> None:
    made = make("gan")
    for slot, (minute, took_s) in enumerate([(0, 3_000), (1, 60), (60, 20_000), (60 * 24, 4_000)]):
        add(made, slot, TrialState.COMPLETE, [0.9], minute=minute, took_s=took_s)
    panel = plots.timeline(read(made)).axes[0]
    assert len({bar.get_y() for bar in panel.patches}) == 2  # trial 1 beside trial 0
    assert [text.get_text() for text in panel.texts if "pause" in text.get_text()] == ["pause of 17 h"]
    assert panel.get_xlim()[1] < 8  # hours
    assert panel.get_xlabel() == "time since the first trial began [h], pauses left out"


def test_one_complete_trial_has_no_importances_and_a_sentence_that_says_why(tmp_path: Path) -> None:
    made = make("gan")
    add(made, 0, TrialState.COMPLETE, [0.9])
    _, names, text = written(made, tmp_path / "out")
    assert "importances.png" not in names
    assert "importances need at least two complete trials, and there is one" in text


def test_trials_of_one_value_and_of_no_parameter_have_what_pictures_they_can(tmp_path: Path) -> None:
    made = make("gan")
    for slot in range(3):
        made.add_trial(create_trial(value=0.9, user_attrs={"slot": str(slot)}))
    _, names, text = written(made, tmp_path / "out")
    assert {name for name in names if name.endswith(".png")} == {"history.png", "timeline.png"}
    assert "the 3 complete trials do not tell the parameters apart" in text
    assert text.count("the study searched no hyperparameter") == 2


@pytest.mark.parametrize(
    ("among", "values", "places", "texts"),
    [
        (FloatDistribution(0.0, 2.0), [0.0, 1.0, None], [0, 0.5, math.nan], ["0", "0.5", "1", "1.5", "2"]),
        (FloatDistribution(1e-4, 1e-2, log=True), [1e-3], [0.5], ["0.0001", "0.0003", "0.001", "0.003", "0.01"]),
        (FloatDistribution(0.004, 0.006, log=True), [0.004], [0], ["0.004", "0.006"]),
        (IntDistribution(1, 5), [5, 1], [1, 0], ["1", "2", "3", "4", "5"]),
        (IntDistribution(3, 3), [3, None], [0.5, math.nan], ["3"]),
        (CategoricalDistribution((8, 16, 32)), [16, None], [0.5, math.nan], ["8", "16", "32"]),
        (CategoricalDistribution(("wgan",)), ["wgan"], [0.5], ["wgan"]),
    ],
    ids=str,
)
def test_values_have_their_places_on_an_axis(
    among: BaseDistribution, values: list[Any], places: list[float], texts: list[str]
) -> None:
    column = pd.Series(values, dtype="Int64" if isinstance(among, IntDistribution) else None)
    np.testing.assert_allclose(plots.places(among, column), places, atol=1e-12)
    at, said = plots.ticks(among)
    assert said == texts
    assert ((at >= -1e-9) & (at <= 1 + 1e-9)).all()


# --- The page ------------------------------------------------------------------------------------------------


def test_the_page_has_all_in_itself_and_takes_no_word_for_markup(shown: Shown) -> None:
    text = shown[2]
    assert not re.search(r"https?://|<script|url\(", text)
    assert {source[:22] for source in re.findall(r'src="([^"]*)"', text)} == {"data:image/png;base64,"}
    assert re.findall(r'href="([^"]*)"', text) == ["data:,"]
    assert "Diverged: &lt;b&gt;the loss&lt;/b&gt; is nan | at step 40" in text
    assert "8 trials: 2 complete, 1 pruned, 1 failed, 1 stopped, 1 died" in text
    for words in ("Best trial 3: accuracy 0.95. Its run is run2.", "digits 1f89b7149c35ec60", "accuracy (maximize)"):
        assert words in text


def test_a_browser_shows_the_page_and_asks_for_nothing(shown: Shown) -> None:
    installed(ui_pictures.chromium)
    address = (shown[-1] / "study.html").as_uri()
    said, asked = [], []
    with ui_pictures.browser() as tab:
        tab.on("console", lambda message: said.append(message.text))
        tab.on("pageerror", lambda error: said.append(str(error)))
        tab.on("request", lambda request: asked.append(request.url))
        tab.goto(address)
        assert tab.title() == "Study gan"
        widths = tab.evaluate("[...document.images].map(image => image.naturalWidth)")
        overflow = tab.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert said == []
    assert [url for url in asked if not url.startswith("data:")] == [address]
    assert len(widths) == 5
    assert min(widths) > 150
    assert overflow == 0


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
        ("empty", "studies.db", "the study empty has no trial yet"),
        (
            "dead",
            "studies.db",
            r"no trial of the study dead is complete \(1 trial: 0 complete, 0 pruned, 1 failed",
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
    add(make("dead"), 0, TrialState.FAIL, reason=REASON)
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
