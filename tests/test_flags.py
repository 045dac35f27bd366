"""Every flag of every script: what it does not take is one line and exit code 2, before anything is done."""

import functools
import importlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import is_dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest
import tyro
from known_cells import measured_cells
from processes import ROOT, environment

from harness import bounds, cli, methods, spaces
from harness.tracking import __main__ as tracking
from harness.tracking import server, serving

sys.path += [str(ROOT / "experiments"), str(ROOT / "experiments" / "benchmarks")]
LAUNCHED = [path.stem for path in sorted((ROOT / "experiments").rglob("*.py")) if "cli.main(" in path.read_text()]
SCRIPTS: dict[str, Callable[..., Any]] = {
    **{name: importlib.import_module(name).main for name in LAUNCHED},
    **{
        path.stem: importlib.import_module(f"analysis.{path.stem}").main
        for path in sorted((ROOT / "analysis").glob("*.py"))
        if "cli.main(" in path.read_text()
    },
    **tracking.COMMANDS,
    "server": server.serve,
    "serving": serving.serve,
}
NEEDED = {
    "curves": ["train/loss", "--comparisons", "grid"],
    "tune": ["vae"],
    "grant": ["anna", "shared"],
    "serving": ["models:/vae@champion"],
    "quality": ["vae", "--against", "8829daa"],
}
WORDS = ("0", "-1", "nan", "inf", "1e30", "", "word", 151 * "x")


def flags(main: Callable[..., Any]) -> Iterator[tuple[str, Any, Any]]:
    """Each flag of a script, the type of its field, and whose field it is."""
    for name, hint in get_type_hints(main, include_extras=True).items():
        if is_dataclass(hint):
            yield from _fields(hint, "--")
        elif name != "return" and not _is_positional(hint):
            yield f"--{name}", hint, main


def _fields(config: Any, prefix: str) -> Iterator[tuple[str, Any, Any]]:
    for name, hint in get_type_hints(config, include_extras=True).items():
        if is_dataclass(hint):
            yield from _fields(hint, f"{prefix}{name}.")
        elif not _is_positional(hint):
            owner = next(base for base in reversed(config.__mro__) if name in getattr(base, "__annotations__", {}))
            yield f"{prefix}{name}", hint, owner


def _is_positional(hint: Any) -> bool:
    return tyro.conf.Positional[int].__metadata__[0] in getattr(hint, "__metadata__", ())


ALL = {
    (owner.__module__, owner.__qualname__, flag.rpartition(".")[2].lstrip("-")): (script, flag.replace("_", "-"), hint)
    for script, main in SCRIPTS.items()
    for flag, hint, owner in flags(main)
}
"""Each field once, in one of the scripts that have it."""


def takes(hint: Any, word: str) -> bool:
    """Whether a flag of this type may be given this word."""
    if not word:
        return False
    if not isinstance(within := bounds.of(hint), bounds.Within):
        return not _has(hint, Literal) and not (within and len(word) > 150)
    try:
        number = within.kind(word)
    except ValueError:
        return False
    ends = {">=": number.__ge__, ">": number.__gt__, "<=": number.__le__, "<": number.__lt__}
    ends["multiple of "] = lambda step: number % step == 0
    return abs(number) < float("inf") and all(ends[sign](type(number)(end)) for sign, end in within.ends.items())


def _has(hint: Any, kind: Any) -> bool:
    return hint is kind or get_origin(hint) is kind or any(_has(part, kind) for part in get_args(hint))


