"""A disk that fails: after any fault the same command goes on, bit for bit, and what was journaled is there."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from fuzz import TRIED
from processes import ROOT, environment
from servers import installed

from harness.errors import InputError


def compiler() -> str:
    found = shutil.which("cc")
    if not found:
        raise InputError("faults of a disk need a C compiler, cc")
    return found


@pytest.mark.parametrize("number", [3, pytest.param(0, marks=[pytest.mark.long, pytest.mark.timeout(7200)])])
def test_after_a_fault_of_the_disk_a_training_goes_on_bit_for_bit(
    number: int, empty_outputs: Path, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """Three writes and syncs of a training of 20 steps, each without space, with an error or half done; or all."""
    installed(compiler)
    shim, source = tmp_path / "faults.so", ROOT / "tests" / "faults.c"
    subprocess.run([compiler(), "-shared", "-fPIC", "-o", str(shim), str(source), "-ldl"], check=True)
    command = [sys.executable, str(ROOT / "tests" / "faults.py"), str(tmp_path), str(empty_outputs), str(number), "0"]
    done = subprocess.run(command, env=environment(LD_PRELOAD=str(shim)), capture_output=True, text=True, check=False)
    cases = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, [case for case in cases if case["lost"] or not case["equal"]] or done.stderr
    record_property(TRIED, len(cases))
    assert len(cases) == number or (number == 0 and len(cases) > 200)
    stopped = [case for case in cases if case["code"]]
    assert not [case for case in stopped if not case["said"].strip().rpartition("\n")[2].startswith("vae.py: ")]
    assert {case["code"] for case in cases} <= {0, 2, 3}
