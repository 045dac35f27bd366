"""What `make soak` has tried, in soak.md: a row for each kind of trial, of its last time without a fault."""

import datetime
import subprocess

from processes import ROOT

FILE = ROOT / "tests" / "soak.md"
HEAD = """# What `make soak` has tried

Written by `make soak` itself: each row is the last time that nothing of it was wrong. A commit with a plus had
changes that were not committed.

| trial | tried | seed | seconds | commit | date |
|:--|--:|--:|--:|:--|:--|
"""


def record(trial: str, tried: str, seed: object, seconds: float) -> None:
    """Put the row in place of the trial's last one."""
    rows = [line for line in FILE.read_text().splitlines() if line.startswith("| `")] if FILE.exists() else []
    today = datetime.datetime.now(datetime.UTC).date()
    kept = [row for row in rows if not row.startswith(f"| `{trial}` |")]
    kept.append(f"| `{trial}` | {tried} | {seed} | {seconds:.0f} | {_commit()} | {today} |")
    FILE.write_text(HEAD + "\n".join(sorted(kept)) + "\n")


def _commit() -> str:
    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()

    return git("rev-parse", "--short", "HEAD") + "+" * bool(git("status", "--short", "--", ".", ":!tests/soak.md"))
