# SPDX-License-Identifier: BSD-2-Clause
"""Runs to a folder of HTML pages.

The pages are a pure function of the runs: the same runs give the same bytes.
Every page is complete in itself and asks the network for nothing.
"""

from __future__ import annotations

import base64
import functools
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

import nvmmconf.report
import nvmmconf.results
from nvmmconf.report.model import CasePage, RunPage, case_pages, run_folder, run_page
from nvmmconf.report.site import Site
from nvmmconf.report.text import MEANINGS, block, breakable, duration, listed, quantity, visible
from nvmmconf.results import Run
from nvmmconf.results.files import run_lines

_TEMPLATES = Path(__file__).with_name("templates")


def write_report(runs: Sequence[Run], out: Path) -> Path:
    """Write the report on `runs`, newest first, to the folder `out`; returns its `index.html`.

    `index.html` shows the newest run, `runs/<run_id>/` holds each run's own
    pages.  A run that is there twice is shown once.  Pages of an earlier
    report in `out` that are stale are removed, and no other file.

    Raises ReportError where `out` has an `index.html` of somebody else, and
    OSError.
    """
    once: dict[str, Run] = {}
    for run in runs:
        once.setdefault(run_folder(run.header.run_id), run)
    pages = [run_page(run) for run in once.values()]
    names = ["index.html"]
    for page in pages:
        names.append(f"runs/{page.folder}/index.html")
        names += [
            f"runs/{page.folder}/{cell.page}" for row in page.rows for cell in row.cells if cell
        ]
    site = Site(out, names)
    render = _Renderer()
    for page in pages:
        folder = f"runs/{page.folder}"
        if site.is_done(folder, render.mark(page.run)):
            continue
        for case in case_pages(page):
            site.put(f"{folder}/{case.page}", render.case(page, case))
        site.put(f"{folder}/index.html", render.run(page))
    # Last, so that what the index leads to is there.
    site.put("index.html", render.index(pages))
    site.finish()
    return out / "index.html"


class _Renderer:
    """The templates, and what all of them use."""

    def __init__(self) -> None:
        environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(_TEMPLATES),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            finalize=_finalize,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.filters.update(
            block=block, breakable=breakable, duration=duration, listed=listed, quantity=quantity
        )
        style = _asset("style.css")
        environment.globals.update(
            meanings=MEANINGS, style=Markup(style), style_digest=_digest(style)
        )
        self._environment = environment
        self._page_script = _asset("page.js")
        self._run_script = _asset("filter.js") + self._page_script
        self._own_mark = _own_mark()

    def mark(self, run: Run) -> str:
        """A text that changes whenever the pages of `run` would."""
        digest = hashlib.sha256(self._own_mark)
        for line in run_lines(run):
            digest.update(line)
        return digest.hexdigest()

    def index(self, pages: Sequence[RunPage]) -> str:
        """The page that a reader opens first: the newest of `pages`, and a list of all."""
        if not pages:
            return self._render("empty.html", self._page_script)
        newest = pages[0]
        return self._render(
            "index.html",
            self._run_script,
            page=newest,
            pages=pages,
            here=f"runs/{newest.folder}/",
        )

    def run(self, page: RunPage) -> str:
        """The page of one run, in its own folder."""
        return self._render("run.html", self._run_script, page=page, here="")

    def case(self, page: RunPage, case: CasePage) -> str:
        """The page of a case on one target."""
        return self._render("case.html", self._page_script, page=page, case=case)

    def _render(self, template: str, script: str, **values: Any) -> str:
        return self._environment.get_template(template).render(
            script=Markup(script), script_digest=_digest(script), **values
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


def _own_mark() -> bytes:
    """A digest of what makes pages from a run, beside the run: this code and its templates."""
    digest = hashlib.sha256(jinja2.__version__.encode())
    for package in (nvmmconf.report, nvmmconf.results):
        for path in sorted(Path(str(package.__file__)).parent.rglob("*")):
            if path.suffix in {".py", ".html", ".css", ".js"}:
                digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.digest()
