"""What two or more of the generators use."""

from collections.abc import Callable

from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


def moving_average(net: nn.Module, decay: float) -> AveragedModel:
    """An exponential moving average of a network's weights, updated by `update_parameters`; float32.

    At update n the decay is at most (1 + n) / (10 + n), so that a short training does not sample from its
    initial weights.
    """

    def update(averages: list[Tensor], weights: list[Tensor], num_averaged: Tensor | int) -> None:
        n = int(num_averaged)
        get_ema_multi_avg_fn(min(decay, (1 + n) / (10 + n)))(averages, weights, num_averaged)

    multi_avg_fn: Callable[..., None] = update
    return AveragedModel(net, multi_avg_fn=multi_avg_fn).requires_grad_(False)
