"""One HTML file that asks the network for nothing: its style, its pictures and its policy are in it."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from html import escape
from pathlib import Path
from typing import Any

from analysis import runs, tables
from analysis.lazily import Figure, Image, pd
from analysis.runs import Source
from analysis.tables import Table
from harness import cli, outputs
from harness.errors import InputError

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 96rem; margin: 2rem auto; padding: 0 1rem; }
h1, h2 { line-height: 1.2; } h2 { margin-top: 2.5rem; }
table { border-collapse: collapse; font-size: 13px; } .wide { overflow-x: auto; }
th, td { padding: .2rem .45rem; border-bottom: 1px solid #ddd; text-align: left; vertical-align: top;
         white-space: nowrap; }
th { border-bottom: 2px solid #999; } .right { text-align: right; font-variant-numeric: tabular-nums; }
img { max-width: 100%; height: auto; } figure { margin: 0; } figcaption { color: #555; }
td.words { white-space: normal; min-width: 14rem; overflow-wrap: anywhere; }
:target { background: #fff3c4; }
"""
DPI = 150
CROSS_VALIDATED = (
    "There are no test images in this comparison: accuracy, precision, recall, F1 and CAS are on validation images, as "
    "in a cross-validation inside the n_real images. Its folds share images: intervals over them are too narrow "
    "(Nadeau and Bengio 2003)."
)
# The policy keeps the page from asking the network for anything, whatever names and reasons the runs hold.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


@dataclass(frozen=True)
class Section:
    """A part of a report: words, tables with their unrounded numbers, pictures with what they show; by file name.

    None for a picture is one that stands in the folder already. `setting` is the classifiers', see `each_setting`.
    """

    title: str
    words: Sequence[str] = ()
    tables: Mapping[str, tuple[Table, pd.DataFrame]] = field(default_factory=dict)
    pictures: Mapping[str, tuple[Figure | None, str]] = field(default_factory=dict)
    setting: str = ""

    def of(self, setting: str) -> Section:
        """The part as that of classifiers in a setting, which its title, captions and file names then say."""
        if not setting:
            return self
        said, suffix = f"Classifiers with {setting}.", f"_{in_names(setting)}"
        return replace(
            self,
            title=f"{self.title}: {setting}",
            tables={
                name + suffix: (replace(table, notes=[" ".join([said, *table.notes[:1]]), *table.notes[1:]]), numbers)
                for name, (table, numbers) in self.tables.items()
            },
            pictures={name + suffix: (figure, f"{of}. {said}") for name, (figure, of) in self.pictures.items()},
            setting=setting,
        )

    def noted(self, note: str) -> Section:
        """The part with another note under each of its tables."""
        noted = {
            name: (replace(table, notes=[*table.notes, note]), numbers)
            for name, (table, numbers) in self.tables.items()
        }
        return replace(self, tables=noted)

    def write(self, folder: Path) -> list[Path]:
        """NAME.md, .csv and .tex of each table and NAME.png of each picture in a folder that is there; their paths."""
        paths = [path for name, (table, numbers) in self.tables.items() for path in table.write(folder, name, numbers)]
        for name, (figure, _) in self.pictures.items():
            paths.append(folder / f"{name}.png")
            if figure is not None:
                _draw(figure, paths[-1])
        return paths


def _draw(figure: Figure, path: Path) -> None:
    """In 256 colours, which take half the bytes of a page that holds all pictures."""
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=DPI, pil_kwargs={"compress_level": 0})
    with Image.open(drawn) as picture:
        picture.convert("RGB").quantize().save(path)


def in_names(setting: str) -> str:
    """A setting in the names of files and metrics: of augment=True,width=16 augment-True_width-16."""
    return re.sub(r"[^A-Za-z0-9_]", "-", setting.replace(",", "_"))


def each_setting(sections: Callable[[pd.DataFrame], Iterable[Section]], cells: pd.DataFrame) -> Iterator[Section]:
    """An analysis' parts for each setting of the classifiers, whose cells are a grid of their own."""
    of_validation = "split" in cells and cells["split"].eq(runs.VALIDATION).any()
    for setting, own in runs.by_setting(cells):
        for section in sections(own):
            yield (section.noted(CROSS_VALIDATED) if of_validation else section).of(setting)


def write(sections: Iterable[Section], out: Path, otherwise: str) -> list[Path]:
    """Write an analysis' parts into a folder, made where it is not there; the paths.

    Raises InputError, which says `otherwise`, where it has none.
    """
    found = list(sections)
    if not found:
        raise InputError(otherwise)
    outputs.make_folder(out)
    return [path for section in found for path in section.write(out)]


def show(sections: Iterable[Section], out: Path, otherwise: str, json: bool = False) -> list[Path]:
    """As `write`, and print the tables, or what `told` gives."""
    with cli.answer(json) as answer:
        found = list(sections)
        paths = write(found, out, otherwise)
        answer.update(told(found, paths))
    if not json:
        print("\n".join(path.read_text(encoding="utf-8") for path in paths if path.suffix == ".md"), end="")
    return paths


def told(sections: Iterable[Section], paths: Iterable[Path]) -> dict[str, Any]:
    """An analysis' parts for `cli.answer`: the tables' unrounded rows and notes by name, the words, the files."""
    found = list(sections)
    return {
        "tables": {
            name: tables.told(numbers, table.notes)
            for section in found
            for name, (table, numbers) in section.tables.items()
        },
        "words": [word for section in found for word in section.words],
        "files": list(map(str, paths)),
    }


def script(
    sections: Callable[[pd.DataFrame], Iterable[Section]], otherwise: str, doc: str | None
) -> Callable[..., None]:
    """An analysis as a command: it shows the sections of the cells that its flags name. `doc` is its module's."""

    def main(source: Source = Source(), out: Path = Path("outputs/tables"), json: cli.AsJson = False) -> None:
        show(each_setting(sections, source.cells()), out, otherwise, json)

    main.__doc__ = f"""{str(doc).splitlines()[0]}

    It is printed, and written as md, csv and tex, with its picture.

    Args:
        source: where the cells are read
        out: folder for the files
    """
    return main


def html(title: str, sections: Iterable[Section], folder: Path) -> str:
    """The text of the file; the sections are written to the folder already. `title` is plain text."""
    parts: list[str] = []
    for section in sections:
        parts += [f"<h2>{escape(section.title)}</h2>", *map(paragraph, section.words)]
        for table, _ in section.tables.values():
            parts += [table.html(), *map(paragraph, table.notes)]
        parts += [picture(folder / f"{name}.png", section.title, of) for name, (_, of) in section.pictures.items()]
    return "\n".join(
        [
            "<!doctype html>",
            f'<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>',
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}"><link rel="icon" href="data:,">',
            f"<style>{STYLE}</style></head><body>",
            f"<h1>{escape(title)}</h1>",
            *parts,
            "</body></html>",
            "",
        ]
    )


def paragraph(text: str) -> str:
    return f"<p>{escape(text)}</p>"


def picture(path: Path, title: str, words: str) -> str:
    """A PNG file inside the page."""
    data = base64.b64encode(path.read_bytes()).decode()
    image = f'<img alt="{escape(title)}" src="data:image/png;base64,{data}">'
    return f"<figure>{image}\n<figcaption>{escape(words)}</figcaption></figure>"
