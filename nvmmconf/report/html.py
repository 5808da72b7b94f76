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

from nvmmconf.report.model import CasePage, RunPage, case_pages, run_folder, run_page
from nvmmconf.report.site import Site
from nvmmconf.report.text import MEANINGS, block, breakable, duration, listed, quantity, visible
from nvmmconf.results import Run, Verdict

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
        for case in case_pages(page):
            site.put(f"runs/{page.folder}/{case.page}", render.case(page, case))
        site.put(f"runs/{page.folder}/index.html", render.run(page))
    # Last, so that what the index leads to is there.
    site.put("index.html", render.index(pages))
    site.finish()
    return out / "index.html"


class _Renderer:
    """The templates, and what all of them use."""

    def __init__(self) -> None:
        style = (_TEMPLATES / "style.css").read_text(encoding="utf-8")
        script = (_TEMPLATES / "report.js").read_text(encoding="utf-8")
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
        environment.globals.update(
            Verdict=Verdict,
            meanings=MEANINGS,
            style=Markup(style),
            script=Markup(script),
            # Nothing but our own style and script, whatever gets into a page.
            policy="; ".join(
                (
                    "default-src 'none'",
                    f"style-src '{_digest(style)}'",
                    f"script-src '{_digest(script)}'",
                    "base-uri 'none'",
                    "form-action 'none'",
                )
            ),
        )
        self._environment = environment

    def index(self, pages: Sequence[RunPage]) -> str:
        """The page that a reader opens first: the newest of `pages`, and a list of all."""
        if not pages:
            return self._render("empty.html")
        newest = pages[0]
        return self._render("index.html", page=newest, pages=pages, here=f"runs/{newest.folder}/")

    def run(self, page: RunPage) -> str:
        """The page of one run, in its own folder."""
        return self._render("run.html", page=page, here="")

    def case(self, page: RunPage, case: CasePage) -> str:
        """The page of a case on one target."""
        return self._render("case.html", page=page, case=case)

    def _render(self, template: str, **values: Any) -> str:
        return self._environment.get_template(template).render(values)


def _finalize(value: object) -> object:
    """What a template puts out: text has nothing invisible left in it."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return visible(value)
    return value


@functools.cache
def _digest(text: str) -> str:
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return f"sha256-{base64.b64encode(digest).decode('ascii')}"