def test_every_number_has_bounds() -> None:
    numbers = {key: hint for key, (_, _, hint) in ALL.items() if _has(hint, int) or _has(hint, float)}
    assert len(numbers) > 60
    assert not [key for key, hint in numbers.items() if bounds.of(hint) is None]


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_flag_takes_what_is_declared_and_nothing_else(
    script: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    @functools.wraps(SCRIPTS[script])
    def parsed(**values: Any) -> None:
        pass

    wrong, known = [], set()
    for where, flag, hint in ALL.values():
        if where != script or _has(hint, bool):  # a switch takes no word
            continue
        taken = tuple(takes(hint, word) for word in WORDS)
        usual = WORDS[taken.index(True)] if True in taken else "word"
        for word in WORDS if taken not in known else ("", usual):  # all, by the first of those that take the same
            monkeypatch.setattr(sys, "argv", [f"{script}.py", *NEEDED.get(script, ()), flag, word])
            code: object = 0
            try:
                cli.main(parsed)
            except SystemExit as end:
                code = end.code
            said = capsys.readouterr()
            lines = said.err.splitlines()
            right, told = (0, 0) if takes(hint, word) else (2, 1)
            if (code, len(lines)) != (right, told) or said.out or not all(flag in line for line in lines):
                wrong.append((flag, word, code, lines))
        known.add(taken)
    assert not wrong


@pytest.mark.parametrize("script", LAUNCHED)
def test_help_shows_five_flags_first_and_no_flag_is_lost(
    script: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [f"{script}.py", "--help"])
    with pytest.raises(SystemExit):
        cli.main(SCRIPTS[script])
    shown = re.findall(r"^  (--?[a-z][^ ,\n]*)", capsys.readouterr().out, re.MULTILINE)
    every = {flag.replace("_", "-") for flag, *_ in flags(SCRIPTS[script])}
    assert sorted(shown) == sorted({"-h", *every})
    if "--dataset" in shown:
        assert shown.index("--dataset") == 0
        assert shown.index("-h") <= 5


def test_what_is_searched_is_within_the_bounds() -> None:
    for method in methods.names():
        config = methods.find(method).Config
        hints = get_type_hints(config, include_extras=True)
        for name, found in spaces.space_of(config).items():
            if within := bounds.of(hints[name]):
                assert all(value in within for value in found.choices or (found.low, found.high)), (method, name)


# --- What a terminal can show ----------------------------------------------------------------------------


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_who_reads_no_further_hears_no_complaint(unbuffered: str) -> None:
    """As in `vae.py --help | head -2`."""
    reads, writes = os.pipe()
    os.close(reads)
    help_ = [sys.executable, str(ROOT / "experiments" / "generate.py"), "--help"]
    own = environment(PYTHONUNBUFFERED=unbuffered)
    done = subprocess.run(help_, stdout=writes, stderr=subprocess.PIPE, env=own, text=True, check=False)
    os.close(writes)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, "")


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
    ("to", "code", "words"),
    [
        (">&-", 0, ""),
        ("<&- >&-", 0, ""),
        (">/dev/full", 1, "what is printed cannot be written: No space left on device"),
    ],
)
def test_an_output_that_is_closed_or_full_is_no_traceback(to: str, code: int, words: str, unbuffered: str) -> None:
    command = f"{sys.executable} {ROOT}/experiments/generate.py --help {to}"
    own = environment(PYTHONUNBUFFERED=unbuffered)
    done = subprocess.run(["bash", "-c", command], stderr=subprocess.PIPE, env=own, text=True, check=False)
    assert (done.returncode, done.stderr.removeprefix("generate.py: ").strip()) == (code, words)


@pytest.mark.parametrize("encoding", ["ascii", pytest.param("latin-1", marks=pytest.mark.long)])
def test_a_terminal_of_few_letters_gets_what_it_can_show(encoding: str, tmp_path: Path) -> None:
    cells = measured_cells()
    cells.loc[cells["method"] == "gan", "conditional_accuracy"] = 0.1  # collapsed, which a dagger says
    cells.to_csv(tmp_path / "rows.csv", index=False)
    done = subprocess.run(
        [sys.executable, "-m", "analysis.per_digit", "--rows", str(tmp_path / "rows.csv")],
        cwd=tmp_path, env=environment(PYTHONIOENCODING=encoding), capture_output=True, encoding=encoding, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert "| gan +" in done.stdout
    assert "†" in (tmp_path / "outputs/tables/per_digit.md").read_text(encoding="utf-8")


def test_a_refusal_that_was_broken_into_lines_is_whole_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def choose(method: Literal["first_of_all_methods", "the_second_method", "the_third"] = "the_third") -> None:
        pass

    said = "x.py: invalid choice 'fourth' for argument '--method'. Expected one of ("
    monkeypatch.setattr(sys, "argv", ["x.py", "--method", "fourth"])
    with pytest.raises(SystemExit):
        cli.main(choose)
    line = capsys.readouterr().err
    assert line.startswith(said)
    assert sorted(re.findall("'(.*?)'", line.removeprefix(said))) == [
        "first_of_all_methods", "the_second_method", "the_third",
    ]  # fmt: skip
    assert line.endswith("'); --help shows every flag\n")
    assert line.count(";") == 1


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_says_what_each_flag_means(
    script: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "90")
    monkeypatch.setattr(sys, "argv", [f"{script}.py", "--help"])
    with pytest.raises(SystemExit) as end:
        cli.main(SCRIPTS[script])
    assert not end.value.code
    about = capsys.readouterr().out
    said = re.split(r"^  (?=--?[a-z])", about, flags=re.MULTILINE)[1:]
    assert said
    meanings = {flag.split()[0]: re.sub(r"\(default:.*", "", flag.partition("  ")[2], flags=re.DOTALL) for flag in said}
    assert not [flag for flag, meaning in meanings.items() if not re.search("[a-z]{3}", meaning)]
    assert "Args:" not in about
    assert not re.search(r"default: (None|'')?\)", about)
    for row, after in pairwise(about.splitlines()):
        if re.match(r" {8}\S", row) and re.match(r" {8}\S", after):
            assert len(row) <= 90 < len(f"{row} {after.split()[0]}")


def test_the_trackings_commands_are_told_apart_and_others_refused() -> None:
    def called(*words: str) -> tuple[int, str, str]:
        command = [sys.executable, "-m", "harness.tracking", *words]
        done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False)
        return done.returncode, done.stdout, done.stderr

    code, about, _ = called("--help")
    assert code == 0
    assert "\n  reap   Close as KILLED the runs that" in about
    assert called("snyc")[::2] == (
        2, "harness.tracking: unknown command 'snyc'; known are sync, reap, grant, page, agent\n"
    )  # fmt: skip
    assert called()[::2] == (2, "harness.tracking: no command; known are sync, reap, grant, page, agent\n")
    assert called("reap", "--older-than", "1")[2].startswith("harness.tracking reap: --older-than 1.0 must be")
