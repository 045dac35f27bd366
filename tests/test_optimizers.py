"""The optimizers are torch's own to the last bit."""

import subprocess
import sys

import pytest
import torch
from processes import ROOT, environment

from harness.training import optimizers

TWO_STEPS = """
import sys
import torch
from accelerate import Accelerator
from harness.data import datasets
from harness.data.images import ImageShape
from harness.methods import vae
from harness.training import loop

torch.manual_seed(0)
model = vae.VAE(vae.Config(), ImageShape(1, 8, 8, 10))
model.prepare(Accelerator(cpu=True))
for _, metrics in loop.train(model, loop.Batches((datasets.load("digits", n_real=100).real, 32), seed=0), 2):
    print(float(next(iter(metrics.values()))))
print("torch._dynamo" in sys.modules)
"""


def two_steps(**settings: str) -> list[str]:
    """In a fresh process: two losses, and whether the compiler was imported."""
    done = subprocess.run(
        [sys.executable, "-c", TWO_STEPS],
        env=environment(**settings),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def trajectory(kind: type[torch.optim.Optimizer], **options: object) -> tuple[list[torch.Tensor], dict]:
    """The weights after each of six steps, saved and gone on with in between; and the last state."""
    draw = torch.Generator().manual_seed(0)
    net = torch.nn.Linear(7, 5, bias="Muon" not in kind.__name__)  # which takes matrices alone
    with torch.no_grad():
        for weight in net.parameters():
            weight.copy_(torch.randn(weight.shape, generator=draw))
    optimizer = kind(net.parameters(), lr=0.03, **options)
    weights = []
    for step in range(6):
        if step == 3:
            saved, optimizer = optimizer.state_dict(), kind(net.parameters(), lr=0.5, **options)
            optimizer.load_state_dict(saved)
        optimizer.zero_grad()
        net(torch.randn(11, 7, generator=draw)).square().mean().backward()
        optimizer.step()
        weights += [weight.detach().clone() for weight in net.parameters()]
    return weights, optimizer.state_dict()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("Adam", {"fused": True, "betas": (0.7, 0.9)}),
        ("Adam", {"fused": False}),
        ("AdamW", {"fused": True}),
        ("AdamW", {"foreach": True}),
        ("RMSprop", {"foreach": True}),
    ],
)
def test_the_weights_are_those_of_torchs_optimizer(name: str, options: dict) -> None:
    ours, our_state = trajectory(getattr(optimizers, name), **options)
    theirs, their_state = trajectory(getattr(torch.optim, name), **options)
    assert all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True))
    assert our_state["param_groups"] == their_state["param_groups"]
    assert our_state["state"].keys() == their_state["state"].keys()


def test_muons_weights_are_those_of_torchs_but_for_its_rounding() -> None:
    """torch's multiplies in bfloat16."""
    (ours, _), (theirs, _) = (trajectory(kind, momentum=0.9) for kind in (optimizers.Muon, torch.optim.Muon))
    for own, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(own, other, atol=2e-3, rtol=0)  # a step moves a weight by some 0.01


def test_a_kernel_is_a_matrix_of_as_many_rows_as_it_has_outputs() -> None:
    kernel, draw = torch.nn.Conv2d(3, 8, 3, bias=False), torch.Generator().manual_seed(0)
    matrix = torch.nn.Parameter(kernel.weight.detach().flatten(1).clone())
    for weight in (kernel.weight, matrix):
        weight.grad = torch.randn(kernel.weight.shape, generator=draw.manual_seed(1)).view_as(weight)
        optimizers.Muon([weight], lr=0.1, momentum=0.9).step()
    assert torch.equal(kernel.weight.flatten(1), matrix)


@pytest.mark.parametrize("shape", [(24, 216), (40, 8)])
def test_an_orthogonal_matrix_has_singular_values_about_1(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    found = optimizers.orthogonal(matrix)
    assert found.shape == shape
    values = torch.linalg.svdvals(found)
    assert 0.5 < values.min() <= values.max() < 1.3
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    assert torch.nn.functional.cosine_similarity(found.flatten(), (left @ right).flatten(), 0) > 0.95


def test_hooks_are_called() -> None:
    """As accelerate's scaler and torch's profiler expect of an optimizer."""
    weight = torch.nn.Parameter(torch.ones(2))
    optimizer = optimizers.Adam([weight])
    calls = []
    optimizer.register_step_pre_hook(lambda *_: calls.append("before"))
    optimizer.register_step_post_hook(lambda *_: calls.append("after"))
    weight.sum().backward()
    optimizer.step()
    assert calls == ["before", "after"]
    assert weight.requires_grad


@pytest.mark.long
def test_a_compiled_network_trains() -> None:
    (*compiled, imported), (*plain, not_imported) = two_steps(ACCELERATE_DYNAMO_BACKEND="eager"), two_steps()
    assert (imported, not_imported) == ("True", "False")
    assert [float(loss) for loss in compiled] == pytest.approx([float(loss) for loss in plain])
