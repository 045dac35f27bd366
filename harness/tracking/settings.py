"""`mlflow.env` into the environment, which it never overrides. First of all: MLflow reads it at import."""

import os
from pathlib import Path

SETTINGS = Path(__file__).parents[2] / "mlflow.env"

if SETTINGS.is_file():
    for line in SETTINGS.read_text().splitlines():
        name, separator, value = line.partition("=")
        if separator and not name.lstrip().startswith("#"):
            os.environ.setdefault(name.strip(), value.strip())
