"""What MLflow's pages show of a comparison and of studies, read in a browser and kept as pictures.

python tests/ui_pictures.py --store sqlite:///outputs/mlflow.db --out analysis/results/ui

Needs a finished comparison of three methods (compare.py --methods ddpm vae gan), a finished study, and Debian's
chromium.
"""

import contextlib
import json
import re
import shutil
import sys
import tempfile
import time
import urllib.parse
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from PIL import Image
from playwright.sync_api import HttpCredentials, Locator, Page, expect, sync_playwright

sys.path.insert(0, str(Path(__file__).parent.parent))

from servers import TrackingServer

from harness import cli, tracking
from harness.errors import InputError
from harness.tracking import views

SIZE = {"width": 1400, "height": 900}
PATIENCE_MS = 60_000  # a page's first look at a busy machine
expect.set_options(timeout=PATIENCE_MS)
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
# MLflow's chat would cover a third of each page.
NO_ASSISTANT = """
localStorage.setItem('mlflow.assistant.fab.autoOpenedOnFirstLoad_v1', 'true');
localStorage.setItem('mlflow.assistant.panelOpen_v1', 'false');
"""
RANKED = "validation/cas"
VALUES_PX = 400  # from the names of metrics to their values
IS_PAINTED = """
canvas => canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.some(value => value)
"""
SHOWN = 9
"""Trials that a chart shows, beside their study, before it is asked for more."""
KEYS = ("latent_size", "schedule", "clip_limit", "critic_steps")
SCORES = ("samples/conditional_accuracy", "test/cas")


@dataclass(frozen=True)
class Comparison:
    """A comparison's parent run, and the three methods' generators with one seed and number of real images."""

    experiment_id: str
    parent: pd.Series
    children: pd.DataFrame
    generators: pd.DataFrame


def newest_comparison(store: str) -> Comparison:
    """Raises InputError where none has three generators."""
    runs = tracking.read_runs("attributes.status = 'FINISHED'", tracking_uri=store)
    for parent in runs[runs["tags.kind"] == "comparison"].to_dict("records"):
        children = runs[runs.parent_run_id == parent["run_id"]]
        generators = children[children["tags.kind"] == "generator"]
        for _, group in generators.groupby(["tags.n_real", "tags.seed"]):
            if group["tags.method"].nunique() == 3:
                known = tracking.client(store).get_experiment_by_name(parent["experiment"])
                return Comparison(known.experiment_id, pd.Series(parent), children, group.sort_values("tags.method"))
    raise InputError(f"no finished comparison of three methods in {store}: compare.py --methods ddpm vae gan makes one")


@dataclass(frozen=True)
class Study:
    """A study's run, its trials that have ended, and the params and the objectives that all of these have."""

    experiment_id: str
    run: pd.Series
    trials: pd.DataFrame
    searched: Sequence[str]
    objectives: Sequence[str]


def finished_studies(store: str) -> list[Study]:
    """The newest first. Raises InputError where none has finished."""
    runs = tracking.read_runs("attributes.status = 'FINISHED'", tracking_uri=store)
    studies = [study_of(study, runs, store) for _, study in runs[runs["tags.kind"] == "study"].iterrows()]
    if not studies:
        raise InputError(f"no finished study in {store}: tune.py vae makes one")
    return studies


def study_of(study: pd.Series, runs: pd.DataFrame, store: str) -> Study:
    trials = runs[(runs.parent_run_id == study.run_id) & (runs["tags.kind"] == "trial")].dropna(axis=1)
    known = tracking.client(store).get_experiment_by_name(study["experiment"])
    searched = [name for name in json.loads(study["params.space"]) if f"params.{name}" in trials]
    objectives = [name.removeprefix("metrics.") for name in trials if name.startswith("metrics.objective/")]
    return Study(known.experiment_id, study, trials, searched, objectives)


def chromium() -> str:
    program = shutil.which("chromium")
    if not program:
        raise InputError("chromium is not installed: apt-get install chromium")
    return program


