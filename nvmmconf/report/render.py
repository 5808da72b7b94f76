# SPDX-License-Identifier: BSD-2-Clause
"""The templates, and what all of them use."""

from __future__ import annotations

import base64
import functools
import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from nvmmconf.report.chart import HEIGHT, LAYERS, Chart
from nvmmconf.report.model import AreaRow, CasePage, RunPage, run_folder
from nvmmconf.report.sections import (
    CaseSection,
    ChangeGroup,
    RequirementPage,
    SlowestPage,
)
from nvmmconf.report.text import (
    MEANINGS,
    STANDINGS,
    block,
    breakable,
    duration,
    listed,
    moment,
    quantity,
    slug,
    visible,
)
from nvmmconf.results.history import PastRun
from nvmmconf.results.kills import KillTable

_TEMPLATES = Path(__file__).with_name("templates")
_ON_INDEX = 10


class Renderer:
    """A page for each method; `has_faults` says whether there is a kill matrix to lead to."""

    def __init__(self, has_faults: bool) -> None:
        environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(_TEMPLATES),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            finalize=_finalize,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.filters.update(
            block=block,
            breakable=breakable,
            duration=duration,
            listed=listed,
            moment=moment,
            quantity=quantity,
            slug=slug,
            run_folder=run_folder,
        )
        style = _asset("style.css")
        environment.globals.update(
            meanings=MEANINGS,
            standings=STANDINGS,
            style=Markup(style),
            style_digest=_digest(style),
            has_faults=has_faults,
            chart_height=HEIGHT,
            chart_layers=[name for name, _ in LAYERS],
        )
        self._environment = environment
        self._script = _asset("page.js")

    def empty(self) -> str:
        """The first page where there is no run."""
        return self._render("empty.html", root="")

    def index(
        self,
        page: RunPage,
        groups: Sequence[ChangeGroup],
        sentences: Sequence[str],
        runs: Sequence[PastRun],
        with_pages: Sequence[str],
        charts: Sequence[Chart],
    ) -> str:
        """The page that a reader opens first: the newest run, and the way to others."""
        return self._render(
            "index.html",
            root="",
            page=page,
            groups=groups,
            sentences=sentences,
            here=f"runs/{page.folder}/",
            runs=runs[:_ON_INDEX],
            all_runs=len(runs),
            with_pages=frozenset(with_pages),
            charts=charts,
        )

    def run(self, page: RunPage, groups: Sequence[ChangeGroup], sentences: Sequence[str]) -> str:
        """The overview of one run, in its own folder."""
        return self._in_run("run.html", page, groups=groups, sentences=sentences)

    def matrix(self, page: RunPage) -> str:
        """Cases and targets."""
        return self._in_run("matrix.html", page)

    def area(self, page: RunPage, area: AreaRow, sections: Iterable[CaseSection]) -> str:
        """An area, a section a case."""
        return self._in_run("area.html", page, area=area, sections=sections)

    def case(self, page: RunPage, case: CasePage) -> str:
        """The evidence of a case on one target."""
        return self._in_run("case.html", page, case=case)

    def changes(
        self, page: RunPage, groups: Sequence[ChangeGroup], sentences: Sequence[str]
    ) -> str:
        """What changed since earlier runs."""
        return self._in_run("changes.html", page, groups=groups, sentences=sentences)

    def requirements(self, page: RunPage, cited: RequirementPage) -> str:
        """Which requirements are cited, and how their cases ended."""
        return self._in_run("requirements.html", page, cited=cited)

    def slowest(self, page: RunPage, slowest: SlowestPage) -> str:
        """Where the time went."""
        return self._in_run("slowest.html", page, slowest=slowest)

    def history(
        self, runs: Sequence[PastRun], with_pages: Sequence[str], charts: Sequence[Chart]
    ) -> str:
        """Every run, and the charts."""
        return self._render(
            "history.html", root="", runs=runs, with_pages=frozenset(with_pages), charts=charts
        )

    def faults(self, kills: KillTable) -> str:
        """Which case notices which seeded fault."""
        return self._render("faults.html", root="", kills=kills)

    def _in_run(self, template: str, page: RunPage, **values: Any) -> str:
        return self._render(template, root="../../", page=page, here="", **values)

    def _render(self, template: str, *, root: str, **values: Any) -> str:
        return self._environment.get_template(template).render(
            script=Markup(self._script),
            script_digest=_digest(self._script),
            root=root,
            **values,
        )


def _finalize(value: object) -> object:
    """What a template puts out: text has nothing invisible left in it."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return visible(value)
    return value


def _asset(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8")


@functools.cache
def _digest(text: str) -> str:
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return base64.b64encode(digest).decode("ascii")
