# SPDX-License-Identifier: BSD-2-Clause
"""How a run ended, for a terminal."""

from __future__ import annotations

import io

from rich.console import Console
from rich.table import Table

from nvmmconf.results import Run
from nvmmconf.results.summary import Counts, by_area_and_target, count, targets


def summary_lines(run: Run, width: int = 80) -> list[str]:
    """Return a table of areas and targets, and a sentence; plain text, `width` columns."""
    table = Table(box=None, pad_edge=False, show_edge=False, header_style="")
    table.add_column("area")
    columns = targets(run)
    for target in columns:
        table.add_column(f"NVMM v{target.nvmm_version} ({target.name})")
    for area, by_target in by_area_and_target(run).items():
        table.add_row(area, *(_words(by_target[target.name]) for target in columns))
    buffer = io.StringIO()
    Console(file=buffer, width=width, color_system=None, highlight=False).print(table)
    lines = [line.rstrip() for line in buffer.getvalue().splitlines()]
    total = count(run.results)
    sentence = f"{total.total} cases on {len(columns)} target(s): {_words(total)}"
    if run.header.faults:
        sentence += f"; seeded faults on: {', '.join(run.header.faults)}"
    return [*lines, "", sentence]


def _words(counts: Counts) -> str:
    return ", ".join(f"{number} {verdict.value}" for verdict, number in counts.of.items()) or "-"
