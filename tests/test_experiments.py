"""The command line as a user types it, in real processes, on the embedded digits."""

import dataclasses
import json
import math
import re
import shutil
import subprocess
import sys
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import processes
import pytest
import ui_pictures
from accelerate import Accelerator
from conftest import Launch
from PIL import Image
from processes import ROOT, environment
from servers import installed

from analysis import accuracy_table, curves, runs
from experiments import generate, sample_size, second_judge
from harness import tracking
from harness.data import datasets, moves
from harness.errors import InputError
from harness.evaluation import classifier
from harness.methods import ddpm, gan, vae
from harness.runs import classifiers, generators, identities
from harness.settings import Single, load_dataset
from harness.tracking import stores

SMALL = ("--n-real", "200", "--num-synthetic", "300", "--batch-size", "32")
LOOKS = ("looks/conditional_accuracy", "looks/cas", "cost/device_seconds")
RUN = re.compile(r"run ([0-9a-f]{32})")


@pytest.fixture(scope="module")
def uri(place: Path) -> str:
    return f"sqlite:///{place}/outputs/mlflow.db"


@pytest.fixture(scope="module")
def vae_run(launch: Launch) -> str:
    done = launch("experiments/vae.py", *SMALL, "--steps", "60", "--look-samples", "300")
    assert done.returncode == 0, done.stderr
    found = RUN.search(done.stdout)
    assert found, done.stdout
    return found.group(1)


def test_a_generator_is_trained_sampled_scored_and_logged(vae_run: str, uri: str) -> None:
    row = tracking.get_run(vae_run, uri)
    assert row["status"] == "FINISHED"
    expected = {"kind": "generator", "method": "vae", "dataset": "digits", "n_real": "200", "seed": "0"}
    assert {key: row[f"tags.{key}"] for key in expected} == expected
    assert row["params.latent_size"] == "16"
    assert row["params.world_size"] == "1"
    for name in ("samples/conditional_accuracy", "test/cas", "validation/cas"):
        assert 0 <= row[f"metrics.{name}"] <= 1
    assert row["metrics.cost/training_device_seconds"] > 0
    store = tracking.client(uri)
    assert [m.step for m in store.get_metric_history(vae_run, "train/vae_loss")] == list(range(60))
    looks = [store.get_metric_history(vae_run, name) for name in LOOKS]
    assert [[m.step for m in look] for look in looks] == [list(range(6, 61, 6))] * 3  # over one another
    assert looks[1][-1].value == row["metrics.validation/cas"]  # of the same samples
    with tracking.fetched(vae_run, "samples.npz", uri) as path, np.load(path) as samples:
        assert samples["images"].shape == (300, 1, 8, 8)
        assert samples["images"].dtype == np.uint8
        assert np.bincount(samples["labels"]).tolist() == [30] * 10
    with tracking.fetched(vae_run, "images", uri) as folder:
        steps = {int(re.findall(r"step\D(\d+)", path.name)[0]) for path in folder.glob("*.png")}
    assert steps == set(range(0, 61, 6))
    with tracking.fetched(vae_run, "generator/generator.json", uri) as path:
        assert json.loads(path.read_text())["method"] == "vae"


def test_labels_in_digits_out(vae_run: str, forked: Launch, place: Path) -> None:
    pictures = []
    for seed in ("0", "0", "1"):
        command = ("generate.py", "--run", vae_run, "--labels", "7", "7", "3", "--out", "d.png")
        done = forked(*command, "--seed", seed)
        assert done.returncode == 0, done.stderr
        pictures.append(np.asarray(Image.open(place / "d.png")))
    assert pictures[0].shape == (36, 108)
    assert (pictures[0] == pictures[1]).all()
    assert (pictures[0] != pictures[2]).any()