@contextlib.contextmanager
def browser(login: HttpCredentials | None = None) -> Iterator[Page]:
    """A page of Debian's chromium, with a profile of its own; raises InputError where there is none."""
    program = chromium()
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as profile:
        context = playwright.chromium.launch_persistent_context(
            profile, executable_path=program, args=list(FLAGS), viewport=SIZE, http_credentials=login
        )
        context.set_default_timeout(PATIENCE_MS)
        context.add_init_script(NO_ASSISTANT)
        yield context.new_page()
        context.close()


def keep(page: Page, path: Path, height: int = SIZE["height"]) -> None:
    """A picture of what the page shows now, down to a height."""
    page.screenshot(path=path, animations="disabled", clip={"x": 0, "y": 0, "width": SIZE["width"], "height": height})


def runs_table(page: Page, uri: str, found: Comparison) -> None:
    """The parent with a gain, its children below it, and their accuracies as columns."""
    page.goto(f"{uri}/#/experiments/{found.experiment_id}/runs")
    expect(page.get_by_text("matching runs")).to_be_visible()
    page.get_by_label("Toggle sidebar").click()
    for column in (f"test/gain/{found.generators['tags.method'].iloc[0]}", "test/cas", "test/accuracy"):
        page.get_by_test_id("column-selection-dropdown").filter(has_text="Columns").click()
        page.get_by_placeholder("Search columns").fill(column)
        # A group of one is folded up, and may stand beside what it holds.
        named = page.locator(".du-bois-light-tree-treenode").filter(has_text=re.compile(rf"^({column}|Metrics \(1\))$"))
        named.locator(".du-bois-light-tree-checkbox").last.click()
        page.keyboard.press("Escape")
    parent = page.locator(f"a[href$='/runs/{found.parent.run_id}']")
    expect(parent).to_have_text(found.parent["name"])
    for child in found.generators.run_id:
        expect(page.locator(f"a[href$='/runs/{child}']")).to_have_count(0)  # folded away
    page.get_by_role("gridcell").filter(has=parent).get_by_role("button").first.click()
    first = found.children.iloc[0]
    expect(page.locator(f"a[href$='/runs/{first.run_id}']")).to_have_text(first["name"])


def answer_page(page: Page, uri: str, found: Comparison) -> None:
    """The comparison's own page: its table as the description, and each arm's gain."""
    page.goto(f"{uri}/#/experiments/{found.experiment_id}/runs/{found.parent.run_id}")
    expect(page.get_by_role("heading", name=found.parent["name"])).to_be_visible()
    page.get_by_text("Show more").first.click()
    for heading in ("gain, points", "p (Holm)"):
        expect(page.get_by_role("columnheader", name=heading)).to_be_visible()
    for method in found.generators["tags.method"]:
        expect(page.get_by_role("link", name=f"test/gain/{method}")).to_have_count(1)


def answer_file(page: Page, uri: str, found: Comparison) -> None:
    """The page of all its tables, pictures and samples among the artifacts."""
    page.goto(f"{uri}/#/experiments/{found.experiment_id}/runs/{found.parent.run_id}/artifacts/answer.html")
    shown = page.frame_locator("iframe").first
    expect(shown.get_by_role("heading", name="Accuracy")).to_be_visible()
    expect(shown.get_by_role("heading", name="Samples")).to_be_attached()


def learning_curve(page: Page, uri: str, found: Comparison) -> None:
    """Gains by the number of real images, a chart an arm."""
    page.goto(f"{uri}/#/experiments/{found.experiment_id}/runs/{found.parent.run_id}/model-metrics")
    expect(page.get_by_role("heading", name=found.parent["name"])).to_be_visible()
    page.get_by_placeholder("Search metric charts").fill("test/gain/")
    arms = set(found.children.loc[found.children["tags.kind"] == "classifier", "tags.method"]) - {"none"}
    sections = page.get_by_test_id("experiment-view-compare-runs-section-header")
    expect(sections).to_have_count(1)  # those of other metrics have gone
    expect(sections).to_contain_text(f"({len(arms)})")
    expect(page.locator("svg.main-svg").first).to_be_visible()


