# SPDX-License-Identifier: BSD-2-Clause
"""The history chart: per target, a bar a run, as numbers that a template draws as SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nvmmconf.results import Verdict
from nvmmconf.results.history import PastRun
from nvmmconf.results.summary import Counts

MOST_RUNS = 100
"""Runs in a chart, the newest."""

HEIGHT = 96
"""Of the tallest bar, in the units of the drawing."""

_STEP, _WIDTH = 10, 8

LAYERS: tuple[tuple[str, tuple[Verdict, ...]], ...] = (
    ("passed", (Verdict.PASS, Verdict.OBSERVED)),
    ("unsupported", (Verdict.UNSUPPORTED,)),
    ("known", (Verdict.KNOWN,)),
    (
        "not as required",
        (
            Verdict.FIXED,
            Verdict.FAIL,
            Verdict.HANG,
            Verdict.CRASH,
            Verdict.ERROR,
            Verdict.MISSING,
        ),
    ),
)
"""From the bottom of a bar to its top."""


@dataclass(frozen=True)
class Piece:
    """A part of a bar; `layer` counts from 0, at the bottom."""

    layer: int
    y: float
    height: float


@dataclass(frozen=True)
class Bar:
    """A run; `words` is what it says."""

    run_id: str
    words: str
    x: int
    width: int
    pieces: tuple[Piece, ...]


@dataclass(frozen=True)
class Chart:
    """One target over time, oldest run at the left; `label` says it in a sentence."""

    target: str
    label: str
    width: int
    most: int
    """What the tallest bar stands for."""
    bars: tuple[Bar, ...]


def charts(runs: Sequence[PastRun]) -> tuple[Chart, ...]:
    """A chart for each target of `runs`, newest first; those with seeded faults are left out."""
    shown = [run for run in runs if not run.header.faults][:MOST_RUNS]
    names = dict.fromkeys(name for run in shown for name in run.counts)
    return tuple(_chart(name, shown[::-1]) for name in names)


def _chart(target: str, oldest_first: Sequence[PastRun]) -> Chart:
    found = [run for run in oldest_first if target in run.counts and run.counts[target].total]
    most = max((run.counts[target].total for run in found), default=1)
    bars = tuple(_bar(run, run.counts[target], n, most) for n, run in enumerate(found))
    label = f"{target}: {len(bars)} runs"
    if found:
        newest = found[-1].counts[target]
        label += f"; in the newest {newest.good:,} of {newest.total:,} are as required"
    return Chart(target, label, max(1, len(bars)) * _STEP, most, bars)


def _bar(run: PastRun, counts: Counts, position: int, most: int) -> Bar:
    pieces = []
    top = float(HEIGHT)
    words = []
    for layer, (name, verdicts) in enumerate(LAYERS):
        number = sum(counts[verdict] for verdict in verdicts)
        if not number:
            continue
        words.append(f"{number:,} {name}")
        # A single failure among thousands has to be seen.
        height = max(round(HEIGHT * number / most, 2), 3.0)
        top = round(top - height, 2)
        pieces.append(Piece(layer, top, height))
    return Bar(
        run.header.run_id,
        f"{run.header.run_id}: {', '.join(words)}",
        position * _STEP,
        _WIDTH,
        tuple(pieces),
    )
