"""Cells of two comparisons whose every figure is known, and the files that an analysis writes of them.

`known_cells` is of answers: how many of 1,000 test images a classifier got right. Three n_real, six arms and five
seeds, without ddpm's seed 4 at 10,000, with sweeps of ddpm and gan at the two smaller. `measured_cells` is of the
samples' quality: figures that follow from seed, arm and n_real by hand.
"""

import contextlib
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from analysis import runs
from analysis.runs import Source

GOLDEN = Path(__file__).parent / "golden"


def files_of(main: Callable[..., None], cells: pd.DataFrame, folder: Path) -> Path:
    """The files that an analysis' `main` writes of a file of rows; beside them, in `.said`, what it prints."""
    rows = folder.with_suffix(".csv")
    runs.add_rows(cells, rows)
    with contextlib.redirect_stdout(io.StringIO()) as said:
        main(Source(rows=rows, tracking_uri="sqlite:///never-read.db"), out=folder)
    folder.with_suffix(".said").write_text(said.getvalue(), encoding="utf-8")
    return folder


def check_golden(name: str, folder: Path) -> None:
    """That a file is the stored one, to the letter."""
    text, golden = (of.joinpath(name).read_text(encoding="utf-8") for of in (folder, GOLDEN))
    assert text == golden, f"if this is what it should be: cp {folder / name} {GOLDEN / name}"


# Answers

NUM_TEST = 1000
COUNTS = """
100    none          872 880 876 884 868
100    duplicate     870 881 874 885 867
100    affine        905 913 902 915 908
100    ddpm          890 899 885 897 893
100    gan           871 884 870 889 866
100    gan-filtered  878 888 880 893 874
1000   none          948 952 950 955 945
1000   duplicate     947 953 950 954 946
1000   affine        966 971 968 970 965
1000   ddpm          955 957 956 962 950
1000   gan           946 950 951 952 940
1000   gan-filtered  950 955 953 956 946
10000  none          985 987 984 986 988
10000  duplicate     985 986 985 985 988
10000  affine        990 991 989 990 992
10000  ddpm          984 987 985 985
10000  gan           980 974 981 984 982
10000  gan-filtered  981 983 982 985 984
"""
RIGHT: dict[int, dict[str, list[int]]] = {}
"""By n_real and arm, of each seed."""
for _n_real, _arm, *_counts in map(str.split, COUNTS.strip().splitlines()):
    RIGHT.setdefault(int(_n_real), {})[_arm] = [int(count) for count in _counts]
LOST = {"none": 0, "duplicate": 1, "affine": 4, "ddpm": 3, "gan": 14, "gan-filtered": 4}
"""How many of the images that `none` gets right an arm's classifier does not."""
COSTS = {"ddpm": (300, 40), "gan": (120, 2), "gan-filtered": (120, 2)}
"""Device-seconds of training and sampling at 100 real images; ten times as many take twice as long."""
SWEEP = {"0.5x": -6, "1x": -4, "2x": -1, "share=0.25": -3, "share=0.75": 2}
"""Images more than the whole set's."""


def known_cells(sweeps: bool = True) -> pd.DataFrame:
    """The cells, as `runs.finished_cells` gives them, as far as the analyses read them."""
    cells = [
        cell(n_real, arm, seed, right)
        for n_real, arms in RIGHT.items()
        for arm, counts in arms.items()
        for seed, right in enumerate(counts)
    ]
    if sweeps:
        cells += [
            cell(n_real, arm, seed, right + more, variant)
            for n_real in (100, 1000)
            for arm in ("ddpm", "gan")
            for variant, more in SWEEP.items()
            for seed, right in enumerate(RIGHT[n_real][arm])
        ]
    return pd.DataFrame(cells).astype({"num_synthetic": "Int64"})


