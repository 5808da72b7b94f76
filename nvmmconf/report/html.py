# SPDX-License-Identifier: BSD-2-Clause
"""Runs to a folder of HTML pages.

The pages are a pure function of the store: the same store gives the same bytes.
Every page is complete in itself and asks the network for nothing.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import jinja2

import nvmmconf.report
import nvmmconf.results
from nvmmconf.report.chart import charts
from nvmmconf.report.model import RunPage, case_pages, run_folder, run_page
from nvmmconf.report.past import past_of, window
from nvmmconf.report.render import Renderer
from nvmmconf.report.sections import (
    area_sections,
    change_groups,
    change_sentences,
    requirement_page,
    slowest_page,
)
from nvmmconf.report.site import Site
from nvmmconf.report.store import Store
from nvmmconf.results import Run
from nvmmconf.results.history import History, PastRun

REPORTED_RUNS = 10
"""Runs that have pages of their own, newest first; of others there are the counts."""


def write_report(runs: Sequence[Run], out: Path) -> Path:
    """Write the report on `runs` alone to the folder `out`; returns its `index.html`.

    A run that is there twice is shown once.  Raises as `write_site`.
    """
    by_id = {run.header.run_id: run for run in reversed(runs)}
    with History(None) as history:
        for run in by_id.values():
            history.add(run)
        return write_site(Store(history, lambda past: by_id[past.header.run_id]), out)


def write_site(store: Store, out: Path, *, only_newest: bool = False) -> Path:
    """Write the report on `store` to the folder `out`; returns its `index.html`.

    `index.html` shows the newest run, `runs/<run_id>/` holds a run's own
    pages.  A run whose pages are there is not read again; `only_newest` has
    those of older runs stay as another version of this code wrote them. Pages of an earlier
    report in `out` that are stale are removed, and no other file.

    Raises ReportError where `out` has an `index.html` of somebody else,
    ResultsError where the newest run cannot be read, and OSError.
    """
    site = Site(out)
    past = store.history.runs()
    render = Renderer(bool(store.kills))
    site.expect(["index.html", "history.html", *(["faults.html"] if store.kills else [])])
    newest: RunPage | None = None
    with_pages = []
    shown = [run for run in past if store.has(run)]
    for position, one in enumerate(shown[:REPORTED_RUNS]):
        page = _run(store, site, render, one, past, only_newest and position > 0)
        newest = page if position == 0 else newest
        with_pages.append(one.header.run_id)
    mark = _mark([run.digest for run in past], with_pages, store.requirements, repr(store.kills))
    # Last, so that what the index leads to is there.
    if not (newest is None and shown and site.keep("index.html", mark)):
        if newest is None and shown:
            newest = _page(store, shown[0], past)
        site.put("index.html", _index(render, newest, past, with_pages))
    site.keep("index.html", mark)
    site.put("history.html", render.history(past, with_pages, charts(past)))
    if store.kills:
        site.put("faults.html", render.faults(store.kills))
    site.finish()
    return out / "index.html"


def _run(
    store: Store,
    site: Site,
    render: Renderer,
    one: PastRun,
    past: Sequence[PastRun],
    alike: bool,
) -> RunPage | None:
    """Write the pages of a run, unless they are there: then None."""
    folder = f"runs/{run_folder(one.header.run_id)}"
    earlier = window(one, past)
    mark = _mark(one.digest, [run.digest for run in earlier], store.requirements)
    if site.keep(folder, mark, alike=alike):
        return None
    page = _page(store, one, past)
    cases = list(case_pages(page))
    names = ["index", "matrix", "changes", "requirements", "slowest"]
    files = [f"{name}.html" for name in names]
    files += [area.page for area in page.areas] + [case.page for case in cases]
    site.expect(f"{folder}/{name}" for name in files)
    for name, text in _pages(store, render, page):
        site.put(f"{folder}/{name}", text)
    for case in cases:
        site.put(f"{folder}/{case.page}", render.case(page, case))
    return page


def _pages(store: Store, render: Renderer, page: RunPage) -> Iterator[tuple[str, str]]:
    groups = change_groups(page)
    sentences = change_sentences(page, groups)
    for area in page.areas:
        yield area.page, render.area(page, area, area_sections(page, area.area))
    yield "matrix.html", render.matrix(page)
    yield "changes.html", render.changes(page, groups, sentences)
    yield "requirements.html", render.requirements(page, requirement_page(page, store.requirements))
    yield "slowest.html", render.slowest(page, slowest_page(page))
    yield "index.html", render.run(page, groups, sentences)


def _page(store: Store, one: PastRun, past: Sequence[PastRun]) -> RunPage:
    run = store.load(one)
    return run_page(run, past_of(run, window(one, past), store.history))


def _index(
    render: Renderer, newest: RunPage | None, past: Sequence[PastRun], with_pages: Sequence[str]
) -> str:
    if newest is None:
        return render.empty()
    groups = change_groups(newest)
    return render.index(
        newest, groups, change_sentences(newest, groups), past, with_pages, charts(past)
    )


def _mark(*what: object) -> str:
    """A text that changes whenever the pages would: by what they show, then by what makes them."""
    return f"{hashlib.sha256(repr(what).encode('utf-8', 'backslashreplace')).hexdigest()}:{_own()}"


@functools.cache
def _own() -> str:
    digest = hashlib.sha256(jinja2.__version__.encode())
    for package in (nvmmconf.report, nvmmconf.results):
        for path in sorted(Path(str(package.__file__)).parent.rglob("*")):
            if path.suffix in {".py", ".html", ".css", ".js"}:
                digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()
