# SPDX-License-Identifier: BSD-2-Clause
"""What the pages show, as data: pure functions from a run to what a template needs."""

from __future__ import annotations

import bisect
import functools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from nvmmconf.report.listing import GuestView, guest_view
from nvmmconf.report.past import Past
from nvmmconf.report.text import (
    listed,
    moment,
    quantity,
    rerun_command,
    slug,
)
from nvmmconf.results import CaseResult, Requirement, Run, RunHeader, TargetInfo, Verdict
from nvmmconf.results.summary import (
    CaseRow,
    Counts,
    by_area_and_target,
    by_case,
    count,
    targets,
)

MOST_EVIDENCE = 400
"""Pages of evidence in a run, the most severe verdicts first; records are all kept."""

_WITHOUT_EVIDENCE = (Verdict.PASS, Verdict.UNSUPPORTED, Verdict.MISSING)
_RUN_ID = re.compile(r"[0-9]{8}T[0-9]{6}Z-[0-9A-Za-z]{1,32}", re.ASCII)


@dataclass(frozen=True)
class Column:
    """A target as the head of a column."""

    name: str
    heading: str
    capability: Mapping[str, str]

    def said(self, key: str) -> str:
        """What the target says of `key`; empty where it says nothing."""
        return self.capability.get(key, "")


@dataclass(frozen=True)
class Cell:
    """A case on one target.

    `page` is the name of its page of evidence, in the run's folder, empty where it
    has none; `words` is how the verdict stands to what was expected and to earlier runs.
    """

    target: str
    verdict: Verdict
    message: str
    page: str
    section: str
    words: str
    result: CaseResult

    @property
    def href(self) -> str:
        """Where a reader finds what is known of it."""
        return self.page or self.section


@dataclass(frozen=True)
class Row:
    """A case on all targets, None where it was not planned for one."""

    name: str
    anchor: str
    title: str
    area: str
    verdict: Verdict
    cells: tuple[Cell | None, ...]
    reasons: tuple[tuple[str, str], ...]
    """Targets in words, and the message that they share, for what is not good."""
    words: str
    """What the filter finds beside the text of the row."""
    section: str
    """Where the case's section is: page and anchor."""

    @property
    def all_pass(self) -> bool:
        """True where there is nothing to say but pass."""
        return all(cell is None or cell.verdict is Verdict.PASS for cell in self.cells)

    @property
    def uniform(self) -> str:
        """The verdict in words, if it is the same on every target."""
        found = {cell.verdict for cell in self.cells if cell}
        return found.pop().value if len(found) == 1 and None not in self.cells else ""


@dataclass(frozen=True)
class AreaRow:
    """An area in the matrix; `total` over all targets."""

    area: str
    cells: tuple[Counts, ...]
    total: Counts
    page: str
    """The name of the area's page, in the run's folder."""


