# SPDX-License-Identifier: BSD-2-Clause
"""How a run ended, for a terminal."""

from __future__ import annotations

import io
import shutil

from rich.console import Console
from rich.table import Table

from nvmmconf.results import Run
from nvmmconf.results.summary import Counts, by_area_and_target, count, targets


def summary_lines(run: Run, width: int | None = None) -> list[str]:
    """Return a table, a line a target, and a sentence; plain text, `width` columns.

    The terminal's width where None.
    """
    table = Table(box=None, pad_edge=False, show_edge=False, header_style="")
    table.add_column("target", no_wrap=True)
    table.add_column("cases", justify="right")
    table.add_column("verdicts")
    table.add_column("not as required in")
    areas = by_area_and_target(run)
    for target in targets(run):
        results = [one for one in run.results if one.planned.target == target.name]
        counts = count(results)
        bad = [area for area, by_target in areas.items() if by_target[target.name].bad]
        table.add_row(
            f"NVMM v{target.nvmm_version} ({target.name})",
            str(counts.total),
            _words(counts),
            ", ".join(bad) or "-",
        )
    buffer = io.StringIO()
    columns = width or shutil.get_terminal_size().columns
    Console(file=buffer, width=columns, color_system=None, highlight=False).print(table)
    lines = [line.rstrip() for line in buffer.getvalue().splitlines()]
    total = count(run.results)
    several = "targets" if len(targets(run)) != 1 else "target"
    sentence = f"{total.total} cases on {len(targets(run))} {several}: {_words(total)}"
    if run.header.faults:
        sentence += f"; seeded faults on: {', '.join(run.header.faults)}"
    return [*lines, "", sentence]


def _words(counts: Counts) -> str:
    return ", ".join(f"{number} {verdict.value}" for verdict, number in counts.of.items()) or "-"
