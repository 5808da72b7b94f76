# SPDX-License-Identifier: BSD-2-Clause
"""What a run comes to: pure functions over its results."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from nvmmconf.results.records import CaseResult, Planned, Run, TargetInfo, Verdict

T = TypeVar("T")


def most_severe(items: Iterable[T], key: Callable[[T], Verdict]) -> T:
    """The item whose verdict is the most severe, the first of equals.

    Raises ValueError if there are none.
    """
    return max(items, key=lambda item: key(item).severity)


def worst(verdicts: Iterable[Verdict]) -> Verdict | None:
    """The verdict of a group, which is its most severe one, or None for an empty group."""
    return max(verdicts, key=lambda verdict: verdict.severity, default=None)


@dataclass(frozen=True)
class Counts:
    """How many results have each verdict; verdicts that none has are left out."""

    of: Mapping[Verdict, int]

    @property
    def total(self) -> int:
        """How many results there are."""
        return sum(self.of.values())

    @property
    def good(self) -> int:
        """How many leave the run's exit status at 0."""
        return sum(n for verdict, n in self.of.items() if verdict.is_good)

    @property
    def bad(self) -> int:
        """How many do not."""
        return self.total - self.good

    @property
    def worst(self) -> Verdict | None:
        """The most severe verdict among them."""
        return worst(self.of)

    def __getitem__(self, verdict: Verdict) -> int:
        return self.of.get(verdict, 0)


def count(results: Iterable[CaseResult]) -> Counts:
    """The counts of `results`, in the order of severity."""
    found = Counter(result.ended.verdict for result in results)
    return Counts({verdict: found[verdict] for verdict in Verdict if found[verdict]})


def case_name(planned: Planned) -> str:
    """The case's id without its target: the same case on another target has the same."""
    return planned.case.removesuffix(f"@{planned.target}")


def targets(run: Run) -> tuple[TargetInfo, ...]:
    """The targets of the header, then any others that cases were planned for, by name."""
    known = {target.name for target in run.header.targets}
    others = dict.fromkeys(result.planned.target for result in run.results)
    return run.header.targets + tuple(
        TargetInfo(name, 0, {}) for name in sorted(others) if name not in known
    )


def by_area_and_target(run: Run) -> dict[str, dict[str, Counts]]:
    """Area, then target name, to counts; areas in plan order, every target in each."""
    groups: dict[str, dict[str, list[CaseResult]]] = {}
    names = [target.name for target in targets(run)]
    for result in run.results:
        area = groups.setdefault(result.planned.area, {name: [] for name in names})
        area[result.planned.target].append(result)
    return {
        area: {target: count(results) for target, results in columns.items()}
        for area, columns in groups.items()
    }


@dataclass(frozen=True)
class CaseRow:
    """One case on every target that it was planned for; `results` is by target name."""

    name: str
    area: str
    title: str
    results: Mapping[str, CaseResult]

    @property
    def verdict(self) -> Verdict:
        """The most severe of its verdicts."""
        return most_severe(
            (result.ended.verdict for result in self.results.values()), key=lambda verdict: verdict
        )


def by_case(run: Run) -> tuple[CaseRow, ...]:
    """One row per case: the most severe first, then in plan order."""
    rows: dict[str, dict[str, CaseResult]] = {}
    for result in run.results:
        name, target = case_name(result.planned), result.planned.target
        if target in rows.get(name, {}):
            # Only a foreign file has ids without their target; no result gets lost.
            name = result.planned.case
        rows.setdefault(name, {})[target] = result
    made = []
    for name, results in rows.items():
        first = next(iter(results.values())).planned
        made.append(CaseRow(name, first.area, first.title, results))
    return tuple(sorted(made, key=lambda row: -row.verdict.severity))