def test_the_logged_model_loads_and_predicts(vae_run: str, uri: str) -> None:
    stores.use(uri)
    (model,) = mlflow.MlflowClient(uri).get_run(vae_run).outputs.model_outputs
    loaded = mlflow.pyfunc.load_model(f"models:/{model.model_id}")
    first, again, other = (loaded.predict({"label": [7, 7, 3]}, params={"seed": seed}) for seed in (1, 1, 2))
    assert (first.shape, first.dtype) == ((3, 8, 8, 1), np.uint8)
    assert (first == again).all()
    assert (first != other).any()


def test_a_run_is_in_the_table_of_records(vae_run: str, forked: Launch, place: Path) -> None:
    done = forked("analysis.records", "--experiment", "generators", "--mark", "0", "--out", "records")
    assert done.returncode == 0, done.stderr
    table = pd.read_csv(place / "records" / "records.csv", dtype=str)  # a commit may look like a number
    (row,) = table[table["run_ids"] == vae_run].to_dict("records")
    assert row["recipe"] == f"vae.py {' '.join(SMALL)} --steps 60 --look-samples 300 --cas-steps 5"
    assert f"| {row['commit']} | {row['recipe']}" in re.sub(" +", " ", done.stdout)
    none = forked("analysis.records", "--experiment", "none", "--out", "records")
    assert (none.returncode, none.stderr.count("\n")) == (2, 1), none.stderr


def test_figures_of_quality_by_the_number_of_samples(vae_run: str, forked: Launch, place: Path) -> None:
    command = ("sample_size.py", "--n-real", "200", "--samples", vae_run, "--out", "numbers.csv")
    done = forked(*command, "--numbers", "50", "100", "300", "400", "--cas-steps", "150")
    assert done.returncode == 0, done.stderr
    table = pd.read_csv(place / "numbers.csv").set_index(["images", "number"])
    # 300 samples; 180 real images to be judged, more to be taught by
    assert table["fid"].dropna().index.to_list() == [("samples", 50), ("real", 50), ("samples", 100), ("real", 100),
                                                     ("samples", 300)]  # fmt: skip
    assert table["cas"].notna().all()
    assert ("samples", 400) not in table.index
    assert ("real", 400) in table.index
    real = table.loc["real"]
    assert real.loc[100, "fid"] < real.loc[50, "fid"]  # of the number alone
    assert real.loc[400, "cas"] > real.loc[50, "cas"]
    assert real.loc[100, "fid"] < table.loc[("samples", 100), "fid"]


def test_what_cannot_be_measured_by_number_is_one_line(forked: Launch) -> None:
    for flags, message in (
        (("--samples", "x", "--numbers", "5"), "--numbers 5 must be a whole number, at least 10"),
        ((), "give --samples"),
    ):
        done = forked("sample_size.py", *flags)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
        assert message in done.stderr


COMPARE = (
    "compare.py", "--n-real", "150", "--num-synthetic", "200", "--classifier.steps", "5", "--ddpm.steps", "20",
    "--ddpm.hidden-channels", "8",
    "--vae.steps", "50", "--gan.steps", "20", "--name", "small",
)  # fmt: skip
THREE = ("--seeds", "1", "--methods", "ddpm", "vae", "gan", "--controls", "affine")


@pytest.fixture(scope="module")
def comparison(forked: Launch, uri: str) -> tuple[str, str]:
    """A comparison of one generator that was gone on with, with two more and with another seed: its id and table.

    One of another VAE is another comparison.
    """

    def children() -> list[tuple[str, str, str]]:
        runs = tracking.read_runs(f"tags.mlflow.parentRunId = '{parent}'", tracking_uri=uri)
        assert set(runs.status) == {"FINISHED"}
        return sorted(zip(runs["tags.kind"], runs["tags.method"], runs["tags.seed"], strict=True))

    first = forked(*COMPARE, "--seeds", "1", "--methods", "vae", "--controls", "affine")
    assert first.returncode == 0, first.stderr
    parent = re.findall(r"comparison ([0-9a-f]{32})", first.stdout)[0]
    known = [("classifier", arm, "0") for arm in ("affine", "none", "vae")] + [("generator", "vae", "0")]
    assert children() == known
    for more, added in (
        (
            (*THREE, "--drifting.steps", "7"),  # of a method that it does not have
            [(kind, arm, "0") for kind in ("classifier", "generator") for arm in ("ddpm", "gan")],
        ),
        (("--seeds", "2", "--methods", "--controls"), [("classifier", "none", "1")]),
        (THREE, []),
    ):
        done = forked(*COMPARE, *more)
        assert parent in done.stdout, done.stderr
        known = sorted(known + added)
        assert children() == known
    other = forked(*COMPARE, "--seeds", "1", "--methods", "vae", "--controls", "--vae.steps", "51")
    assert other.returncode == 0, other.stderr
    assert parent not in other.stdout
    table = forked("analysis.accuracy_table", "--comparison", parent)
    assert table.returncode == 0, table.stderr
    return parent, table.stdout


