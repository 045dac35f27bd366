"""A logged generator: served, registered by the rule, drawn from by its address."""

import contextlib
import itertools
import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from conftest import Launch
from mlflow import MlflowClient
from mlflow.entities import LoggedModel, LoggedModelStatus, Metric
from mlflow.exceptions import MlflowException
from mlflow.store.tracking import SEARCH_LOGGED_MODEL_MAX_RESULTS_DEFAULT
from PIL import Image
from processes import environment

from experiments import generate
from harness import tracking
from harness.data.images import ImageShape
from harness.errors import InputError
from harness.methods import ddpm
from harness.runs import exported
from harness.tracking import inputs, local, models, registry

PATIENCE_S = 120.0
FIGURES = {
    "samples/conditional_accuracy", "validation/cas", "test/quality/fid",
    "cost/training_device_seconds", "cost/sampling_device_seconds",
}  # fmt: skip
BEST_FIRST = {"field_name": "metrics.validation/cas", "ascending": False}


@pytest.fixture(scope="module")
def uri(place: Path) -> str:
    return f"sqlite:///{place}/outputs/mlflow.db"


@pytest.fixture(scope="module")
def runs(forked: Launch) -> list[str]:
    """Two generators' runs, of which the second has learned nothing."""
    ids = []
    for steps in ("60", "2"):
        small = ("--n-real", "200", "--num-synthetic", "300", "--batch-size", "32", "--steps", steps)
        done = forked("vae.py", *small)
        assert done.returncode == 0, done.stderr
        ids += re.findall(r"run ([0-9a-f]{32})", done.stdout)
    return ids


@pytest.fixture(scope="module")
def champion(runs: list[str], uri: str, place: Path) -> Any:
    """The trained generator, as `exported.restore` reads it from the registered model's artifacts."""
    assert len(runs) == 2
    with contextlib.chdir(place), inputs.fetched_model("models:/vae@champion", uri) as folder:
        return exported.restore_generator(folder)


def test_a_model_of_an_earlier_version_has_the_moves_of_its_colours(tmp_path: Path) -> None:
    shape = ImageShape(3, 8, 8, 10, "reflect")
    told = ddpm.DDPM(ddpm.Config(num_steps=10, hidden_channels=8, augment="conditioned"), shape)
    exported.export_generator(tmp_path, "ddpm", told, shape, list("0123456789"))
    assert exported.restore_generator(tmp_path).shape == shape
    described = json.loads((tmp_path / "generator.json").read_text())
    del described["shape"]["moves"]
    (tmp_path / "generator.json").write_text(json.dumps(described))
    assert exported.restore_generator(tmp_path).shape == shape


def drawn(model: Any, labels: list[int], seed: int) -> np.ndarray:
    return exported.draw_labels(model, labels, seed).permute(0, 2, 3, 1).numpy()


# --- Served ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def served(runs: list[str], place: Path) -> Iterator[str]:
    """The address of the champion, served as harness/tracking/README.md says."""
    assert runs
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable, "-m", "harness.tracking.serving", "models:/vae@champion", "--port", str(port),
    ]  # fmt: skip
    variables = environment(MLFLOW_TRACKING_URI="sqlite:///outputs/mlflow.db")
    log = place / "serve.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=place, env=variables, stdout=output, stderr=output, start_new_session=True
        )
    try:
        until = time.monotonic() + PATIENCE_S
        while not answers(f"http://127.0.0.1:{port}/ping"):
            assert process.poll() is None, log.read_text()[-2000:]
            assert time.monotonic() < until, "the model's server did not start"
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/invocations"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def answers(address: str) -> bool:
    with contextlib.suppress(OSError), urllib.request.urlopen(address, timeout=2) as answer:
        return answer.status == 200
    return False