@dataclass(frozen=True)
class RunPage:
    """A run as its page shows it; `folder` is the name of its folder in `runs/`."""

    run: Run
    folder: str
    columns: tuple[Column, ...]
    counts: Counts
    per_target: tuple[Counts, ...]
    areas: tuple[AreaRow, ...]
    rows: tuple[Row, ...]
    past: Past
    evidence_dropped: int = 0
    """Results that have no page of evidence only because there are too many."""

    @functools.cached_property
    def requirements(self) -> Mapping[str, Requirement]:
        """The requirements that the run knows, by id."""
        return {requirement.id: requirement for requirement in self.run.header.requirements}

    def rows_of(self, area: str, *, good: bool | None = None) -> tuple[Row, ...]:
        """The cases of an area; `good` chooses."""
        rows = self._by_area.get(area, ())
        return tuple(row for row in rows if good is None or row.verdict.is_good is good)

    @functools.cached_property
    def _by_area(self) -> Mapping[str, list[Row]]:
        found: dict[str, list[Row]] = {}
        for row in self.rows:
            found.setdefault(row.area, []).append(row)
        return found

    @property
    def started(self) -> str:
        """When the run began, in words."""
        return moment(self.run.header.started_at)

    @property
    def bad_rows(self) -> tuple[Row, ...]:
        """The cases that are not as required somewhere; they come first."""
        return tuple(row for row in self.rows if not row.verdict.is_good)

    @property
    def good_rows(self) -> tuple[Row, ...]:
        """The others."""
        return tuple(row for row in self.rows if row.verdict.is_good)

    @property
    def capability_keys(self) -> tuple[str, ...]:
        """Every key of any target's capability, in the order of the targets."""
        return tuple(dict.fromkeys(key for column in self.columns for key in column.capability))

    @property
    def what_ran(self) -> str:
        """What ran on what, as a sentence."""
        on = listed([f"{column.heading} ({column.name})" for column in self.columns])
        cases = quantity(len(self.rows), "case")
        each = quantity(self.counts.total, "result")
        return f"{cases} on {on or 'no target'}: {each}."

    @property
    def how_it_ended(self) -> str:
        """The outcome, as a sentence."""
        counts = self.counts
        passed, unsupported = counts[Verdict.PASS], counts[Verdict.UNSUPPORTED]
        if not counts.total:
            return "Nothing was planned, so nothing was checked."
        if passed == counts.total:
            return "All passed."
        aside = [f"{passed:,} passed"] if passed else []
        aside += [
            f"{counts[verdict]:,} {verdict.value}"
            for verdict in (Verdict.OBSERVED, Verdict.KNOWN)
            if counts[verdict]
        ]
        if unsupported:
            aside.append(f"{unsupported:,} could not be checked (unsupported)")
        if not counts.bad:
            return f"{' and '.join(aside)}."
        kinds = [f"{n:,} {v.value}" for v, n in reversed(list(counts.of.items())) if not v.is_good]
        return "; ".join([f"{counts.bad:,} not as required ({listed(kinds)})", *aside]) + "."


@dataclass(frozen=True)
class CasePage:
    """A case on one target as its page shows it."""

    page: str
    row: Row
    column: Column
    cell: Cell
    result: CaseResult
    requirements: tuple[Requirement, ...]
    rerun: str
    guests: tuple[GuestView, ...]
    previous: Cell | None
    next: Cell | None
    previous_failure: Cell | None
    next_failure: Cell | None


def run_folder(run_id: str) -> str:
    """The name of a run's folder in the report, safe whatever the id is."""
    return run_id if _RUN_ID.fullmatch(run_id) else slug(run_id)


def run_page(run: Run, past: Past | None = None) -> RunPage:
    """The pages of `run`, beside what earlier runs say of it."""
    past = past or Past()
    shown = targets(run)
    columns = tuple(map(_column, shown))
    names = [column.name for column in columns]
    matrix = by_area_and_target(run)
    by_area: dict[str, list[CaseResult]] = {}
    by_target: dict[str, list[CaseResult]] = {name: [] for name in names}
    for result in run.results:
        by_area.setdefault(result.planned.area, []).append(result)
        by_target[result.planned.target].append(result)
    cases = by_case(run)
    told = [
        result.planned.case
        for row in cases
        for result in sorted(row.results.values(), key=lambda one: -one.ended.verdict.severity)
        if result.ended.verdict not in _WITHOUT_EVIDENCE
    ]
    told.sort(key=_severities(run))
    with_page = frozenset(told[:MOST_EVIDENCE])
    areas = [
        AreaRow(area, tuple(cells[name] for name in names), count(by_area[area]), area_file(area))
        for area, cells in matrix.items()
    ]
    return RunPage(
        run=run,
        folder=run_folder(run.header.run_id),
        columns=columns,
        counts=count(run.results),
        per_target=tuple(count(by_target[name]) for name in names),
        areas=tuple(areas),
        rows=tuple(_row(row, names, past, with_page) for row in cases),
        past=past,
        evidence_dropped=len(told) - len(with_page),
    )


def _severities(run: Run) -> Callable[[str], int]:
    found = {result.planned.case: -result.ended.verdict.severity for result in run.results}
    return found.__getitem__


