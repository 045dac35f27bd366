"""torch's optimizers, equal to the last bit, without the seconds that their first use costs.

Their methods are wrapped in calls that keep torch.compile out of them, and a wrapper's first call imports the
compiler, wanted or not: 5 to 8 s. No step here is compiled as a whole, at most a network is, so the wrapped
functions are called directly. torch's own names for them are public; what wraps them is undone by `inspect.unwrap`.
"""

import inspect
from collections.abc import Callable
from typing import Any

import torch
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


class RMSprop(_Bare, torch.optim.RMSprop):
    step: Any = _bare_step(torch.optim.RMSprop)
