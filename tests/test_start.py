"""Nobody imports what they do not use: what each command has imported when it ends, in a fresh process."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from processes import ROOT, environment

HEAVY = {"torch", "accelerate", "mlflow", "pandas", "numpy", "scipy", "sklearn", "seaborn", "matplotlib", "optuna",
         "torchvision", "torchmetrics", "diffusers", "sqlalchemy"}  # fmt: skip
SCRIPTS = sorted(path.name for path in (ROOT / "experiments").glob("*.py"))
ANALYSES = sorted(path.stem for path in (ROOT / "analysis").glob("*.py") if "cli.main(" in path.read_text())
ROWS = ROOT / "analysis/results/mnist/rows.csv"
COMMANDS: dict[str, tuple[list[str], set[str]]] = {
    "a script's --help": ([f"{ROOT}/experiments/{name} --help" for name in SCRIPTS], {"torch", "numpy"}),
    "an analysis' --help": ([f"analysis.{name} --help" for name in ANALYSES], set()),
    "a mistyped flag": ([f"analysis.{name} --no-such-flag" for name in ANALYSES], set()),
    "the tracking's --help": ([f"harness.tracking{command} --help" for command in ("", " sync", " reap")], set()),
    "the server's --help": (["harness.tracking.server --help"], set()),
    "tables of rows": (
        [f"analysis.{name} --rows {ROWS} --out {{folder}}" for name in ("claims", "significance")],
        {"pandas", "numpy", "scipy"},
    ),
}
"""Commands of a kind, run one after the other in one process, and which of the heavy packages they may import."""

REPORT = """
import json, runpy, sys
for command in sys.argv[1:]:
    sys.argv = command.split()
    try:
        if sys.argv[0].endswith(".py"):
            runpy.run_path(sys.argv[0], run_name="__main__")
        else:
            runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    except SystemExit:
        pass
print("\\n" + json.dumps(sorted({module.partition(".")[0] for module in sys.modules})))
"""


@pytest.mark.parametrize("kind", COMMANDS)
def test_a_command_imports_no_more_than_it_may(kind: str, tmp_path: Path) -> None:
    commands, allowed = COMMANDS[kind]
    done = subprocess.run(
        [sys.executable, "-c", REPORT, *(command.format(folder=tmp_path) for command in commands)],
        cwd=ROOT, env=environment(), capture_output=True, text=True, check=True,
    )  # fmt: skip
    imported = set(json.loads(done.stdout.splitlines()[-1]))
    assert imported & HEAVY <= allowed


TRAINS = """
import sys
from accelerate import Accelerator
from harness.data import datasets
from harness.evaluation import classifier
from harness.methods import ddpm, gan, vae
from harness.runs import generators
from harness.settings import Single
from harness.training import loop
heavy = {"torch._dynamo", "mlflow", "pandas", "torchvision", "torchmetrics", "sqlalchemy", "sklearn", "optuna",
         "matplotlib", "seaborn"}
small = ddpm.Config(steps=2, batch_size=16, hidden_channels=8, num_steps=20)
digits = datasets.load("digits", n_real=100)
batches = loop.Batches((digits.real, 16), seed=0)
for method, config in (
    (ddpm.DDPM, small), (gan.GAN, gan.Config(loss="wgan-gp")), (vae.VAE, vae.Config()),
    (classifier.Classifier, classifier.Config(width=8)),
):
    model = method(config, digits.image_shape)
    model.prepare(Accelerator(cpu=True))
    for _ in loop.train(model, batches, 2):
        pass
print(sorted((heavy | {"scipy"}) & {*sys.modules}))
for name, config in {
    "ddpm": small, "gan": gan.Config(steps=2, batch_size=16), "vae": vae.Config(steps=2, batch_size=16),
}.items():
    generators.run_generator(name, config, Single(n_real=100, num_synthetic=40, cas_steps=2))
print(sorted(heavy & {*sys.modules}))
"""


@pytest.mark.usefixtures("store", "agent")
def test_a_training_imports_neither_mlflow_nor_a_compiler(tmp_path: Path) -> None:
    """Of steps alone, and of runs from their first lines to their last, pictures, scores and tracking included."""
    done = subprocess.run(
        [sys.executable, "-c", TRAINS],
        cwd=tmp_path, env=environment(ACCELERATE_USE_CPU="true"), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stdout.splitlines() if line.startswith("[")] == ["[]", "[]"]