def area_file(area: str) -> str:
    """The name of an area's page."""
    return f"area-{slug(area)}.html"


def case_pages(page: RunPage) -> Iterator[CasePage]:
    """The pages of evidence of `page`, in the order of its table."""
    header = page.run.header
    walk = [
        (row, column, cell)
        for row in page.rows
        for column, cell in zip(page.columns, row.cells, strict=True)
        if cell is not None and cell.page
    ]
    cells = [cell for _, _, cell in walk]
    failures = [index for index, cell in enumerate(cells) if not cell.verdict.is_good]
    for index, (row, column, cell) in enumerate(walk):
        earlier = bisect.bisect_left(failures, index)
        later = bisect.bisect_right(failures, index)
        yield CasePage(
            page=cell.page,
            row=row,
            column=column,
            cell=cell,
            result=cell.result,
            requirements=requirements_of(page, cell.result),
            rerun=rerun(header, cell.result),
            guests=tuple(
                guest_view(run, f"guest-{number}")
                for number, run in enumerate(cell.result.ended.runs, start=1)
            ),
            previous=cells[index - 1] if index else None,
            next=cells[index + 1] if index + 1 < len(cells) else None,
            previous_failure=cells[failures[earlier - 1]] if earlier else None,
            next_failure=cells[failures[later]] if later < len(failures) else None,
        )


def requirements_of(page: RunPage, result: CaseResult) -> tuple[Requirement, ...]:
    """What a case is to prove; a requirement without text where the run has no such row."""
    known = page.requirements
    return tuple(
        known.get(name, Requirement(name, "", "", "")) for name in result.planned.requirements
    )


def rerun(header: RunHeader, result: CaseResult) -> str:
    """The shell command that runs the one case again."""
    return rerun_command(result.planned.nodeid, _environment(header), header.arguments)


def _environment(header: RunHeader) -> Mapping[str, str]:
    """What has to be set to run a case of the run again."""
    seeded = {"NVMM_SOFT_FAULT": ",".join(header.faults)} if header.faults else {}
    return seeded | dict(header.environment)


def _column(target: TargetInfo) -> Column:
    version = f"NVMM v{target.nvmm_version}" if target.nvmm_version else "NVMM"
    return Column(target.name, version, target.capability)


def _case_file(result: CaseResult) -> str:
    return f"{slug(result.planned.case)}.html"


def _row(row: CaseRow, names: Sequence[str], past: Past, with_page: frozenset[str]) -> Row:
    anchor = f"case-{slug(row.name)}"
    section = f"{area_file(row.area)}#{anchor}"
    cells = tuple(
        _cell(result, section, past, with_page) if (result := row.results.get(name)) else None
        for name in names
    )
    there = [cell for cell in cells if cell]
    words = f"area:{row.area}" if row.verdict.is_good else f"area:{row.area} is:bad"
    return Row(
        name=row.name,
        anchor=anchor,
        title=" ".join(row.title.split()),
        area=row.area,
        verdict=row.verdict,
        cells=cells,
        reasons=_reasons(there),
        words=words,
        section=section,
    )


def _cell(result: CaseResult, section: str, past: Past, with_page: frozenset[str]) -> Cell:
    case = result.planned.case
    standing = past.standings.get(case)
    return Cell(
        target=result.planned.target,
        verdict=result.ended.verdict,
        message=result.ended.message,
        page=_case_file(result) if case in with_page else "",
        section=section,
        words=standing.words if standing else result.expectation,
        result=result,
    )


def _reasons(cells: Sequence[Cell]) -> tuple[tuple[str, str], ...]:
    """Each message once, with the targets that gave it."""
    shared: dict[str, list[str]] = {}
    for cell in cells:
        if cell.message and cell.verdict is not Verdict.PASS:
            shared.setdefault(cell.message, []).append(cell.target)
    return tuple(
        ("all targets" if len(names) == len(cells) > 1 else listed(names), message)
        for message, names in shared.items()
    )
