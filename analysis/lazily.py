"""The libraries that the analyses compute and draw with, each imported when it is first used.

Their imports take seconds, which nobody should wait for who asks for `--help`, mistypes a flag, or draws no picture.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import optuna
    import pandas as pd
    import seaborn as sns
    from matplotlib import pyplot as plt
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike, NDArray
    from PIL import Image
    from scipy import optimize, special, stats
    from tabulate import tabulate

    from harness import storages
else:

    class _Lazy:
        """A module, or a thing in it."""

        def __init__(self, module: str, name: str | None = None) -> None:
            self._place = module, name

        def _found(self) -> Any:
            module, name = self._place
            found = import_module(module)
            return getattr(found, name) if name else found

        def __getattr__(self, name: str) -> Any:
            return getattr(self._found(), name)

        def __call__(self, *arguments: Any, **named: Any) -> Any:
            return self._found()(*arguments, **named)

    np, pd, sns, optuna, plt = map(_Lazy, ("numpy", "pandas", "seaborn", "optuna", "matplotlib.pyplot"))
    optimize, special, stats = map(_Lazy, ("scipy.optimize", "scipy.special", "scipy.stats"))
    Figure, tabulate, Image = _Lazy("matplotlib.figure", "Figure"), _Lazy("tabulate", "tabulate"), _Lazy("PIL.Image")
    storages = _Lazy("harness.storages")
    Axes = ArrayLike = NDArray = Any  # for annotations alone

__all__ = ["ArrayLike", "Axes", "Figure", "Image", "NDArray", "np", "optimize", "optuna", "pd", "plt", "sns",
           "special", "stats", "storages", "tabulate"]  # fmt: skip
