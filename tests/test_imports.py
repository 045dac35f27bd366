"""Imports point one way: the floors of pyproject.toml, and what cannot be said there."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from processes import ROOT


def test_the_house_has_the_floors_that_pyproject_draws() -> None:
    command = [Path(sys.executable).with_name("lint-imports"), "--no-cache"]
    drawn = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert drawn.returncode == 0, drawn.stdout


def imported(path: Path) -> Iterator[str]:
    """The modules that a file imports, `harness.x` for `from harness import x`."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def uses(path: Path, *packages: str) -> set[str]:
    return {name for name in imported(path) if name.startswith(tuple(f"{p}." for p in packages)) or name in packages}


@pytest.mark.parametrize("path", sorted((ROOT / "experiments").rglob("*.py")), ids=str)
def test_scripts_import_the_library_alone(path: Path) -> None:
    """But for a comparison and a study, which say what they have come to."""
    answers = {"compare.py": {"analysis", "analysis.answer"}, "tune.py": {"analysis", "analysis.study_answer"}}
    answers |= {"quality.py": {"analysis", "analysis.statistics"}}  # its table has intervals
    assert uses(path, "analysis", "experiments") == answers.get(path.name, set())


@pytest.mark.parametrize("path", sorted((ROOT / "harness/methods").glob("[a-z]*.py")), ids=str)
def test_methods_do_not_know_each_other(path: Path) -> None:
    assert uses(path, "harness.methods") <= {
        name for name in imported(path) if name.startswith("harness.methods.blocks") or name == "harness.methods"
    }


NEEDED_BY_A_TRAINING = {"__init__", "__main__", "addresses", "calls", "inputs", "local", "settings", "writing"}


@pytest.mark.parametrize("name", sorted(NEEDED_BY_A_TRAINING))
def test_what_a_training_needs_of_tracking_does_not_import_mlflow(name: str) -> None:
    assert not uses(ROOT / f"harness/tracking/{name}.py", "mlflow")
