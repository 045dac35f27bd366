"""Credentials out of what is stored and printed."""

import os
import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from harness.cli import PASSWORD

NAMES = re.compile(r"PASSWORD|PASSWD|PASSPHRASE|TOKEN|SECRET|CREDENTIAL|API_?KEY|ACCESS_KEY|PRIVATE_KEY", re.IGNORECASE)
SHORTEST = 6


def redacted(text: str) -> str:
    """The text without users and passwords in addresses, and without the values of the environment's secrets; as UTF-8.

    A secret is a variable with a name such as MLFLOW_TRACKING_PASSWORD, AWS_SECRET_ACCESS_KEY or HF_TOKEN and a
    value of at least SHORTEST characters: shorter ones would be found in harmless words.
    """
    return _without(_secrets(), text)


def all_redacted(values: Mapping[str, Any]) -> dict[str, str]:
    """The text of each of many values, for which the environment is looked through once."""
    secrets = _secrets()
    return {name: _without(secrets, str(value)) for name, value in values.items()}


def _without(secrets: Sequence[str], text: str) -> str:
    text = text.encode("utf-8", "backslashreplace").decode()  # a byte that is none of UTF-8's, of a name or an argument
    for secret in secrets:
        text = text.replace(secret, "***")
    return PASSWORD.sub(lambda found: "***@" if found[0].endswith("@") else f"{found[0].partition('=')[0]}=***", text)


def _secrets() -> list[str]:
    """Values as they are and as they stand in an address, long ones first: one may be a part of another."""
    values = {value for name, value in os.environ.items() if NAMES.search(name) and len(value) >= SHORTEST}
    return sorted(values | {quote(value, safe="") for value in values}, key=len, reverse=True)