def test_a_comparison_goes_on_where_it_stopped_and_trains_nothing_twice(comparison: tuple[str, str]) -> None:
    _, table = comparison
    assert re.search(r"150 +\| vae †? +\| +1 ", table), table


def test_a_comparisons_run_is_its_answer(comparison: tuple[str, str], uri: str, forked: Launch) -> None:
    """Its figures are the table's cells to the digit, its description has the table's rows."""
    parent, _ = comparison
    run = tracking.client(uri).get_run(parent)
    table = accuracy_table.accuracy_table(runs.whole_arms(runs.comparison_cells(parent, uri)))
    columns = {"gain": "gain_points", "gain_low": "gain_low_points", "p_holm": "p_holm"}
    for row in table[table["method"] != "none"].to_dict("records"):
        assert run.data.metrics[f"test/accuracy/{row['method']}"] == row["augmented_percent"] / 100
        for name, column in columns.items():
            said = run.data.metrics.get(f"test/{name}/{row['method']}", math.nan)
            assert said == row[column] or (math.isnan(said) and math.isnan(row[column]))
    none = table[table["method"] == "none"].iloc[0]
    assert run.data.metrics["test/accuracy/none"] == none["baseline_percent"] / 100
    assert not [name for name in run.data.metrics if name.startswith("system/")]
    assert run.data.tags["arms"].split() == table["method"].tolist()
    assert re.search(r"\| +150 \| vae †? +\| +1 ", run.data.tags["mlflow.note.content"])
    assert [found.dataset.name for found in run.inputs.dataset_inputs] == ["digits"]
    with tracking.fetched(parent, "tables/accuracy_table.md", uri) as path:
        assert "gain, points |" in path.read_text()
    with tracking.fetched(parent, "answer.html", uri) as path:
        page = path.read_text()
    assert re.findall("<h2>(.*?)</h2>", page) == ["Accuracy", "Samples"]
    assert page.count("<figure>") == 3  # the gains, samples, and those closest to what their generators saw
    newest = tracking.read_runs("tags.kind = 'comparison'", tracking_uri=uri).iloc[0]  # which is another one
    assert newest["run_id"] != parent
    said = forked("harness.tracking", "page").stdout.splitlines()
    start = r"http://127\.0\.0\.1:5000/#/experiments/\d+/runs"
    assert re.fullmatch(rf"the newest comparison, {newest['name']}: {start}/{newest['run_id']}\S+", said[0])
    assert re.fullmatch(rf"mean curves over seeds: {start}\?\S+", said[1])


