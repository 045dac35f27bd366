"""Three processes compute what one does."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import processes
import pytest
import ranks
import torch
from accelerate import Accelerator
from processes import ROOT, environment

from harness.errors import InputError
from harness.training import launch


def computed(folder: Path, world: int, accumulate: int) -> list[dict[str, Any]]:
    """By the processes of a job, each in its place of the list."""
    job = processes.start(folder, str(ROOT / "tests" / "ranks.py"), str(folder), str(accumulate), world=world)
    assert processes.wait(job) == [0] * world, processes.said(folder)
    return [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in range(world)]


@pytest.fixture(scope="module")
def one() -> dict[str, Any]:
    return ranks.results(Accelerator(cpu=True))


def test_scores_count_every_image_once(several: list, one: dict) -> None:
    """1,001 images, which no number of processes divides."""
    assert all(found["scores"] == one["scores"] for found in several)


@pytest.fixture(scope="module")
def in_parts() -> dict[str, Any]:
    return ranks.results(Accelerator(cpu=True), accumulate=4)


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Of three processes, which take their shares of a batch in two parts."""
    return computed(tmp_path_factory.mktemp("ranks"), world=3, accumulate=2)


@pytest.mark.parametrize("variant", list(ranks.VARIANTS))
def test_all_processes_have_the_same_weights(variant: str, several: list) -> None:
    for name, weight in several[0][variant]["float32"].items():
        for other in several[1:]:
            assert torch.equal(weight, other[variant]["float32"][name]), name


def assert_equal_but_for_rounding(found: dict[str, Any], expected: dict[str, Any]) -> None:
    """Weights in float64: Adam makes a whole step of a rounding error where a gradient is 0, as that of the
    critic's bias, which the Wasserstein loss cancels. In float32 the gradients say it.
    """
    for name, weight in found["float64"].items():
        torch.testing.assert_close(weight, expected["float64"][name], atol=1e-9, rtol=1e-9)
    assert_same_gradients(found["gradients"], expected["gradients"])


def assert_same_gradients(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    """In float32, to 1 % of a tensor's largest: rounding may take the input of a ReLU over its kink, which was seen to
    move one by 0.3 %; one of 24 images that counts twice, or not at all, moves it by some 4 %."""
    for name, gradient in found.items():
        largest = expected[name].abs().max().item()
        torch.testing.assert_close(gradient, expected[name], atol=1e-2 * max(largest, 1e-5), rtol=0)


@pytest.mark.parametrize("variant", list(ranks.VARIANTS))
def test_weights_and_gradients_are_those_of_one_process(variant: str, several: list, one: dict) -> None:
    """The gradient penalty's double backward included."""
    assert_equal_but_for_rounding(several[0][variant], one[variant])


@pytest.mark.parametrize("name", list(ranks.CLASSIFIERS))
def test_a_classifier_is_taught_as_by_one_process(name: str, several: list, one: dict) -> None:
    """Moved images and norms by image included; what an optimizer makes of equal gradients is equal."""
    assert_same_gradients(several[0][name]["gradients"], one[name]["gradients"])
    for found in several[1:]:
        assert all(
            torch.equal(found[name]["weights"][key], weight) for key, weight in several[0][name]["weights"].items()
        )


def test_norms_over_the_batch_are_for_one_process(several: list, one: dict) -> None:
    assert [found["refused"][:32] for found in several] == ["--batch-norm is for one process:"] * len(several)
    assert not one["refused"]


@pytest.mark.parametrize("variant", list(ranks.VARIANTS))
def test_a_sample_set_is_that_of_one_process(variant: str, several: list, one: dict) -> None:
    assert {found[variant]["samples"] for found in several} == {one[variant]["samples"]}


@pytest.mark.parametrize("variant", list(ranks.VARIANTS))
def test_accumulated_parts_are_the_whole(variant: str, in_parts: dict, one: dict) -> None:
    assert_equal_but_for_rounding(in_parts[variant], one[variant])


@pytest.mark.parametrize(
    ("left", "world"),
    [
        ({"WORLD_SIZE": "2", "RANK": "0"}, 1),
        ({"PMI_SIZE": "2", "PMI_RANK": "0"}, 1),
        ({"MASTER_PORT": "29500", "ACCELERATE_DYNAMO_USE_FULLGRAPH": "False"}, 1),
        ({"WORLD_SIZE": "1", "RANK": "0"}, 2),
    ],
)
def test_a_world_that_is_not_the_launchers_is_refused(left: dict[str, str], world: int) -> None:
    with pytest.raises(InputError, match="ACCELERATE_USE_CPU=true accelerate launch --multi_gpu"):
        launch.check_world(left, world)


def test_a_single_process_is_no_broken_promise() -> None:
    launch.check_world({}, 1)
    launch.check_world({"WORLD_SIZE": "1", "RANK": "0", "MASTER_PORT": "29500"}, 1)
    launch.check_world({"WORLD_SIZE": "2", "RANK": "1", "MASTER_PORT": "29500"}, 2)


def test_what_only_looks_like_a_launch_is_none(tmp_path: Path) -> None:
    """As a shell has it under srun, or who has exported a port for another program."""
    alone = "from harness.training import launch; print(launch.accelerator().num_processes)"
    leftover = {"PMI_SIZE": "8", "WORLD_SIZE": "4", "MASTER_PORT": "29500"}
    done = subprocess.run(
        [sys.executable, "-c", alone], cwd=tmp_path, env=environment(ACCELERATE_USE_CPU="true", **leftover),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.stdout, done.returncode) == ("1\n", 0), done.stderr


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("ACCELERATE_MIXED_PRECISION", "fp8", "ACCELERATE_MIXED_PRECISION=fp8 must be no, bf16 or fp16"),
        ("ACCELERATE_MIXED_PRECISION", "fp32", "ACCELERATE_MIXED_PRECISION=fp32 must be no, bf16 or fp16"),
        ("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4", "STEPS=4 changes what is computed, and no run would say so"),
        ("ACCELERATE_USE_FSDP", "true", "ACCELERATE_USE_FSDP=true changes what is computed"),
        ("NVIDIA_TF32_OVERRIDE", "0", "NVIDIA_TF32_OVERRIDE=0 changes what is computed"),
        ("ONEDNN_DEFAULT_FPMATH_MODE", "BF16", "ONEDNN_DEFAULT_FPMATH_MODE=BF16 changes what is computed"),
    ],
)
def test_a_variable_that_changes_what_is_computed_is_refused(
    name: str, value: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=message):
        launch.accelerator()


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU has fp16")
def test_a_cpu_has_no_fp16(monkeypatch: pytest.MonkeyPatch) -> None:
    """Accelerate computed in float32 there, and said fp16."""
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "fp16")
    with pytest.raises(InputError, match="fp16 needs a GPU; on a CPU give bf16, or no"):
        launch.accelerator()


@pytest.mark.parametrize(
    ("name", "value"), [("ACCELERATE_USE_FSDP", "false"), ("ONEDNN_DEFAULT_FPMATH_MODE", "strict")]
)
def test_a_variable_that_changes_nothing_is_none_of_our_business(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    launch.check_environment()
