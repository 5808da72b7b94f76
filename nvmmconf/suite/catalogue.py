# SPDX-License-Identifier: BSD-2-Clause
"""The cases as they are collected, without running any."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from nvmmconf.guest import Mode
from nvmmconf.results import Planned
from nvmmconf.results.summary import case_name
from nvmmconf.suite.collect import guests_named, planned
from nvmmconf.suite.fixtures import PLACE, Place


class CatalogueError(Exception):
    """The cases cannot be collected; one line."""


@dataclass(frozen=True)
class CatalogueCase:
    """A case in one mode with its parameters, whatever the target."""

    name: str
    """Its id without the target."""
    plan: Planned
    mode: Mode | None
    docstring: str
    source: str
    file: Path
    line: int
    guests: tuple[str, ...]
    """Guests that it names; those of inline code are in its source."""


@dataclass
class _Collector:
    cases: dict[str, CatalogueCase] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    root: Path = field(default_factory=Path)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Keep what could not be collected."""
        if report.failed:
            self.errors.append(str(report.longrepr).strip().splitlines()[-1])

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Keep the cases."""
        self.root = session.config.rootpath
        for item in session.items:
            callspec = getattr(item, "callspec", None)
            place = callspec.params.get(PLACE) if callspec is not None else None
            if isinstance(place, Place):
                plan = planned(item, place.target.name)
                name = case_name(plan)
                if name not in self.cases:
                    self.cases[name] = _case(item, plan, place.mode)


def _case(item: pytest.Item, plan: Planned, mode: Mode | None) -> CatalogueCase:
    function = getattr(item, "obj", None)
    source, line = "", 0
    guests: tuple[str, ...] = ()
    if function is not None:
        lines, line = inspect.getsourcelines(function)
        source = "".join(lines)
        try:
            guests = guests_named(function)
        except ValueError:
            guests = ()
    return CatalogueCase(
        name=case_name(plan),
        plan=plan,
        mode=mode,
        docstring=inspect.getdoc(function) or "",
        source=source,
        file=Path(item.path),
        line=line,
        guests=guests,
    )


@dataclass(frozen=True)
class Catalogue:
    """Every case, by name."""

    root: Path
    cases: dict[str, CatalogueCase]


def catalogue(profiles: Sequence[str] = (), paths: Sequence[str] = ()) -> Catalogue:
    """Collect the cases of the project here, on `profiles` (or every target).

    Raises CatalogueError where one cannot be collected, or there is none.
    """
    collector = _Collector()
    words = ["--collect-only", "-p", "no:terminal", "-p", "no:cacheprovider"]
    words += ["-o", "addopts=--strict-markers", *(f"--nvmm-profile={name}" for name in profiles)]
    status = pytest.main([*words, *paths], plugins=[collector])
    if collector.errors:
        raise CatalogueError(collector.errors[0])
    if not collector.cases:
        raise CatalogueError(f"no case was found here (pytest's exit status {int(status)})")
    return Catalogue(collector.root, collector.cases)
