"""Imports point one way, read off the source."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from processes import ROOT


def imported(path: Path) -> Iterator[str]:
    """The modules that a file imports, `harness.x` for `from harness import x`."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def files(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def uses(path: Path, *packages: str) -> set[str]:
    return {name for name in imported(path) if name.startswith(tuple(f"{p}." for p in packages)) or name in packages}


@pytest.mark.parametrize("path", files("harness"), ids=str)
def test_the_library_imports_neither_scripts_nor_analyses(path: Path) -> None:
    assert not uses(path, "experiments", "analysis")


@pytest.mark.parametrize("path", files("experiments"), ids=str)
def test_scripts_import_the_library_alone(path: Path) -> None:
    assert not uses(path, "analysis", "experiments")


@pytest.mark.parametrize("path", files("analysis"), ids=str)
def test_analyses_read_through_tracking_and_never_train(path: Path) -> None:
    assert not uses(path, "torch", "mlflow", "experiments")
    allowed = {"bounds", "bounds.NotNegative", "cli", "tracking", "errors", "errors.InputError"}
    if "stud" in path.name or path.name == "lazily.py":
        allowed |= {"studies", "studies.Direction"}
        allowed |= {f"confirmation{name}" for name in ("", ".best", ".confirmation", ".Confirmation")}
    assert uses(path, "harness") <= {"harness", *(f"harness.{name}" for name in allowed)}


@pytest.mark.parametrize("path", files("harness/methods"), ids=str)
def test_methods_know_neither_each_other_nor_the_plumbing(path: Path) -> None:
    assert not uses(path, "mlflow", "harness.tracking", "harness.experiment", "harness.data", "harness.classifier")
    assert not {name for name in imported(path) if name.startswith("harness.methods.") and name[16:].islower()}


def test_the_loop_knows_no_method() -> None:
    assert not uses(ROOT / "harness/training.py", "harness.methods", "harness.classifier")


NEEDED_BY_A_TRAINING = {"__init__", "__main__", "addresses", "bits", "calls", "inputs", "local", "settings", "writing"}
"""Of `harness.tracking`: without MLflow."""


def test_mlflow_stands_in_one_place_and_the_served_model() -> None:
    users = {str(p.relative_to(ROOT / "harness")) for p in files("harness") if uses(p, "mlflow")}
    assert {name for name in users if not name.startswith("tracking/")} == {"served_model.py"}
    assert not {Path(name).stem for name in users if name.startswith("tracking/")} & NEEDED_BY_A_TRAINING
