"""The generators: one file, one method. A file that stands here is found; nothing is registered."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, get_args, get_type_hints

from torch import Tensor

from harness.data.images import ImageShape
from harness.errors import InputError
from harness.seeding import Draws
from harness.training.loop import Batch

if TYPE_CHECKING:
    from accelerate import Accelerator


class Method(Protocol):
    """A class-conditional generator.

    It is an `nn.Module` that holds every network it has, averages (EMA) included, so that its
    `state_dict()` is the trained generator. A module `harness/methods/NAME.py` defines it as `Generator`,
    and beside it `Config`, whose fields carry the ranges that a study searches (`harness.spaces.searched`). Its
    `augment` is "none", or "moved" where the training images are under fresh small moves, or of the method's own.

    It may also have `pictures()`: named pictures of itself, each as images [n, C, H, W] and columns a row; and
    `begin_with(real)`, which is told the real images before any sample is drawn.
    """

    config: Any
    shape: ImageShape
    optimizers: list[Any]
    """what `prepare` has made: with the weights, all that a training must keep to be gone on with"""

    Config: ClassVar[type]
    """Hyperparameters, a frozen dataclass: its fields are the command line's flags."""
    sampling_fields: ClassVar[tuple[str, ...]]
    """those of them that only `sample` reads: the weights do not depend on them"""

    def __init__(self, config: Any, shape: ImageShape) -> None: ...

    def prepare(self, accelerator: Accelerator) -> None:
        """Move to the device; make the optimizers and the wrapped networks that `step` trains."""
        ...

    def step(self, batch: Batch, step: int) -> Mapping[str, Tensor]:
        """One step on one global batch; scalars to be logged, left on the device."""
        ...

    def sample(self, labels: Tensor, draws: Draws) -> Tensor:
        """Images float [n, C, H, W] in [-1, 1] for `labels` int64 [n]."""
        ...


VARIED = "varied"
"""What arms are called whose samples begin as real images; and where they do if nobody says."""
VARIED_START = 0.5


def is_varied(config: Any) -> bool:
    """Whether samples begin as real images."""
    return getattr(config, "start", 1) < 1


def arm_name(method: str, config: Any) -> str:
    """What tables call a generator: its method, how its training images were augmented, what its samples begin as."""
    return "-".join([method, *([config.augment] * (config.augment != "none")), *([VARIED] * is_varied(config))])


def of_arm(config: Any, arm: str) -> Any:
    """The configuration of an arm such as ddpm-moved, from its method's. Raises InputError for an unknown way."""
    method, *ways = arm.split("-")
    known = [way for way in get_args(get_type_hints(type(config))["augment"]) if way != "none"]
    known += [VARIED] * hasattr(config, "start")
    for way in ways:
        if way not in known:
            others = ", ".join(f"{method}-{way}" for way in known)
            raise InputError(f"unknown arm {arm!r}; of {method} there are {method}, {others}")
        if way == VARIED:
            config = dataclasses.replace(config, start=config.start if is_varied(config) else VARIED_START)
        else:
            config = dataclasses.replace(config, augment=way)
    return config


def names() -> list[str]:
    """The methods: the files of this folder; what several of them use stands in `blocks`."""
    return sorted(module.name for module in iter_modules(__path__) if not module.ispkg)


def find(name: str) -> Any:
    """The class of a method, a `Method`. Raises InputError for an unknown name."""
    if name not in names():
        raise InputError(f"unknown method {name!r}; known are {', '.join(names())}")
    return import_module(f"{__name__}.{name}").Generator