def test_a_second_judge_sees_the_same_sample_sets(
    comparison: tuple[str, str], uri: str, forked: Launch, place: Path
) -> None:
    parent, _ = comparison
    done = forked("second_judge.py", "--comparison", parent, "--judge-steps", "40", "--out", "second.csv")
    assert done.returncode == 0, done.stderr
    table = pd.read_csv(place / "second.csv")
    assert table.groupby("figure")["arm"].apply(sorted).tolist() == [["ddpm", "gan", "vae"]] * 8
    fid = table[table["figure"] == "fid"].set_index("run_id")
    for run, row in fid.iterrows():
        assert row["first"] == pytest.approx(
            tracking.client(uri).get_run(run).data.metrics["test/quality/fid"], rel=1e-5
        )
        assert row["second"] > 0
        assert row["second"] != row["first"]
    assert re.search(r"fid +\| +3 \| +-?[01]\.\d\d", done.stdout), done.stdout
    told = table[table["figure"] == "told_apart"].set_index("arm")["second"]
    assert (told > 0.9).all()  # after some steps of training
    assert len(re.findall(r"(?:ddpm|gan|vae) +\| +(?:100|9\d)\.\d \| +[3-6]\d\.\d \|", done.stdout)) == 3, done.stdout
    refused = forked("second_judge.py", "--comparison", "0" * 32)
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1), refused.stderr


@pytest.mark.timeout(900)
@pytest.mark.usefixtures("comparison")
@pytest.mark.parametrize(
    "names", [("answer", "compare"), pytest.param(tuple(ui_pictures.PAGES), marks=pytest.mark.long)]
)
def test_mlflows_pages_show_a_comparison(names: tuple[str, ...], uri: str, tmp_path: Path) -> None:
    """In a browser; what they must show is asserted in ui_pictures.py."""
    installed(ui_pictures.chromium)
    ui_pictures.pictures(uri, tmp_path, names)
    for name in names:
        with Image.open(tmp_path / f"{name}.png") as picture:
            assert picture.size == (ui_pictures.SIZE["width"], ui_pictures.SIZE["height"])


def test_a_store_without_a_comparison_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no MLflow store"):
        ui_pictures.newest_comparison(f"sqlite:///{tmp_path}/mlflow.db")


