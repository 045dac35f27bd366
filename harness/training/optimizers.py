"""torch's optimizers, equal to the last bit, without the seconds that their first use costs; and Muon.

Their methods are wrapped in calls that keep torch.compile out of them, and a wrapper's first call imports the
compiler, wanted or not: 5 to 8 s. No step here is compiled as a whole, at most a network is, so the wrapped
functions are called directly. torch's own names for them are public; what wraps them is undone by `inspect.unwrap`.
"""

import inspect
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


class _Bare:
    add_param_group: Any = inspect.unwrap(Optimizer.add_param_group)
    zero_grad: Any = inspect.unwrap(Optimizer.zero_grad)
    state_dict: Any = inspect.unwrap(Optimizer.state_dict)
    load_state_dict: Any = inspect.unwrap(Optimizer.load_state_dict)


def _bare_step(optimizer: type[Optimizer]) -> Callable[..., Any]:
    return torch.no_grad()(inspect.unwrap(optimizer.step))


class Adam(_Bare, torch.optim.Adam):
    step: Any = _bare_step(torch.optim.Adam)


class AdamW(_Bare, torch.optim.AdamW):
    step: Any = _bare_step(torch.optim.AdamW)


class Muon(_Bare, Optimizer):
    """Momentum made orthogonal, for matrices (Jordan 2024, https://kellerjordan.github.io/posts/muon).

    A convolution's weight [outputs, inputs, h, w] is a matrix of as many rows as it has outputs. What torch.optim.Muon
    does, in the weights' own precision: torch's multiplies in bfloat16, which takes most of a step on processors that
    cannot, and rounds as each of them does.
    """

    def __init__(self, matrices: Iterable[Tensor], lr: float, momentum: float, weight_decay: float = 0.1) -> None:
        super().__init__(matrices, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        for group in self.param_groups:
            lr, momentum = group["lr"], group["momentum"]
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                mean = self.state[weight].setdefault("momentum_buffer", torch.zeros_like(weight))
                mean.lerp_(weight.grad, 1 - momentum)
                update = orthogonal(weight.grad.lerp(mean, momentum).flatten(1))
                longer = max(1.0, len(update) / update.shape[1]) ** 0.5
                weight.mul_(1 - lr * group["weight_decay"]).add_(update.view_as(weight), alpha=-lr * longer)


def orthogonal(matrix: Tensor, steps: int = 5) -> Tensor:
    """About the nearest matrix [m, n] with singular values 1: theirs end in 0.7 … 1.2, by Newton and Schulz."""
    wide = matrix if len(matrix) <= matrix.shape[1] else matrix.T
    wide = wide / wide.norm().clamp(min=1e-7)
    a, b, c = 3.4445, -4.775, 2.0315
    for _ in range(steps):
        square = wide @ wide.T
        wide = torch.addmm(wide, torch.addmm(square, square, square, beta=b, alpha=c), wide, beta=a)
    return wide if len(matrix) <= matrix.shape[1] else wide.T


class RMSprop(_Bare, torch.optim.RMSprop):
    step: Any = _bare_step(torch.optim.RMSprop)
