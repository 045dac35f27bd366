"""LaTeX as it is written goes through pdflatex."""

import shutil
import subprocess
from pathlib import Path

import pytest
from known_cells import GOLDEN, files_of, known_cells, measured_cells
from servers import installed

from analysis import equivalence, report, sweeps
from analysis.tables import LATEX, Table
from harness.errors import InputError


def pdflatex() -> str:
    """Raises InputError where it, or a package that the tables need, is not installed."""
    found = shutil.which("pdflatex")
    if not found or subprocess.run(["kpsewhich", "booktabs.sty"], capture_output=True).returncode:
        raise InputError("no pdflatex with booktabs here; Debian has it as texlive-latex-recommended")
    return found


def compiled(tables: list[Path], folder: Path) -> str:
    """The log of a document that is these tables."""
    installed(pdflatex)
    inputs = [rf"\input{{{path}}}\clearpage" for path in tables]
    head = [r"\documentclass{article}", r"\usepackage[T1]{fontenc}", r"\usepackage{booktabs,graphicx}"]
    (folder / "all.tex").write_text("\n".join([*head, r"\begin{document}", *inputs, r"\end{document}"]))
    command = [pdflatex(), "-interaction=nonstopmode", "-halt-on-error", "all.tex"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    assert (folder / "all.pdf").read_bytes().startswith(b"%PDF")
    return (folder / "all.log").read_text(errors="replace")


def test_every_table_of_a_report_compiles(tmp_path: Path) -> None:
    folders = [
        files_of(report.main, measured_cells(), tmp_path / "report"),
        files_of(sweeps.main, known_cells(), tmp_path / "sweeps"),
        files_of(equivalence.main, known_cells(), tmp_path / "equivalence"),
    ]
    tables = [path for folder in (*folders, GOLDEN) for path in sorted(folder.glob("*.tex"))]
    assert len(tables) > 12
    log = compiled(tables, tmp_path)
    assert "Overfull" not in log
    assert f"({len(tables)} pages" in log  # a table each, none so long that it is lost


@pytest.mark.parametrize("where", ["word", "number", "note"])
def test_every_special_character_compiles(where: str, tmp_path: Path) -> None:
    odd = "".join(LATEX) + " a_b 95 % <0.001 > 59,000 [-1, +2] é"
    word, number, note = (odd if where == name else "1" for name in ("word", "number", "note"))
    if where == "number":  # a number's own signs
        number = "> 59,000 [< -900, +1,234] <0.001 ∞ -"
    (tmp_path / "odd.tex").write_text(Table(["method", "n"], [[word, number]], notes=[note, note]).latex())
    assert "(1 page" in compiled([tmp_path / "odd.tex"], tmp_path)