def compare_page(page: Page, uri: str, found: Comparison) -> None:
    """Three methods side by side: the same names of metrics in one table."""
    page.goto(f"{uri}/#/compare-runs?runs={_ids(found)}&experiments={json.dumps([found.experiment_id])}")
    expect(page.get_by_text("Comparing 3 Runs from 1 Experiment")).to_be_visible()
    for name in found.generators["name"]:
        expect(page.get_by_text(name, exact=True).first).to_be_visible()
    for heading in ("Visualizations", "Parameters"):
        page.get_by_role("button", name=heading).click()
    for metric in SCORES:
        expect(_metric(page, metric)).to_be_visible()
        for value in found.generators[f"metrics.{metric}"]:
            shown = page.get_by_text(f"{value:.3f}".rstrip("0").rstrip("."), exact=True)
            expect(shown.filter(visible=True).first).to_be_visible()


def metric_chart(page: Page, uri: str, found: Comparison) -> None:
    """The curves of a metric that all three have, from the compare page."""
    link = _metric(page, "test/cas").get_attribute("href") or ""
    page.goto(f"{uri}/{link.replace('test%2Fcas', 'looks%2Fconditional_accuracy')}")  # whose own is drawn when seen
    for name in found.generators["name"]:
        expect(page.get_by_text(f"{name} (looks/conditional_accuracy)").first).to_be_visible()


def saved_view(page: Page, uri: str, found: Comparison) -> None:
    """The harness's own charts under `Views`: mean curves over seeds, and a GAN's two players in one."""
    page.goto(views.addresses(found.experiment_id, uri)[views.NAMES[views.SEEDS]])
    page.get_by_label("Toggle sidebar").click()
    expect(page.get_by_role("button", name=views.NAMES[views.SEEDS])).to_be_visible()
    charts = page.get_by_test_id("experiment-view-compare-runs-card")
    players = charts.filter(has_text=" vs ".join(views.PLAYERS))
    for method in found.generators["tags.method"]:
        expect(page.get_by_text(re.compile(rf"^Group: .*{method}")).first).to_be_visible()
        expect(charts.first.get_by_text(re.compile(rf"{method}.*looks/conditional_accuracy")).first).to_be_attached()
    for name in views.PLAYERS:
        expect(players.get_by_text(re.compile(rf"gan.*\({name}\)")).first).to_be_attached()


def stepped_images(page: Page, uri: str, found: Comparison) -> None:
    """The samples of a run in training, under a slider over steps; the last of them is shown."""
    run = found.generators.iloc[0]
    page.goto(f"{uri}/#/experiments/{found.experiment_id}/runs/{run.run_id}/model-metrics")
    expect(page.get_by_role("heading", name=run["name"])).to_be_visible()
    page.get_by_placeholder("Search metric charts").fill("^samples$")  # all other charts would be drawn on the way
    card = page.get_by_test_id("experiment-view-compare-runs-card").filter(has=page.get_by_role("slider"))
    card.get_by_role("button").first.click()  # over the whole page
    slider = page.get_by_role("dialog").get_by_role("slider")
    first, last = (int(slider.get_attribute(name) or 0) for name in ("aria-valuemin", "aria-valuemax"))
    assert 0 <= first < last, "one picture is no sequence"
    page.get_by_role("dialog").get_by_role("spinbutton").fill(str(last))
    page.keyboard.press("Tab")
    expect(slider).to_have_attribute("aria-valuenow", str(last))
    picture = page.get_by_role("dialog").locator("img")
    expect(picture).to_have_attribute("src", re.compile(rf"step%2B{last}%2B"))
    page.wait_for_function("image => image.naturalWidth > 0", arg=picture.element_handle())
    picture.evaluate("image => image.scrollIntoView({block: 'center'})")


