"""Passwords in addresses: nowhere written or shown, and not to be given in a flag."""

import subprocess
import sys
from pathlib import Path

import pytest
from processes import environment

from harness.errors import InputError
from harness.tracking import addresses
from harness.tracking.redaction import redacted

ADDRESSES = [
    "postgresql://anna:hidden1@host/runs",
    "postgresql://anna:hid@den1@host/runs?connect_timeout=3",
    "postgresql:///runs?host=/run&user=anna&password=hidden1",
    "postgresql://host/runs?password=hidden1&user=anna",
    "postgresql://host/runs?sslpassword=hidden1",
    "mysql://host/runs?passwd=hidden1",
    "http://anna:hidden1@host:5000",
]


@pytest.mark.parametrize("address", ADDRESSES)
def test_a_password_in_an_address_is_shown_nowhere(address: str) -> None:
    shown = [redacted(f"--storage {address} ended"), addresses.without_password(address)]
    try:
        written, secrets = addresses.split_password(address)
        assert "hid" in "".join(secrets.values())
        shown.append(written)
    except InputError as error:
        shown.append(str(error))
    assert not [text for text in shown if "hid" in text or "den1" in text]
    assert "ended" in shown[0]
    for kept in ("connect_timeout=3", "user=anna", "host=/run"):
        assert (kept in address) == (kept in shown[1]) == (kept in shown[0])


def test_what_is_left_of_an_address_is_an_address() -> None:
    assert addresses.split_password("postgresql:///runs?host=/run&password=a%20b&user=anna") == (
        "postgresql:///runs?host=/run&user=anna",
        {"PGPASSWORD": "a b"},
    )
    assert addresses.split_password("postgresql://anna:ab@h/runs") == ("postgresql://anna@h/runs", {"PGPASSWORD": "ab"})
    for plain in ("postgresql:///runs?host=/run", "sqlite:///a?b=c", "http://host:5000", "postgresql://anna@h/runs"):
        assert addresses.split_password(plain) == (plain, {})


@pytest.mark.parametrize("address", ADDRESSES)
def test_a_password_in_a_flag_is_warned_of(address: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from harness import cli\ndef main(storage: str): pass\ncli.main(main)",
         "--storage", address],
        cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr.count("\n")) == (0, 1)
    assert "PGPASSFILE" in done.stderr
    assert "hid" not in done.stderr
