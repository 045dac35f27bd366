"""Results stay what they are, or the version of the numerics is another one.

python tests/test_numerics.py        # writes the golden file anew, after harness.numerics.VERSION was bumped
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator

from harness import methods, numerics
from harness.data import controls, datasets
from harness.data.images import ImageShape
from harness.evaluation import classifier
from harness.runs import generators
from harness.seeding import Draws, generator, permutation
from harness.training.loop import Batches, train

GOLDEN = Path(__file__).parent / "golden" / "numerics.json"
STEPS = 10
RELATIVE = dict.fromkeys([*methods.names(), "classifier"], 1e-5) | {"gan": 1e-2}
"""Of a loss after STEPS steps in float32: kernels round differently on each kind of processor, which moves a loss by
1e-7 of its value, and the GAN's, whose critic and generator amplify it, by 3e-3; another stream of numbers moves it by
more than a tenth."""
GIVEN: dict[str, dict[str, float]] = {"vae": {"kl_weight": 2.5}}
"""What was a default when the golden file was made: a run says its hyperparameters, whatever their defaults are."""
CHANGED = "results have changed: bump harness.numerics.VERSION, then `python tests/test_numerics.py`"


def digest(numbers: torch.Tensor) -> str:
    return hashlib.sha256(repr(numbers.tolist()).encode()).hexdigest()[:16]


def rounded(numbers: torch.Tensor) -> list[float]:
    return [round(number, 5) for number in numbers.flatten().double().tolist()]


def exact() -> dict[str, Any]:
    """What is the same on every processor."""
    draws = Draws(3, "train", 7, 8, slice(2, 5), torch.device("cpu"))
    splits = datasets.load("digits", n_real=200, seed=1)
    return {
        "permutation": permutation(12, generator(0, "order", 1)).tolist(),
        "integers": draws.integers("t", 1000).tolist(),
        "splits": [part.digest[:16] for part in (splits.real, splits.validation, splits.test)],
        "control labels": digest(controls.make_control("affine", splits.real, 300, 2).labels),
        "duplicates": controls.make_control("duplicate", splits.real, 300, 2).digest[:16],
        "normal": rounded(draws.normal("eps", 2)),
        "uniform": rounded(draws.uniform("u")),
        "stratified": rounded(draws.stratified("t")),
    }


def losses() -> dict[str, float]:
    """The last loss of a short training of each method, and of a classifier."""
    found, shape = {}, ImageShape(1, 8, 8, 10)
    real = datasets.load("digits", n_real=200).real
    for name in [*methods.names(), "classifier"]:
        accelerator = Accelerator(cpu=True)
        kind = classifier if name == "classifier" else methods.find(name)
        config = kind.Config(steps=STEPS, batch_size=32, **GIVEN.get(name, {}))
        model = (
            classifier.build_classifier(config, shape, 0)
            if name == "classifier"
            else generators.build_generator(name, config, shape, 0)
        )
        model.prepare(accelerator)
        batches = Batches((real, 32), seed=0, accelerator=accelerator)
        *_, (_, metrics) = train(model, batches, STEPS)
        found[name] = float(next(value for key, value in metrics.items() if "loss" in key))
    return found


def test_the_golden_figures_are_of_this_version() -> None:
    assert json.loads(GOLDEN.read_text())["version"] == numerics.VERSION, CHANGED


@pytest.mark.parametrize("name", sorted(exact()))
def test_what_is_drawn_is_what_was_drawn(name: str) -> None:
    found, known = exact()[name], json.loads(GOLDEN.read_text())["exact"][name]
    assert found == (pytest.approx(known, abs=2e-5) if isinstance(known[0], float) else known), CHANGED


def test_what_is_trained_is_what_was_trained() -> None:
    found, known = losses(), json.loads(GOLDEN.read_text())["losses"]
    assert found == {name: pytest.approx(loss, rel=RELATIVE[name]) for name, loss in known.items()}, CHANGED


if __name__ == "__main__":
    content = {"version": numerics.VERSION, "exact": exact(), "losses": losses()}
    GOLDEN.write_text(json.dumps(content, indent=1) + "\n")