def model_page(page: Page, uri: str, found: Comparison) -> None:
    """The generator as a model: its description with figures and samples, its metrics, the run that it is from."""
    run = found.generators.iloc[0]
    outputs = tracking.client(uri).get_run(run.run_id).outputs
    page.goto(f"{uri}/#/experiments/{found.experiment_id}/models/{outputs.model_outputs[0].model_id}")
    expect(page.get_by_role("heading", name="generator")).to_be_visible()
    expect(page.get_by_text("Ready", exact=True)).to_be_visible()
    expect(page.get_by_role("link", name=run["name"]).first).to_be_visible()
    expect(page.get_by_text("generate.py --run")).to_be_visible()
    figure = run[f"metrics.{RANKED}"]
    expect(page.get_by_role("row").filter(has_text=RANKED).get_by_text(f"{figure:.2%}", exact=True)).to_be_visible()
    expect(page.get_by_role("row").filter(has_text=RANKED).get_by_text(str(figure), exact=True)).to_be_attached()
    samples = page.locator(f"img[src*='{run.run_id}']")
    page.wait_for_function("image => image.naturalWidth > 0", arg=samples.element_handle())


def study_page(page: Page, uri: str, found: Study) -> None:
    """The study's own page: what it came to as its description, and its figures."""
    page.goto(f"{uri}/#/experiments/{found.experiment_id}/runs/{found.run.run_id}")
    expect(page.get_by_role("heading", name=found.run["name"])).to_be_visible()
    page.get_by_text("Show more").first.click()
    expect(page.get_by_text(re.compile("Best trial")).first).to_be_visible()
    expect(page.get_by_role("columnheader", name="trial", exact=True).first).to_be_visible()
    expect(page.get_by_role("link", name=re.compile("^best.")).first).to_be_attached()


def open_trials(page: Page, uri: str, found: Study) -> None:
    """The page of a study's trials, which can be asked for charts."""
    trials = urllib.parse.quote(f"tags.study = '{found.run['name']}' and tags.kind = 'trial'")
    page.goto(f"{uri}/#/experiments/{found.experiment_id}/runs?searchFilter={trials}&compareRunsMode=CHART")
    parent = page.locator(f"a[href$='/runs/{found.run.run_id}']")
    expect(parent).to_have_text(found.run["name"])
    page.get_by_label("Toggle sidebar").click()
    page.get_by_role("gridcell").filter(has=parent).get_by_role("button").first.click()  # its trials, folded away
    for trial in found.trials.run_id:
        expect(page.locator(f"a[href$='/runs/{trial}']")).to_be_visible()


def parallel_coordinates(page: Page, found: Study) -> None:
    """The trials' lines through their hyperparameters to the objectives."""
    with _new_chart(page, "Parallel coordinates"):
        _choose(page, "Params", found.searched)
        _choose(page, "Metrics", found.objectives)
    card = page.get_by_test_id("experiment-view-compare-runs-card").filter(has_text="Parallel Coordinates")
    card.get_by_role("button").first.click()  # where axes have their whole names
    chart = page.get_by_role("dialog").locator(".parcoords")
    expect(chart.locator(".label")).to_have_text([*found.searched, *found.objectives])
    page.wait_for_function(IS_PAINTED, arg=chart.locator("canvas.foreground").element_handle())


def scatter(page: Page, found: Study, param: str) -> None:
    """The trials' first objective by a hyperparameter."""
    with _new_chart(page, "Scatter chart"):
        _choose(page, "X axis", [param])
        _choose(page, "Y axis", found.objectives[:1])
        chart = page.get_by_role("dialog").locator(".js-plotly-plot")
        expect(chart.locator(".xtitle")).to_have_text(param)
        expect(chart.locator(".ytitle")).to_have_text(found.objectives[0])
        expect(chart.locator(".point")).to_have_count(min(SHOWN, len(found.trials)))
    card = page.get_by_test_id("experiment-view-compare-runs-card").filter(has_text=f"{param} vs")
    card.get_by_role("button").first.click()
    expect(page.get_by_role("dialog").locator(".point")).to_have_count(min(SHOWN, len(found.trials)))


PAGES = {
    "runs": runs_table,
    "answer": answer_page,
    "answer_file": answer_file,
    "learning_curve": learning_curve,
    "compare": compare_page,
    "curves": metric_chart,
    "views": saved_view,
    "images": stepped_images,
    "model": model_page,
}


