"""The pages that people read: their links lead somewhere, and their commands are ones that the scripts take."""

import functools
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from processes import ROOT
from test_flags import SCRIPTS

from harness import cli

PAGES = sorted(
    page
    for folder in (".", "analysis", "analysis/results/*", "experiments", "harness", "harness/*", "tests")
    for page in ROOT.glob(f"{folder}/*.md")
)
LINK = re.compile(r"\]\(([^)#\s]+)[^)]*\)")
BLOCK = re.compile(r"```bash\n(.*?)```", re.DOTALL)
SCRIPT = r"experiments/(?:benchmarks/)?(\w+)\.py|-m analysis\.(\w+)|-m harness\.tracking (\w+)"
COMMAND = re.compile(rf"""(?:{SCRIPT})([^'";|]*)""")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    targets = [target for target in LINK.findall(text) if "://" not in target]
    assert not [target for target in targets if not (page.parent / target).exists()]


def commands() -> Iterator[tuple[str, tuple[str, ...]]]:
    """Each script that a page calls, with its flags."""
    for page in PAGES:
        for block in BLOCK.findall(page.read_text()):
            block = block.replace("\\\n", " ")
            for name, value in re.findall(r'^(\w+)="?([^"\n]+?)"?$', block, re.MULTILINE):
                block = re.sub(rf"\${name}\b", value, block)
            block = re.sub(r"\$\w+", "1", re.sub(r"\s#.*", "", block))  # a loop's variable is a number
            for line in block.splitlines():
                for *names, flags in COMMAND.findall(line):
                    words = shlex.split(flags)
                    if "…" not in words:  # as usual, and more
                        yield next(filter(None, names)), tuple(words)


@pytest.mark.parametrize(("script", "flags"), sorted(set(commands())))
def test_commands_are_taken(
    script: str, flags: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    @functools.wraps(SCRIPTS[script])
    def parsed(**values: Any) -> None:
        assert values or not flags

    if "--config" in flags:
        (tmp_path / "best.toml").write_text("[gan]\nepochs = 3\n")
        flags = tuple(str(tmp_path / "best.toml") if word.endswith("best.toml") else word for word in flags)
    monkeypatch.setattr(sys, "argv", [f"{script}.py", *flags])
    cli.main(parsed)


def test_there_are_commands_of_every_kind() -> None:
    called = {script for script, _ in commands()}
    assert {"ddpm", "compare", "tune", "generate", "classifier", "accuracy_table", "report", "sync", "reap"} <= called