def test_a_filter_and_a_sweep_are_cells_of_their_own_and_no_rows_of_the_table(forked: Launch, uri: str) -> None:
    """Of a generator that is trained long enough for a filter to leave something, once for all its classifiers."""
    done = forked(
        "compare.py", "--methods", "vae", "--controls", "--n-real", "150", "--num-synthetic", "300",
        "--seeds", "1", "--classifier.steps", "20", "--vae.steps", "60", "--name", "sweep",
        "--filtered", "--amounts", "0.5", "2", "3", "--shares", "0.25",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    parent = re.findall(r"comparison ([0-9a-f]{32})", done.stdout)[0]
    found = runs.comparison_cells(parent, uri)
    counts, cells = runs.right_counts(found), found.set_index(["method", "variant"])
    arms = [("none", ""), ("vae", ""), ("vae-filtered", "")]
    # Three times as many as the real images are more than there are.
    assert sorted(cells.index) == sorted([*arms, ("vae", "0.5x"), ("vae", "2x"), ("vae", "share=0.25")])
    assert cells["samples_run"].nunique() == 1  # of all but none, which has no samples

    labels = datasets.load("digits").test.labels
    for cell in cells.itertuples():
        right = counts[str(cell.run_id)]
        assert len(right) == len(labels)
        assert right.mean() == pytest.approx(cell.accuracy)
        recalls = [right[labels.numpy() == label].mean() for label in range(10)]
        assert recalls == pytest.approx([getattr(cell, f"recall_class_{label}") for label in range(10)])

    whole, filtered = cells.loc[("vae", "")], cells.loc[("vae-filtered", "")]
    # All samples there are, so the very same classifier.
    assert (counts[cells.loc[("vae", "2x"), "run_id"]] == counts[whole["run_id"]]).all()
    assert 0 < filtered["kept"] < 1
    assert filtered["filter_s"] > 0
    assert filtered["conditional_accuracy"] != whole["conditional_accuracy"]
    assert filtered["quality_fid"] != whole["quality_fid"]
    assert filtered["floor_fid"] == whole["floor_fid"]
    assert whole[[f"conditional_accuracy_class_{label}" for label in range(10)]].between(0, 1).all()

    table = accuracy_table.accuracy_table(runs.whole_arms(cells.reset_index()))
    assert table["method"].tolist() == ["none", "vae", "vae-filtered"]
    assert table["num_seeds"].tolist() == [1, 1, 1]
    assert table.set_index("method").loc["vae", "augmented_percent"] == pytest.approx(100 * whole["accuracy"])


def test_uses_settings_and_moved_generators_are_cells_of_one_comparison(forked: Launch, uri: str) -> None:
    """Each arm in each setting of the classifier, each run two initialisations; a fold in place of the test."""
    done = forked(
        "compare.py", "--methods", "vae-moved", "--controls", "affine", "--n-real", "150", "--num-synthetic", "200",
        "--seeds", "1", "--first-seed", "3", "--folds", "3", "--classifier.steps", "5",
        "--classifier.initialisations", "2", "--vae.steps", "60", "--name", "on top", "--filtered", "--targeted",
        "--batches", "enlarged", "--weights", "0.3", "--more-classifiers", "augment=True",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    parent = re.findall(r"comparison ([0-9a-f]{32})", done.stdout)[0]
    found = tracking.read_runs(f"tags.mlflow.parentRunId = '{parent}'", tracking_uri=uri)
    assert set(found["tags.seed"]) == {"3"}
    assert set(found["tags.n_real"]) == {"150"}  # as asked, though a fold of three is held out
    generator = found[found["tags.kind"] == "generator"].iloc[0]
    assert (generator["params.arm"], generator["params.augment"]) == ("vae-moved", "moved")
    cells = found[found["tags.kind"] == "classifier"].fillna({"tags.variant": "", "tags.setting": ""})
    arms = ["none", "affine", "affine-filtered", "affine-targeted"]
    moved = ["vae-moved", "vae-moved-filtered", "vae-moved-targeted"]
    expected = [(arm, "", setting) for arm in arms + moved for setting in ("", "augment=True")]
    expected += [
        ("vae-moved", use, setting) for use in ("batch=enlarged", "weight=0.3") for _, _, setting in expected[:2]
    ]
    assert sorted(zip(cells["tags.method"], cells["tags.variant"], cells["tags.setting"], strict=True)) == sorted(
        expected
    )
    assert (cells["params.augment"] == (cells["tags.setting"] == "augment=True").map(str)).all()
    assert not [name for name in cells if name.startswith("metrics.test/")]
    both = cells[[f"metrics.validation/accuracy_initialisation_{number}" for number in (0, 1)]].astype(float)
    assert (both.mean(axis=1) - cells["metrics.validation/accuracy"].astype(float)).abs().max() < 1e-6
    assert both.nunique(axis=1).max() == 2


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--methods", "vae-conditioned"), "unknown arm 'vae-conditioned'; of vae there are vae, vae-moved"),
        (("--methods", "gan-varied"), "unknown arm 'gan-varied'; of gan there are gan, gan-moved, gan-diff"),
        (("--more-classifiers", "augmented=True"), "--more-classifiers augmented=True: there is no 'augmented'"),
        (("--more-classifiers", "augment=True,augment=False"), "--more-classifiers has augment twice"),
        (("--more-classifiers", "augment=yes"), "--more-classifiers augment=yes: 'yes' is none of True, False"),
        (("--more-classifiers", "width=-8"), "--more-classifiers width -8 must be"),
    ],
)
def test_what_no_comparison_has_is_refused_in_a_line(forked: Launch, flags: tuple[str, ...], message: str) -> None:
    done = forked("compare.py", "--name", "refused", *flags)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert message in done.stderr


