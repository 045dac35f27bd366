"""What a generator's script does: its flags are those of a single run and of its method."""

from collections.abc import Callable
from typing import Any

from harness import tracking
from harness.settings import Single


def training_of(method: str, method_config: Any) -> Callable[[Single, Any], int]:
    """The `main` of a script that trains one generator, `method_config` being its hyperparameters' class."""

    def main(
        settings: Single = Single(),
        config: method_config = method_config(),  # pyright: ignore[reportInvalidTypeForm]  known when this is defined
    ) -> int:
        """Train one generator, sample from it, let the judge score the samples, log it all."""
        from harness.runs import generators

        generators.run_generator(method, config, settings)
        return tracking.exit_code()

    return main
