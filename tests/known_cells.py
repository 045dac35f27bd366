"""Cells of a comparison whose every figure is known: how many of 1,000 test images a classifier got right.

Three n_real, six arms and five seeds, without ddpm's seed 4 at 10,000, with sweeps of ddpm and gan at the two smaller.
"""

import pandas as pd

from harness import tracking

NUM_TEST = 1000
RIGHT = {
    100: {
        "none": [872, 880, 876, 884, 868],
        "duplicate": [870, 881, 874, 885, 867],
        "affine": [905, 913, 902, 915, 908],
        "ddpm": [890, 899, 885, 897, 893],
        "gan": [871, 884, 870, 889, 866],
        "gan-filtered": [878, 888, 880, 893, 874],
    },
    1000: {
        "none": [948, 952, 950, 955, 945],
        "duplicate": [947, 953, 950, 954, 946],
        "affine": [966, 971, 968, 970, 965],
        "ddpm": [955, 957, 956, 962, 950],
        "gan": [946, 950, 951, 952, 940],
        "gan-filtered": [950, 955, 953, 956, 946],
    },
    10000: {
        "none": [985, 987, 984, 986, 988],
        "duplicate": [985, 986, 985, 985, 988],
        "affine": [990, 991, 989, 990, 992],
        "ddpm": [984, 987, 985, 985],
        "gan": [980, 974, 981, 984, 982],
        "gan-filtered": [981, 983, 982, 985, 984],
    },
}
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


def cell(n_real: int, arm: str, seed: int, right: int, variant: str = "") -> dict[str, object]:
    training, sampling = COSTS.get(arm, (float("nan"), float("nan")))
    slower = {100: 1, 1000: 2, 10000: 4}[n_real]
    images = range(NUM_TEST)
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
        "right": tracking.packed([LOST[arm] <= image < LOST[arm] + right for image in images]),
        "host": "lab-1" if n_real < 10000 else "lab-2",
        "device": "x86_64, 2 cores" if n_real < 10000 else "NVIDIA H100",
        "filter_s": 15.0 if arm.endswith("-filtered") else float("nan"),
    }
