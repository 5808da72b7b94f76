# SPDX-License-Identifier: BSD-2-Clause
"""What the pages beside the matrix show, as data: areas, changes, requirements, durations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from nvmmconf.report.model import Cell, Column, RunPage, requirements_of, rerun
from nvmmconf.report.model import Row as CaseRow
from nvmmconf.report.text import listed, quantity
from nvmmconf.results import CaseResult, Comparison, Requirement, Verdict
from nvmmconf.results.changes import Change
from nvmmconf.results.summary import Counts, count, most_severe

_MOST_COMPARISONS = 5
_MOST_NAMED = 8
_SLOWEST = 50


@dataclass(frozen=True)
class TargetLine:
    """A case on one target in its section."""

    column: Column
    cell: Cell
    comparisons: tuple[Comparison, ...]
    more: int
    """Comparisons that are only on the page of evidence."""


@dataclass(frozen=True)
class CaseSection:
    """A case in its area's page: `lines` is empty where all that is to be said is pass."""

    row: CaseRow
    requirements: tuple[Requirement, ...]
    lines: tuple[TargetLine, ...]
    passed_on: str
    seconds: float
    """Of the slowest target."""
    rerun: str
    rerun_on: str


def area_sections(page: RunPage, area: str) -> Iterator[CaseSection]:
    """The sections of an area's page, what is not as required first."""
    for row in page.rows_of(area):
        there = [
            (column, cell)
            for column, cell in zip(page.columns, row.cells, strict=True)
            if cell is not None
        ]
        told = [(column, cell) for column, cell in there if cell.verdict is not Verdict.PASS]
        passed = [column.name for column, cell in there if cell.verdict is Verdict.PASS]
        worst = most_severe((cell for _, cell in there), key=lambda cell: cell.verdict)
        yield CaseSection(
            row=row,
            requirements=requirements_of(page, worst.result),
            lines=tuple(_line(column, cell) for column, cell in told),
            passed_on=_passed_on(passed, len(page.columns)),
            seconds=max(cell.result.ended.seconds for _, cell in there),
            rerun=rerun(page.run.header, worst.result),
            rerun_on=worst.target,
        )


def _line(column: Column, cell: Cell) -> TargetLine:
    found = cell.result.ended.comparisons
    return TargetLine(
        column, cell, found[:_MOST_COMPARISONS], max(0, len(found) - _MOST_COMPARISONS)
    )


def _passed_on(names: Sequence[str], columns: int) -> str:
    if not names:
        return ""
    if len(names) == columns:
        return "the target" if columns == 1 else f"all {columns} targets"
    return listed(names)


@dataclass(frozen=True)
class ChangeRow:
    """A case whose verdict changed in the same way on `targets`."""

    name: str
    section: str
    targets: str
    before: str
    after: Verdict | None
    since: str
    """The run that had the earlier verdict."""
    href: str


@dataclass(frozen=True)
class ChangeGroup:
    """All changes of one kind; `results` counts targets apart."""

    change: Change
    rows: tuple[ChangeRow, ...]
    results: int

    @property
    def names(self) -> tuple[str, ...]:
        """The cases, each once."""
        return tuple(dict.fromkeys(row.name for row in self.rows))


def change_groups(page: RunPage) -> tuple[ChangeGroup, ...]:
    """What changed, regressions first; kinds without any are there, empty."""
    place = {
        cell.result.planned.case: (row, cell) for row in page.rows for cell in row.cells if cell
    }
    groups = []
    for change in Change:
        if change is Change.GONE:
            groups.append(_gone(page.past.gone))
            continue
        merged: dict[tuple[str, str, Verdict, str], list[Cell]] = {}
        rows: dict[str, CaseRow] = {}
        found = page.past.of(change)
        for one in found:
            row, cell = place[one.case]
            rows[row.name] = row
            was, since = (one.before.verdict.value, one.before.run_id) if one.before else ("", "")
            merged.setdefault((row.name, was, one.verdict, since), []).append(cell)
        groups.append(
            ChangeGroup(
                change,
                tuple(
                    ChangeRow(
                        name,
                        rows[name].section,
                        listed([cell.target for cell in cells]),
                        before,
                        after,
                        since,
                        cells[0].href,
                    )
                    for (name, before, after, since), cells in merged.items()
                ),
                len(found),
            )
        )
    return tuple(groups)


