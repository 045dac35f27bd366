"""Tables as Markdown and LaTeX, and the words in their cells. What a number is stands in the analyses."""

from __future__ import annotations

import html
import math
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.lazily import pd, tabulate

LONG = 40  # characters, from which a column of words is broken into lines on a page


@dataclass(frozen=True)
class Table:
    """Rows of texts under headings, with notes."""

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    left: Sequence[str] = ("method",)
    """headings of the columns that are words"""
    notes: Sequence[str] = ()
    """a paragraph each; the first is LaTeX's caption"""
    group: str | None = None
    """heading of the column with whose values a new part begins"""
    links: Sequence[str] = ()
    """for HTML: per row the id of what its first word leads to, "" for nothing"""
    ids: Sequence[str] = ()
    """for HTML: per row the id under which it is found, "" for none"""

    def markdown(self) -> str:
        """Aligned, with its notes."""
        align = ["left" if heading in self.left else "right" for heading in self.headings]
        rows = [[text.replace("|", "\\|") for text in row] for row in self.rows]
        body = tabulate(rows, self.headings, "pipe", disable_numparse=True, colalign=align)
        return "\n\n".join([body, *self.notes]) + "\n"

    def latex(self) -> str:
        """A float (booktabs), shrunk to the line if wider."""
        lines = [
            r"% needs \usepackage{booktabs,graphicx}",
            r"\begin{table}",
            r"\centering",
            *([rf"\caption{{{latex_text(self.notes[0])}}}"] if self.notes else []),
            r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
            rf"\begin{{tabular}}{{{''.join('l' if heading in self.left else 'r' for heading in self.headings)}}}",
            r"\toprule",
            " & ".join(map(latex_text, self.headings)) + r" \\",
        ]
        previous = None
        for place, texts in enumerate(self.rows):
            part = texts[self.headings.index(self.group)] if self.group else ""
            if place == 0 or part != previous:
                lines.append(r"\midrule")
            previous = part
            styled = (
                latex_text(text) if heading in self.left else latex_number(text)
                for heading, text in zip(self.headings, texts, strict=True)
            )
            lines.append(" & ".join(styled) + r" \\")
        lines += [r"\bottomrule", r"\end{tabular}}"]
        lines += [rf"\par\medskip\raggedright\footnotesize {latex_text(note)}\par" for note in self.notes[1:]]
        return "\n".join([*lines, r"\end{table}", ""])

    def html(self) -> str:
        """A table element; the notes are the page's."""
        columns = zip(*self.rows, strict=True) if self.rows else [()] * len(self.headings)
        kinds = [
            (' class="words"' if max(map(len, texts), default=0) > LONG else "") if heading in self.left
            else ' class="right"'
            for heading, texts in zip(self.headings, columns, strict=True)
        ]  # fmt: skip

        def cells(tag: str, texts: Iterable[str], link: str = "") -> str:
            marked = [html.escape(text) for text in texts]
            if link:
                marked[place] = f'<a href="#{html.escape(link)}">{marked[place]}</a>'
            return "".join(f"<{tag}{kind}>{text}</{tag}>" for kind, text in zip(kinds, marked, strict=True))

        place = next((index for index, heading in enumerate(self.headings) if heading in self.left), 0)
        none = [""] * len(self.rows)
        body = "\n".join(
            f"<tr{f' id={chr(34)}{html.escape(name)}{chr(34)}' if name else ''}>{cells('td', row, link)}</tr>"
            for row, name, link in zip(self.rows, self.ids or none, self.links or none, strict=True)
        )
        head = f"<thead><tr>{cells('th', self.headings)}</tr></thead>"
        return f'<div class="wide"><table>{head}<tbody>\n{body}\n</tbody></table></div>'

    def write(self, folder: Path, name: str, numbers: pd.DataFrame) -> list[Path]:
        """NAME.md, NAME.csv (of the unrounded numbers) and NAME.tex in a folder that is there; their paths."""
        contents = {"md": self.markdown(), "csv": csv(numbers), "tex": self.latex()}
        paths = [folder / f"{name}.{suffix}" for suffix in contents]
        for path, content in zip(paths, contents.values(), strict=True):
            path.write_text(content, encoding="utf-8")
        return paths


