"""Write a comparison into a folder, and read it back."""

from pathlib import Path

import msgspec

from bench.compare.comparison import Comparison
from bench.report.csv_table import csv_text
from bench.report.page import report_html

SEEN = "seen.json"


def write_report(seen: Comparison, folder: Path) -> list[Path]:
    """Write seen.json, figures.csv and report.html; return their paths."""
    texts = {
        SEEN: msgspec.json.encode(seen).decode() + "\n",
        "figures.csv": csv_text(seen),
        "report.html": report_html(seen),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (folder / name).write_text(text)
    return [folder / name for name in texts]


def read_comparison(path: Path) -> Comparison:
    """Return what a folder, or the JSON file itself, holds; ValueError if it is no comparison."""
    file = path / SEEN if path.is_dir() else path
    try:
        return msgspec.json.decode(file.read_bytes(), type=Comparison)
    except msgspec.DecodeError as error:
        raise ValueError(
            f"{file} was not written by this version of `karta bench compare`: {error}"
        ) from error