def post(address: str, body: Any) -> tuple[int, dict[str, Any]]:
    request = urllib.request.Request(address, json.dumps(body).encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


@pytest.mark.parametrize(
    "body",
    [
        {"inputs": {"label": [7, 7, 3], "seed": 5}},
        {"inputs": {"label": [7, 7, 3]}, "params": {"seed": 5}},
        {"inputs": {"label": [7, 7, 3], "seed": 5}, "params": {"seed": 6}},
        {"dataframe_split": {"columns": ["label", "seed"], "data": [[7, 5], [7, 5], [3, 5]]}},
        {"dataframe_split": {"columns": ["label"], "data": [[7], [7], [3]]}, "params": {"seed": 5}},
        {"dataframe_records": [{"label": 7, "seed": 5}, {"label": 7}, {"label": 3}]},
    ],
    ids=json.dumps,
)
def test_a_request_is_answered_with_its_digits(served: str, body: Any, champion: Any) -> None:
    status, answer = post(served, body)
    assert status == 200, answer
    images = np.asarray(answer["predictions"])
    assert images.shape == (3, 8, 8, 1)
    assert images.dtype.kind == "i"
    assert (images == drawn(champion, [7, 7, 3], 5)).all()


@pytest.mark.parametrize("form", ["inputs", "dataframe_split"])
@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        (["seven"], "a label must be a whole number, not 'seven'"),
        ([3, "seven"], "a label must be a whole number, not 'seven'"),
        ([3.5], "a label must be a whole number, not 3.5"),
        ([True], "a label must be a whole number, not True"),
        ([None], "a label must be a whole number, not None"),
        ([3, 10], "labels must be one or more of 0 … 9, not 10"),
        ([-1], "labels must be one or more of 0 … 9, not -1"),
        ([], "labels must be one or more of 0 … 9, not none"),
        ([1] * 10_000, "a request may have 1,000 labels, not 10,000"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_wrong_labels_are_one_sentence(served: str, form: str, labels: list[Any], sentence: str) -> None:
    body = {"label": labels} if form == "inputs" else {"columns": ["label"], "data": [[label] for label in labels]}
    assert post(served, {form: body}) == (400, {"error_code": "INVALID_PARAMETER_VALUE", "message": sentence})


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "The input must be a JSON dictionary with exactly one of the input fields"),
        ([], "The input must be a JSON dictionary with exactly one of the input fields"),
        ({"inputs": {}}, "missing inputs ['label']"),
        ({"inputs": []}, "missing inputs ['label']"),
        ({"inputs": {"label": [1], "seed": "x"}}, "a seed must be a whole number, not 'x'"),
        ({"dataframe_records": [{"label": 1, "seed": 1}, {"label": 1, "seed": 2}]}, "one seed, not [1, 2]"),
    ],
    ids=str,
)
def test_other_wrong_requests_are_refused_without_a_traceback(served: str, body: Any, message: str) -> None:
    status, answer = post(served, body)
    assert status == 400
    assert message in answer["message"]
    assert "stack_trace" not in answer


# --- Loaded ----------------------------------------------------------------------------------------------


def test_a_model_loads_and_takes_what_its_docstring_says(champion: Any, uri: str) -> None:
    tracking.client(uri)
    model = mlflow.pyfunc.load_model("models:/vae@champion")
    expected = drawn(champion, [7, 7, 3], 5)
    for request in (
        {"label": [7, 7, 3], "seed": 5},
        {"label": np.array([7, 7, 3]), "seed": np.int64(5)},
        pd.DataFrame({"label": [7, 7, 3], "seed": 5}),
    ):
        images = model.predict(request)
        assert images.dtype == np.uint8
        assert (images == expected).all()
    assert (model.predict({"label": [7, 7, 3]}, params={"seed": 5}) == expected).all()
    assert (model.predict({"label": 7, "seed": 0}) == drawn(champion, [7], 0)).all()
    with pytest.raises(MlflowException, match="labels must be one or more of 0 … 9, not 10"):
        model.predict({"label": [10]})


def test_nothing_in_a_model_is_pickled(champion: Any, uri: str, tmp_path: Path) -> None:
    assert champion
    tracking.client(uri)
    folder = Path(mlflow.artifacts.download_artifacts("models:/vae@champion", dst_path=str(tmp_path)))
    files = [path for path in folder.rglob("*") if path.is_file()]
    kinds = {path.suffix for path in files if path.name not in {"MLmodel", "registered_model_meta"}}
    assert kinds == {".json", ".safetensors", ".txt", ".yaml"}  # no code
    required = [line.partition("==") for line in (folder / "requirements.txt").read_text().split()]
    assert {name: version(name).partition("+")[0] for name, *_ in required} == {name: own for name, _, own in required}
    model = mlflow.models.Model.load(str(folder))
    assert model.flavors["python_function"]["loader_module"] == models.LOADER
    assert model.signature is not None
    assert model.signature.inputs.input_names() == ["label", "seed"]
    assert model.load_input_example(str(folder)) == {"label": [0, 0, 9], "seed": 0}