def csv(numbers: pd.DataFrame) -> str:
    """A line per row. Ten digits: more than a metric logged from float32 holds, fewer than machines disagree about."""
    return numbers.to_csv(index=False, float_format="%.10g", lineterminator="\n")


def told(numbers: pd.DataFrame, notes: Iterable[str] = ()) -> dict[str, Any]:
    """A table for `cli.answer`."""
    return {"rows": records(numbers), "notes": list(notes)}


def records(numbers: pd.DataFrame) -> list[dict[str, Any]]:
    """A dict per row as JSON has it: None for NaN, the largest number for infinity, lists in columns of run ids."""
    known = numbers.astype(object).where(numbers.notna(), None)
    return [{str(name): _plain(str(name), value) for name, value in row.items()} for row in known.to_dict("records")]


def _plain(column: str, value: Any) -> Any:
    if column.endswith("run_ids"):
        return str(value or "").split()
    return max(-sys.float_info.max, min(sys.float_info.max, value)) if isinstance(value, float) else value


def number(value: float, style: str = "z.2f") -> str:
    """A number with two decimals; "-" for NaN."""
    return "-" if math.isnan(value) else format(value, style)


def with_interval(mean: float, low: float, high: float, style: str = "z.2f") -> str:
    """A mean with its interval, such as 98.45 [98.11, 98.79]; without it where that is NaN."""
    text = number(mean, style)
    return text if math.isnan(mean) or math.isnan(low) else f"{text} [{low:{style}}, {high:{style}}]"


def interval_in(row: Mapping[Any, Any], name: str, unit: str, style: str = "z.2f") -> str:
    """What `statistics.columns` has put into a row, as `with_interval`."""
    return with_interval(*(row[f"{name}{end}_{unit}"] for end in ("", "_low", "_high")), style=style)


def arm_columns(row: Mapping[Any, Any], *figures: tuple[str, str]) -> list[str]:
    """An arm's n_real, name and number of seeds, and each figure's mean and gain with their intervals."""
    texts = [str(row["n_real"]), row["method"], str(row["num_seeds"])]
    for mean, gain in figures:
        texts += [interval_in(row, mean, "percent"), interval_in(row, gain, "points", "+z.2f")]
    return texts


def seeds(numbers: Iterable[int]) -> str:
    """Seeds by number, such as seed 3, or seeds 0, 2."""
    words = [str(number) for number in numbers]
    return f"seed{'s' if len(words) > 1 else ''} {', '.join(words)}"


def p_value(p: float) -> str:
    """A p-value such as 0.013, or <0.001."""
    return "<0.001" if p < 0.001 else number(p, ".3f")


def seconds(duration: float) -> str:
    """A duration in whole seconds; with a decimal below ten."""
    return number(duration, ".0f" if duration >= 10 else ".1f")


LATEX = {character: "\\" + character for character in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "≥": r"$\ge$",
    "∞": r"$\infty$",
    "ρ": r"$\rho$",
    "†": r"$\dagger$",
    "‡": r"$\ddagger$",
}


def latex_text(text: str) -> str:
    """Text with LaTeX's special characters escaped."""
    return "".join(LATEX.get(character, character) for character in text)


def latex_number(text: str) -> str:
    """A number cell with true signs: +0.42, <0.001 and > 59,000 in mathematics, - as a dash."""
    if text == "-":
        return "--"
    signed = r"(?:[<>] ?[-+]?|[-+])[\d.]+(?:,\d{3})*"
    # in mathematics a bare comma would be followed by a space
    return re.sub(signed, lambda found: f"${found[0].replace(',', '{,}')}$", text).replace("∞", r"$\infty$")
