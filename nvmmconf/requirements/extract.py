# SPDX-License-Identifier: BSD-2-Clause
"""Make `requirements.csv` from the specifications, for maintainers.

    python -m nvmmconf.requirements.extract SPEC_FOLDER

reads accelerator.md, nvmm-kernel.md and libnvmm.md there: every table row whose
first cell is an id (A-…, K-…, L-…), under the heading it stands below.
"""

from __future__ import annotations

import csv
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from nvmmconf.requirements.table import FILE, Requirement

_DOCUMENTS = ("accelerator.md", "nvmm-kernel.md", "libnvmm.md")
_ID = re.compile(r"[AKL]-[A-Z]+-\d+[a-z]?")
_HEADING = re.compile(r"#+\s+(?:[\d.]+[a-z]?\s+)?(.*)")
_CELL = re.compile(r"(?<!\\)\|")


def rows(document: Path) -> Iterator[Requirement]:
    """Yield the requirements of one document in its order."""
    area = ""
    for line in document.read_text(encoding="utf-8").splitlines():
        heading = _HEADING.fullmatch(line)
        if heading:
            area = heading[1].strip()
            continue
        cells = [cell.strip() for cell in _CELL.split(line.strip().strip("|"))]
        if len(cells) < 2 or not _ID.fullmatch(cells[0]):
            continue
        # That table has a column more: which exit.
        text = f"{cells[1]}: {cells[2]}" if cells[0].startswith("A-EXIT") else cells[1]
        kind = cells[2] if len(cells) > 2 and not cells[0].startswith("A-") else ""
        yield Requirement(
            id=cells[0],
            area=area.replace("`", ""),
            text=text.replace("**", "").replace("`", ""),
            source=f"{document.stem}{f' ({kind})' if kind else ''}".replace("`", ""),
        )


def main(folder: Path) -> None:
    """Write the table beside this module."""
    found: dict[str, Requirement] = {}
    for name in _DOCUMENTS:
        for row in rows(folder / name):
            found.setdefault(row.id, row)  # a later one is a remark on what was measured
    with FILE.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("id", "area", "source", "text"))
        writer.writerows((row.id, row.area, row.source, row.text) for row in found.values())
    print(f"{len(found)} requirements")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