# --- Registered ------------------------------------------------------------------------------------------


def test_the_better_of_two_runs_is_champion_however_often_they_are_sent(
    runs: list[str], uri: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    store = tracking.client(uri)
    for repeated in (False, True):
        if repeated:
            for folder in [local.find(run) for run in runs]:
                assert folder
                (folder / local.SENT).unlink()
            tracking.sync(uri)
        versions = store.search_model_versions("name = 'vae'")
        assert sorted(version.run_id for version in versions) == sorted(runs)
        figures = {run: tracking.get_run(run, uri)["metrics.validation/cas"] for run in runs}
        assert figures[runs[0]] > figures[runs[1]]
        best = store.get_model_version_by_alias("vae", "champion")
        assert best.run_id == runs[0]
        assert best.tags == {"dataset": "digits", "n_real": "200", "seed": "0", "num_synthetic": "300"}
        assert store.get_model_version_by_alias("vae", "champion-digits").version == best.version
        experiment = store.get_experiment_by_name("generators").experiment_id
        found = store.search_logged_models([experiment], order_by=[BEST_FIRST | {"dataset_name": "digits"}])
        ordered = [model for model in found if model.source_run_id in runs]  # other tests of this file have more
        assert [model.source_run_id for model in ordered] == runs
        for model in ordered:
            assert models.named(store.get_run(str(model.source_run_id))) == [model.model_id]
            shown_as_its_run_has_it(model, store)


def shown_as_its_run_has_it(model: LoggedModel, store: MlflowClient) -> None:
    """A model has the figures that are meant for it, once, and its run has them once too."""
    run = store.get_run(str(model.source_run_id))
    metrics = {metric.key: metric for metric in model.metrics or []}
    assert len(model.metrics or []) == len(metrics)
    assert metrics.keys() == FIGURES
    whole = next(found.dataset for found in run.inputs.dataset_inputs if found.dataset.name == "digits")
    (output,) = run.outputs.model_outputs
    for name, metric in metrics.items():
        (own,) = store.get_metric_history(run.info.run_id, name)
        assert (metric.value, metric.timestamp, metric.step) == (own.value, own.timestamp, own.step)
        assert metric.step == output.step == int(run.data.params["steps"])
        assert (metric.dataset_name, metric.dataset_digest) == ("digits", whole.digest)


def test_a_models_page_says_what_it_is_and_how_to_draw_from_it(
    runs: list[str], uri: str, forked: Launch, place: Path
) -> None:
    store = tracking.client(uri)
    run = store.get_run(runs[0])
    model = store.get_logged_model(models.named(run)[0])
    expected = {"method": "vae", "dataset": "digits", "n_real": "200", "seed": "0", "num_synthetic": "300"}
    assert model.params == expected
    said = model.tags["mlflow.note.content"]
    assert "**vae on digits**, 200 real images, seed 0" in said
    assert f"| validation/cas | {run.data.metrics['validation/cas']:.2%} |" in said
    assert re.findall(r"/runs/(\w+)/artifacts\)", said) == runs[:1]
    assert re.findall(r"path=(\S+)&run_uuid=(\w+)\)", said) == [("pictures/samples.png", runs[0])]
    assert {"pictures", "samples.npz"} <= {found.path for found in store.list_artifacts(runs[0])}
    (command,) = re.findall(r"python experiments/(generate.py .*)", said)
    done = forked(*command.split())
    assert done.returncode == 0, done.stderr
    assert Image.open(place / "drawn.png").size == (108, 36)
    (version,) = store.search_model_versions(f"run_id = '{runs[0]}'")
    assert json.loads(model.tags["mlflow.modelVersions"]) == [{"name": "vae", "version": version.version}]


def test_a_store_that_takes_no_figures_of_models_has_all_else_and_gets_them_later(
    uri: str, runs: list[str], forked: Launch, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert runs
    monkeypatch.chdir(place)
    refusal = "before insert on logged_model_metrics begin select raise(abort, 'no figures'); end"
    with contextlib.closing(sqlite3.connect(place / "outputs/mlflow.db")) as database:
        database.execute(f"create trigger refused {refusal}")
    small = ("--n-real", "100", "--num-synthetic", "100", "--batch-size", "16", "--steps", "3")
    done = forked("vae.py", *small)
    assert (done.returncode, "no figures" in done.stderr) == (3, True), done.stderr
    run = re.findall(r"run ([0-9a-f]{32})", done.stdout)[0]
    store = tracking.client(uri)
    assert store.get_run(run).info.status == "FINISHED"
    assert "validation/cas" in store.get_run(run).data.metrics
    assert {"generator", "samples.npz"} <= {found.path for found in store.list_artifacts(run)}
    assert not store.search_model_versions(f"run_id = '{run}'")  # which could be champion without its figure
    with contextlib.closing(sqlite3.connect(place / "outputs/mlflow.db")) as database:
        database.execute("drop trigger refused")
    tracking.sync(uri)
    (model_id,) = models.named(store.get_run(run))
    shown_as_its_run_has_it(store.get_logged_model(model_id), store)
    (version,) = store.search_model_versions(f"run_id = '{run}'")
    store.delete_model_version("vae", version.version)  # the other tests count versions


def test_a_run_that_is_told_not_to_registers_nothing(runs: list[str], forked: Launch, uri: str) -> None:
    small = ("--n-real", "100", "--num-synthetic", "100", "--batch-size", "16", "--steps", "2", "--no-register")
    done = forked("vae.py", *small)
    assert done.returncode == 0, done.stderr
    run = re.findall(r"run ([0-9a-f]{32})", done.stdout)[0]
    store = tracking.client(uri)
    assert len(models.named(store.get_run(run))) == 1
    assert len(store.search_model_versions("name = 'vae'")) == len(runs)


@pytest.mark.parametrize("left", ["PENDING", "READY"])
def test_a_model_that_a_killed_agent_has_left_half_logged_is_no_second_one(
    left: str, runs: list[str], place: Path, store: MlflowClient
) -> None:
    """READY is one that the run does not name yet."""
    run, half = logged(store, "vae", ("digits", None, 1.0))
    said = {"labels": [0], "about": {}, "description": "", "picture": None}
    figure = Metric("validation/cas", 0.5, 1, 60, dataset_name="digits", dataset_digest="d1")
    if left == "READY":
        store.finalize_logged_model(half, LoggedModelStatus.READY)
    with contextlib.chdir(place):
        (exported_at,) = (folder / local.FILES / "generator" for folder in [local.find(runs[0])] if folder)
        experiment = store.get_run(run).info.experiment_id
        ids = {models.log(run, experiment, exported_at, said, [figure], store) for _ in range(2)}
    there = store.search_logged_models([experiment], f"source_run_id = '{run}'")
    assert [(model.model_id, str(model.status)) for model in there] == [(min(ids), "READY")]
    assert models.named(store.get_run(run)) == list(ids)
    assert (half in ids) == (left == "READY")
    assert [(metric.key, metric.value) for metric in there[0].metrics or []] == [("validation/cas", 0.5)]
    assert len(store.get_metric_history(run, "validation/cas")) == 1


Scored = tuple[str, float | None, float]
SCORED: list[Scored] = [  # data set, validation and test figure
    ("digits", 0.80, 0.70),
    ("digits", 0.90, 0.60),
    ("digits", 0.85, 0.99),
    ("digits", None, 1.00),
    ("kmnist", 0.99, 0.99),
]


@pytest.fixture(scope="module")
def store(files_store: Path) -> MlflowClient:
    made = tracking.client(f"sqlite:///{files_store}/mlflow.db")
    made.create_experiment("generators", str(files_store / "artifacts"))
    return made


def logged(store: MlflowClient, method: str, scored: Scored, where: str = "generators") -> tuple[str, str]:
    """A run with the tags, params and figures of a generator's, and a model that has the figure too; their ids."""
    dataset, validation, test = scored
    known = store.get_experiment_by_name(where)
    experiment = known.experiment_id if known else store.create_experiment(where)
    tags = {"method": method, "dataset": dataset, "n_real": "200", "seed": "0"}
    run = store.create_run(experiment, tags=tags).info.run_id
    store.log_param(run, "num_synthetic", 300)
    store.log_metric(run, "test/cas", test)
    model = store.create_logged_model(experiment, "generator", run, params={"method": method}).model_id
    if validation is not None:
        figure = Metric("validation/cas", validation, 1, 1, model, dataset, "d1")
        store.log_batch(run, [figure])
    return run, model


def figures(store: MlflowClient, name: str) -> dict[str, tuple[str, float | None]]:
    """Whom each alias belongs to: data set and validation figure."""
    aliases = store.get_registered_model(name).aliases
    owners = {alias: store.get_model_version(name, version) for alias, version in aliases.items()}
    runs = {alias: store.get_run(str(owner.run_id)).data for alias, owner in owners.items()}
    return {alias: (run.tags["dataset"], run.metrics.get("validation/cas")) for alias, run in runs.items()}


CHAMPIONS = {
    "champion": ("digits", 0.9),
    "champion-digits": ("digits", 0.9),
    "champion-kmnist": ("kmnist", 0.99),
}


@pytest.mark.parametrize("order", [[0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [1, 4, 3, 0, 2]], ids=str)
def test_the_champion_does_not_depend_on_the_order(store: MlflowClient, order: list[int]) -> None:
    tracking.client(str(store.tracking_uri))
    name = f"order-{'-'.join(map(str, order))}"
    for place in order:
        registry.register(*logged(store, name, SCORED[place]), store)
    assert figures(store, name) == CHAMPIONS
    versions = list(store.search_model_versions(f"name = '{name}'"))
    scored = {str(versions[number].source): ("digits", figure) for number, figure in enumerate((0.5, 0.7, 0.7))}
    chosen = {tuple(registry.champions(list(some), scored).items()) for some in itertools.permutations(versions)}
    assert len(chosen) == 1


def test_models_of_all_experiments_compete_but_not_deleted_ones(store: MlflowClient) -> None:
    tracking.client(str(store.tracking_uri))
    ids = [logged(store, "far", ("digits", figure, 0.5), f"far {figure}") for figure in (0.7, 0.9, 0.8)]
    for each in ids:
        registry.register(*each, store)
    assert figures(store, "far")["champion"] == ("digits", 0.9)
    store.delete_logged_model(ids[1][1])
    registry.update_aliases("far", store)
    assert figures(store, "far")["champion"] == ("digits", 0.8)
    store.delete_experiment(store.get_experiment_by_name("far 0.8").experiment_id)
    registry.update_aliases("far", store)
    assert figures(store, "far")["champion"] == ("digits", 0.7)


def test_only_a_model_that_no_champion_beats_is_compared_with_all_others(
    store: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracking.client(str(store.tracking_uri))
    compared: list[str] = []
    monkeypatch.setattr(registry, "update_aliases", lambda *of, update=registry.update_aliases: (
        compared.append(of[0]), update(*of)))  # fmt: skip

    def is_compared(figure: float | None, dataset: str = "digits") -> bool:
        before = len(compared)
        best.append(logged(store, "beaten", (dataset, figure, 0.5), f"beaten {len(best)}"))
        registry.register(*best[-1], store)
        return len(compared) > before

    best: list[tuple[str, str]] = []
    assert [is_compared(figure) for figure in (0.5, 0.7, 0.6, 0.7, 0.8)] == [True, True, False, False, True]
    assert is_compared(0.1, "kmnist")
    assert figures(store, "beaten") == {
        "champion": ("digits", 0.8), "champion-digits": ("digits", 0.8), "champion-kmnist": ("kmnist", 0.1)
    }  # fmt: skip
    store.delete_logged_model(best[4][1])  # the champion
    assert is_compared(0.2)
    assert figures(store, "beaten")["champion"] == ("digits", 0.7)
    store.delete_experiment(store.get_experiment_by_name("beaten 1").experiment_id)  # the next one's
    assert is_compared(0.2)
    assert figures(store, "beaten")["champion"] == ("digits", 0.7)  # an equal one


def test_more_models_than_a_page_of_answers_holds(store: MlflowClient) -> None:
    tracking.client(str(store.tracking_uri))
    best = logged(store, "many", ("digits", 0.9, 0.5))
    for _ in range(SEARCH_LOGGED_MODEL_MAX_RESULTS_DEFAULT):
        logged(store, "many", ("digits", 0.5, 0.5))
    registry.register(*best, store)
    assert figures(store, "many")["champion"] == ("digits", 0.9)


def test_many_that_register_at_once_agree(store: MlflowClient) -> None:
    tracking.client(str(store.tracking_uri))
    made = [logged(store, "at-once", scored) for scored in SCORED]
    with ThreadPoolExecutor(len(made)) as pool:
        list(pool.map(lambda ids: registry.register(*ids, store), made))
    assert figures(store, "at-once") == CHAMPIONS
    assert len(store.search_model_versions("name = 'at-once'")) == len(SCORED)


def test_of_equal_figures_the_first_stays_and_mnist_comes_first(store: MlflowClient) -> None:
    tracking.client(str(store.tracking_uri))
    for scored in (("digits", 0.9, 0.5), ("digits", 0.9, 0.6), ("mnist", 0.8, 0.5), ("kmnist", None, 0.5)):
        registry.register(*logged(store, "equal", scored), store)
    aliases = {alias: str(version) for alias, version in store.get_registered_model("equal").aliases.items()}
    assert aliases == {"champion": "3", "champion-digits": "1", "champion-mnist": "3"}


# --- Drawn from ------------------------------------------------------------------------------------------


def test_a_registered_model_draws_what_its_run_draws(runs: list[str], forked: Launch, place: Path, uri: str) -> None:
    version = tracking.client(uri).get_model_version_by_alias("vae", "champion").version
    pictures = []
    for source in (("--model", "models:/vae@champion"), ("--model", f"models:/vae/{version}"), ("--run", runs[0])):
        done = forked("generate.py", *source, "--labels", "7", "7", "3", "--out", "d.png")
        assert done.returncode == 0, done.stderr
        pictures.append(np.asarray(Image.open(place / "d.png")))
    assert all((picture == pictures[0]).all() for picture in pictures)


@pytest.mark.usefixtures("runs")
@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({}, "give one of --model, such as models:/ddpm@champion, and --run"),
        ({"model": "models:/vae@champion", "run": "abc"}, "give one of --model"),
        ({"model": "vae"}, "vae is no model's address"),
        ({"model": "models:/vae"}, "models:/vae is no model's address"),
        ({"model": "models:/flow@champion"}, "no models:/flow@champion in sqlite:///"),
        ({"model": "models:/vae@best"}, "no models:/vae@best in sqlite:///"),
        ({"model": "models:/vae/99"}, "no models:/vae/99 in sqlite:///"),
        ({"model": "models:/vae/first"}, "models:/vae/first is no model's address"),
        ({"model": "models:/m-none"}, "no models:/m-none in sqlite:///"),
        ({"model": "models:/vae@champion", "labels": ("3", "10")}, "label 10 is no class of this generator"),
        ({"model": "models:/vae@champion", "tracking_uri": "sqlite:///none.db"}, "there is no MLflow store"),
    ],
    ids=str,
)
def test_what_cannot_be_drawn_from_is_named(
    asked: dict[str, Any], message: str, uri: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    with pytest.raises(InputError) as refused:
        generate.main(generate.Settings(**{"tracking_uri": uri, **asked}))
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.usefixtures("runs")
def test_an_unknown_champion_is_one_line_and_exit_code_2(forked: Launch) -> None:
    done = forked("generate.py", "--model", "models:/flow@champion")
    assert done.returncode == 2
    assert re.fullmatch(r"generate.py: no models:/flow@champion in sqlite:///.*\n", done.stderr)


def test_a_model_without_files_is_named(store: MlflowClient, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    uri = str(store.tracking_uri)
    tracking.client(uri)
    registry.register(*logged(store, "empty", SCORED[0]), store)
    with pytest.raises(InputError, match=r"^no models:/empty@champion in sqlite:///.*MLmodel"):
        generate.main(generate.Settings(model="models:/empty@champion", tracking_uri=uri))