def with_counts(cells: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """The cells, and in a folder which test images each got right: all from that of LOST on."""
    first, last = (cells["method"].map(LOST) + more for more in (0, (NUM_TEST * cells["accuracy"]).round()))
    images = np.arange(NUM_TEST)
    right = {
        run_id: ((start <= images) & (images < end)).astype(np.uint8)
        for run_id, start, end in zip(cells["run_id"], first, last, strict=True)
    }
    np.savez_compressed(folder / runs.RIGHT, **right)
    return cells.assign(**{runs.PLACE: str(folder / runs.RIGHT)})


LIFT = {100: 60, 1000: 22, 10000: 4}
"""How many more images an augmented classifier gets right; what an arm gains is halved then, rounded up."""


def both_settings() -> pd.DataFrame:
    """The whole arms' cells, of bare and of augmented classifiers."""
    augmented = [
        cell(n_real, arm, seed, augmented_right(n_real, arm, seed))
        | {"setting": "augment=True", "run_id": f"{arm}-augmented-{n_real}-{seed}"}
        for n_real, arms in RIGHT.items()
        for arm, counts in arms.items()
        for seed in range(len(counts))
    ]
    bare = known_cells(sweeps=False)
    both = pd.concat([bare, pd.DataFrame(augmented)], ignore_index=True).astype({"num_synthetic": "Int64"})
    return both.assign(conditional_accuracy=np.nan, cas=np.nan)


def augmented_right(n_real: int, arm: str, seed: int) -> int:
    none = RIGHT[n_real]["none"][seed]
    return none + LIFT[n_real] - (none - RIGHT[n_real][arm][seed]) // 2


def gains_of(n_real: int, arm: str) -> np.ndarray:
    """The gains of an arm's seeds, percentage points."""
    counts = RIGHT[n_real][arm]
    return (np.array(counts) - RIGHT[n_real]["none"][: len(counts)]) / (NUM_TEST / 100)


def cell(n_real: int, arm: str, seed: int, right: int, variant: str = "") -> dict[str, object]:
    training, sampling = COSTS.get(arm, (float("nan"), float("nan")))
    slower = {100: 1, 1000: 2, 10000: 4}[n_real]
    return {
        "run_id": f"{arm}-{variant or 'whole'}-{n_real}-{seed}",
        "method": arm,
        "dataset": "mnist",
        "n_real": n_real,
        "seed": seed,
        "judge": "10e86c6514d40f2a",
        "accuracy": right / NUM_TEST,
        "generator_training_s": training * slower + seed,
        "generator_sampling_s": sampling,
        "classifier_training_s": 14.0,
        "num_synthetic": 0 if arm == "none" else 2000,
        "variant": variant,
        "setting": "",
        "host": "lab-1" if n_real < 10000 else "lab-2",
        "device": "x86_64, 2 cores" if n_real < 10000 else "NVIDIA H100",
        "filter_s": 15.0 if arm.endswith("-filtered") else float("nan"),
    }


# Quality
ARMS = {"none": 0.0, "affine": 0.04, "ddpm": 0.03, "ddpm-filtered": 0.0364, "gan": -0.01, "vae": 0.01}
"""The gain of each at 100 real images; at 600 it is half."""
SEEDS = (0, 1, 2)


def measured_cells(seeds: tuple[int, ...] = SEEDS, sizes: tuple[int, ...] = (100, 600)) -> pd.DataFrame:
    """A row per n_real, arm and seed. The better an arm, the better its figures, but for recall, which goes the other
    way, density, which has nothing to do with it, and precision, which is the same for all; seed s changes accuracy by
    s * 0.01 and gains by (s - 1) * 0.001."""
    rows = [
        measured_cell(n_real, method, seed, gain if n_real == 100 else gain / 2)
        for n_real in sizes
        for method, gain in ARMS.items()
        for seed in seeds
    ]
    return pd.DataFrame(rows).astype({"num_synthetic": "Int64"})


def measured_cell(n_real: int, method: str, seed: int, gain: float) -> dict[str, object]:
    gain += 0.0 if method == "none" else (seed - 1) * 0.001
    accuracy = (0.85 if n_real == 100 else 0.94) + 0.01 * seed + gain
    own: dict[str, object] = {
        "run_id": f"{method}-{n_real}-{seed}",
        "method": method,
        "dataset": "mnist",
        "judge": "0123456789abcdef",
        "n_real": n_real,
        "seed": seed,
        "variant": "",
        "setting": "",
        "accuracy": accuracy,
        "precision": accuracy,
        "recall": accuracy,
        "f1": accuracy,
        "num_synthetic": 0 if method == "none" else 1000,
        "conditional_accuracy": np.nan,
        "cas": np.nan,
        "generator_training_s": np.nan,
        "generator_sampling_s": np.nan,
        "classifier_training_s": 12.5,
        **{f"recall_class_{label}": accuracy + (0.5 - label) * 0.02 for label in (0, 1)},
        # Class 2 gains twice what the others gain.
        "recall_class_2": accuracy + gain,
    }
    if method == "none":
        return own
    return own | {
        "conditional_accuracy": 0.9 + gain,
        "conditional_accuracy_class_2": 0.8 + gain,
        "cas": np.nan if method in ("affine", "ddpm-filtered") else 0.9 + gain,
        "quality_fid": 5 - 100 * gain,
        "quality_kid": 0.05 - gain,
        "quality_precision": 0.8,
        "quality_recall": 0.8 - gain,
        "quality_density": 0.9 + 0.01 * ((3 * list(ARMS).index(method) + 2 * seed) % 5),
        "quality_coverage": 0.85 + gain,
        "quality_diversity": 0.9 + gain,
        "quality_sharpness": 1 + gain,
        "quality_copy_odds": 1.5 - 10 * gain,
        "quality_copy_p": 0.2,
        "quality_copy_share": 0.15 - gain,
        "quality_copy_chance": 0.1 if n_real == 100 else 0.4,
        "quality_copy_auc": 0.5,
        "floor_conditional_accuracy": 0.99 + 0.001 * seed,
        "floor_fid": 1.0 + 0.1 * seed,
        "floor_kid": 0.001 * seed,
        "floor_precision": 0.9,
        "floor_recall": 0.91,
        "floor_density": 1.0,
        "floor_coverage": 0.95,
        "floor_diversity": 1.01,
        "floor_sharpness": 1.02,
    }