def _ids(found: Comparison) -> str:
    return json.dumps(list(found.generators.run_id), separators=(",", ":"))


@contextlib.contextmanager
def _new_chart(page: Page, kind: str) -> Iterator[None]:
    """A chart that MLflow draws when it is asked for it; in the block it is made."""
    page.get_by_role("button", name="Add chart").first.click()
    page.get_by_role("menuitem", name=kind).click()
    yield
    page.get_by_role("dialog").get_by_role("button", name="Add chart").click()
    expect(page.get_by_role("dialog")).to_have_count(0)


def _choose(page: Page, field: str, names: Sequence[str]) -> None:
    """Names of a list of which one or several can be chosen."""
    place = page.get_by_test_id("experiment-view-compare-runs-config-field").filter(has_text=field)
    place.locator(".du-bois-light-select-selector").click()  # closed, it takes no words
    for name in names:
        place.get_by_role("combobox").fill(name)
        page.get_by_title(name, exact=True).last.click()
        expect(place).to_contain_text(name)
    page.keyboard.press("Tab")


def _metric(page: Page, name: str) -> Locator:
    """A metric's link on the compare page, whose table draws the rows that are scrolled to."""
    links = page.get_by_title("Plot chart")
    wanted = links.filter(has_text=re.compile(f"^{re.escape(name)}$"))
    links.first.scroll_into_view_if_needed()
    place = links.first.bounding_box()
    assert place
    _scroll_to(page, wanted, place["x"] + VALUES_PX, place["y"] + 5)  # there the wheel moves names and values alike
    return wanted


def _scroll_to(page: Page, wanted: Locator, x: float, y: float) -> None:
    """Turn the wheel at a place until something is drawn: MLflow draws what is scrolled to."""
    until = time.monotonic() + PATIENCE_MS / 1000
    page.mouse.move(x, y)
    while wanted.count() == 0:
        assert time.monotonic() < until, f"{wanted} was not drawn"
        page.mouse.wheel(0, 150)
        with contextlib.suppress(AssertionError):
            expect(wanted).not_to_have_count(0, timeout=500)


@contextlib.contextmanager
def served(store: str) -> Iterator[tuple[Page, str]]:
    """A page of a browser, and the address of a server of the store."""
    with tempfile.TemporaryDirectory() as folder, browser() as page:
        server = TrackingServer(Path(folder), store)
        server.start()
        try:
            yield page, server.uri
        finally:
            server.kill()


def pictures(store: str, out: Path, names: Iterable[str] = PAGES) -> None:
    """A picture of each page of these names, of the newest comparison of three methods."""
    found = newest_comparison(store)
    with served(store) as (page, uri):
        for name in names:
            PAGES[name](page, uri, found)
            keep(page, out / f"{name}.png")


def study_pictures(store: str, out: Path) -> None:
    """Of each method's newest study its page, its trials' lines, and their objective by what matters most in it."""
    found = {study.run["tags.method"]: study for study in reversed(finished_studies(store))}
    for method, study in found.items():
        with served(store) as (page, uri):
            study_page(page, uri, study)
            keep(page, out / f"study_{method}_page.png", height=750)  # below stand tags, with this machine's paths
            open_trials(page, uri, study)
            parallel_coordinates(page, study)
            keep(page, out / f"study_{method}.png")
            for param in (param for param in KEYS if param in study.searched):
                page.keyboard.press("Escape")
                scatter(page, study, param)
                keep(page, out / f"study_{method}_{param}.png")


def main(store: str, out: Path) -> None:
    """A picture of each page, of the newest comparison of three methods and of each method's newest study.

    Args:
        store: an MLflow store, as sqlite:///FILE
        out: folder for the pictures
    """
    out.mkdir(parents=True, exist_ok=True)
    pictures(store, out)
    study_pictures(store, out)
    for path in out.glob("*.png"):  # small enough for a README
        with Image.open(path) as picture:
            picture.convert("RGB").quantize(128).save(path, optimize=True)


if __name__ == "__main__":
    cli.main(main)