def _gone(cases: Sequence[str]) -> ChangeGroup:
    targets: dict[str, list[str]] = {}
    for case in cases:
        name, _, target = case.rpartition("@")
        targets.setdefault(name, []).append(target)
    rows = (ChangeRow(name, "", listed(on), "", None, "", "") for name, on in targets.items())
    return ChangeGroup(Change.GONE, tuple(rows), len(cases))


def change_sentences(page: RunPage, groups: Sequence[ChangeGroup]) -> tuple[str, ...]:
    """What changed, in words, for the top of the overview."""
    baseline = page.past.baseline
    if baseline is None:
        return ("There is no earlier run of these targets to compare with.",)
    words = {
        Change.REGRESSION: ("case has got worse", "cases have got worse"),
        Change.FIX: ("case is as required again", "cases are as required again"),
        Change.NEW: ("case is new", "cases are new"),
        Change.GONE: ("case is gone", "cases are gone"),
        Change.OTHER: ("case has another verdict", "cases have another verdict"),
    }
    sentences = []
    for group in groups:
        names = group.names
        if not names:
            continue
        shown = ""
        if group.change in (Change.REGRESSION, Change.FIX):
            shown = f": {', '.join(names[:_MOST_NAMED])}"
            if len(names) > _MOST_NAMED:
                shown += f" and {len(names) - _MOST_NAMED:,} more"
        sentences.append(f"{quantity(len(names), *words[group.change])}{shown}.")
    return tuple(sentences) or ("Every verdict is what it was.",)


@dataclass(frozen=True)
class RequirementRow:
    """A requirement, and the cases that cite it: `named` the first, most severe first."""

    requirement: Requirement
    counts: Counts
    named: tuple[CaseRow, ...]
    more: int


@dataclass(frozen=True)
class RequirementArea:
    """The requirements of one part of the tables."""

    name: str
    rows: tuple[RequirementRow, ...]


@dataclass(frozen=True)
class RequirementPage:
    """Which requirements the run cites, and those of `table` that it does not."""

    areas: tuple[RequirementArea, ...]
    cited: int
    uncited: tuple[Requirement, ...]

    @property
    def total(self) -> int:
        """How many there are."""
        return self.cited + len(self.uncited)


def requirement_page(page: RunPage, table: Sequence[Requirement]) -> RequirementPage:
    """The requirements of the run's cases, and the rest of `table`."""
    citing: dict[str, list[CaseRow]] = {}
    results: dict[str, list[CaseResult]] = {}
    for row in page.rows:
        there = [cell.result for cell in row.cells if cell]
        for name in dict.fromkeys(name for one in there for name in one.planned.requirements):
            citing.setdefault(name, []).append(row)
            results.setdefault(name, []).extend(
                one for one in there if name in one.planned.requirements
            )
    known: Mapping[str, Requirement] = {one.id: one for one in table} | dict(page.requirements)
    areas: dict[str, list[RequirementRow]] = {}
    for name in sorted(citing, key=list(known).index if citing.keys() <= known.keys() else None):
        one = known.get(name, Requirement(name, "", "", ""))
        rows = citing[name]
        areas.setdefault(one.area, []).append(
            RequirementRow(
                one,
                count(results[name]),
                tuple(rows[:_MOST_NAMED]),
                max(0, len(rows) - _MOST_NAMED),
            )
        )
    uncited = tuple(one for one in table if one.id not in citing)
    return RequirementPage(
        tuple(RequirementArea(name, tuple(rows)) for name, rows in areas.items()),
        len(citing),
        uncited,
    )


@dataclass(frozen=True)
class AreaTime:
    """What the cases of an area took, all targets together."""

    area: str
    page: str
    results: int
    seconds: float


@dataclass(frozen=True)
class SlowestPage:
    """The results that took longest, and each area's time."""

    results: tuple[tuple[CaseRow, Cell], ...]
    areas: tuple[AreaTime, ...]
    seconds: float


def slowest_page(page: RunPage) -> SlowestPage:
    """The slowest of `page`."""
    walk = [(row, cell) for row in page.rows for cell in row.cells if cell]
    walk.sort(key=lambda pair: -pair[1].result.ended.seconds)
    seconds: dict[str, float] = {}
    for row, cell in walk:
        seconds[row.area] = seconds.get(row.area, 0.0) + cell.result.ended.seconds
    areas = [
        AreaTime(area.area, area.page, area.total.total, seconds.get(area.area, 0.0))
        for area in page.areas
    ]
    areas.sort(key=lambda area: -area.seconds)
    return SlowestPage(tuple(walk[:_SLOWEST]), tuple(areas), sum(seconds.values()))