@pytest.mark.usefixtures("vae_run")
def test_a_data_sets_moves_are_those_of_all_that_is_trained_on_it(
    place: Path, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    seen, move_images = [], moves.move_images
    monkeypatch.setattr(moves, "move_images", lambda *how: seen.append(how[2]) or move_images(*how))
    settings = Single(n_real=200, num_synthetic=30, tracking_uri=uri, cas_steps=5, moves="reflect")
    accelerator, dataset = Accelerator(cpu=True), load_dataset(settings, 200, 0)
    for name, config in {
        "ddpm": ddpm.Config(augment="conditioned", start=0.5),
        "gan": gan.Config(augment="diff"),
        "vae": vae.Config(augment="moved"),
    }.items():
        arm = generators.run_generator(name, dataclasses.replace(config, steps=2, batch_size=16), settings)
        assert len(seen) >= 2
        assert {*seen} == {"reflect"}, name
        seen.clear()
        registered = tracking.client(uri).search_model_versions(f"run_id = '{arm.run}'")
        assert len(registered) == (name != "ddpm"), name  # which without real images draws other samples
    config = classifier.Config(steps=2, augment=True)
    classifiers.select_samples("filtered", arm, config, settings, dataset, accelerator)
    assert seen == ["reflect"] * 2
    run, _ = classifiers.run_classifier(arm, config, settings, dataset)
    assert seen == ["reflect"] * 4
    assert tracking.get_run(run, uri)["params.moves"] == "reflect"


@pytest.mark.usefixtures("vae_run")
def test_weights_are_taken_over_where_only_the_sampling_differs(
    place: Path, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    settings = Single(n_real=200, num_synthetic=300, tracking_uri=uri, cas_steps=5)
    accelerator, dataset = Accelerator(cpu=True), datasets.load("digits", n_real=200)
    first, second = gan.Config(steps=6, batch_size=32), gan.Config(steps=6, batch_size=32, latent_scale=0.5)
    run = generators.run_generator("gan", first, settings).run
    finished = identities.find_finished_generator("gan", second, settings, dataset, accelerator)
    assert finished == (None, run)
    other = generators.run_generator("gan", second, settings, trained_by=run).run
    assert identities.find_finished_generator("gan", second, settings, dataset, accelerator)[0] == other
    assert identities.find_finished_generator("gan", gan.Config(steps=7), settings, dataset, accelerator) == (
        None,
        None,
    )

    trained, taken = (tracking.get_run(str(run_id), uri) for run_id in (run, other))
    weights = []
    for run_id in (run, other):
        with tracking.fetched(str(run_id), "generator/weights.safetensors", uri) as path:
            weights.append(path.read_bytes())
    assert weights[0] == weights[1]
    assert taken["tags.trained_by"] == run
    assert taken["tags.samples_digest"] != trained["tags.samples_digest"]
    seconds = "metrics.cost/training_device_seconds"
    assert taken[seconds] == trained[seconds]
    assert "metrics.train/gan_loss_critic" not in taken


@pytest.mark.parametrize(
    ("world", "flags"),
    [
        (2, (*SMALL, "--steps", "6", "--num-steps", "20", "--hidden-channels", "8", "--cas-steps", "5")),
        pytest.param(1, (), marks=[pytest.mark.long, pytest.mark.timeout(1800)]),
        pytest.param(2, (), marks=[pytest.mark.long, pytest.mark.timeout(1800)]),
    ],
)
def test_the_missions_own_command(world: int, flags: tuple[str, ...], tmp_path: Path, empty_outputs: Path) -> None:
    """`accelerate launch experiments/ddpm.py`: one run with its figures and pictures; without flags in a new folder."""
    if flags:
        shutil.copytree(empty_outputs, tmp_path / "outputs")
    several = ("--multi_gpu", "--num_processes", "2", "--main_process_port", "0") if world > 1 else ()
    done = subprocess.run(
        [sys.executable, "-m", "accelerate.commands.launch", *several, str(ROOT / "experiments/ddpm.py"), *flags],
        cwd=tmp_path, env=environment(ACCELERATE_USE_CPU="true"), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    uri = f"sqlite:///{tmp_path}/outputs/mlflow.db"
    (run,) = tracking.read_runs("tags.kind = 'generator'", tracking_uri=uri).to_dict("records")
    assert (run["status"], run["params.world_size"]) == ("FINISHED", str(world))
    for name in ("samples/conditional_accuracy", "test/cas"):
        assert (0.0 if flags else 0.8) <= run[f"metrics.{name}"] <= 1
    for name in ("samples.npz", "pictures/closest_pairs.png"):
        with tracking.fetched(run["run_id"], name, uri) as path:
            assert path.stat().st_size
    with tracking.fetched(run["run_id"], "images", uri) as folder:
        assert len(list(folder.glob("*.png"))) > 1


@pytest.mark.usefixtures("vae_run")
@pytest.mark.parametrize(
    ("command", "message"),
    [
        (("vae.py", "--stepz", "3"), "Unrecognized options: --stepz"),
        (("vae.py", "--steps", "many"), "--steps many must be a whole number, at least 1"),
        (("vae.py", "--n-real", "99999"), "--n-real 99999 cannot be taken from digits"),
        (("vae.py", "--dataset", "cifar"), "unknown data set 'cifar'"),
        (("vae.py", "--steps", "0"), "--steps 0 must be a whole number, at least 1"),
        (("vae.py", "--learning-rate", "nan"), "--learning-rate nan must be a number, above 0"),
        (("vae.py", "--checkpoint-every", "0"), "--checkpoint-every 0 must be a whole number, at least 1"),
        (("vae.py", "--data-root", ""), "--data-root is empty"),
        (
            ("ddpm.py", "--hidden-channels", "12"),
            "12 must be a whole number, at least 8",
        ),
        (("ddpm.py", "--config=nowhere.toml"), "--config nowhere.toml cannot be read"),
        (("vae.py", "--num-synthetic", "0"), "--num-synthetic 0 must be a whole number, at least 1"),
        (("gan.py", "--loss", "hinge"), "invalid choice 'hinge'"),
        (("compare.py", "--methods", "flow"), "unknown method 'flow'"),
        (("compare.py", "--seeds", "0"), "--seeds 0 must be a whole number, at least 1"),
        (("classifier.py", "--arm", "flip"), "unknown control 'flip'"),
        (("generate.py", "--run", "none-such"), "no run 'none-such'"),
    ],
)
def test_bad_input_is_one_line_and_creates_nothing(
    command: tuple[str, ...], message: str, forked: Launch, uri: str
) -> None:
    before = len(tracking.read_runs(tracking_uri=uri))
    done = forked(command[0], *command[1:])
    assert done.returncode == 2
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith(f"{command[0]}: ")
    assert message in lines[0]
    assert len(tracking.read_runs(tracking_uri=uri)) == before


def test_what_cannot_be_compiled_is_refused(place: Path) -> None:
    (code,) = processes.wait(processes.start(place, "gan.py", *SMALL, ACCELERATE_DYNAMO_BACKEND="inductor"))
    assert code == 2
    assert "gan.py: --loss wgan-gp takes a gradient's gradient" in processes.said(place)[1]


def test_help_shows_defaults_and_meanings(forked: Launch) -> None:
    shown = forked("ddpm.py", "--help").stdout
    shared = "dataset data-root n-real seed steps epochs batch-size tracking-uri experiment-name"
    for flag in shared.split():
        assert f"--{flag} " in shown
    assert "(default: 20000)" in shown
    assert "T, diffusion steps of the forward process" in re.sub(r"\s*│\s*", " ", shown)


def test_a_file_that_could_not_be_written_is_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder.csv").mkdir()
    for script, asked, ending in (
        (generate, {"run": "never-read"}, ".png"),
        (sample_size, {"samples": "never-read"}, ".csv"),
        (second_judge, {"comparison": "never-read"}, ".csv"),
    ):
        for out, message in (
            (f"file/a{ending}", r"cannot be a folder to write to \(File exists\)"),
            ("a.txt", f"must end in {ending}"),
            *([("folder.csv", "is a folder; give a file")] if ending == ".csv" else []),
        ):
            with pytest.raises(InputError, match=message):
                script.main(script.Settings(**asked, out=tmp_path / out, tracking_uri="sqlite:///never-read.db"))
    with pytest.raises(InputError, match="cannot be a folder to write to"):
        curves.main("train/ddpm_loss", ("never-read",), "sqlite:///never-read.db", tmp_path / "file")
