# SPDX-License-Identifier: BSD-2-Clause
"""What a reader finds on the report's pages, by the standard library's parser."""

from __future__ import annotations

import functools
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

_VOID = {"br", "hr", "img", "input", "link", "meta", "wbr"}


class Page(HTMLParser):
    """A page: its ids, its links, and its text by the element that it stands in."""

    def __init__(self, path: Path) -> None:
        super().__init__(convert_charrefs=True)
        self.path = path
        self.ids: list[str] = []
        self.links: list[str] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.texts: dict[str, list[str]] = {}
        self._open: list[tuple[str, str]] = []
        self._table: list[list[str]] = []
        self.feed(path.read_text(encoding="utf-8"))
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        if "id" in found:
            self.ids.append(found["id"])
        self.links += [found[name] for name in ("href", "src") if name in found]
        if tag == "br":
            self.handle_data(" ")
        if tag in _VOID:
            return
        self._open.append((tag, found.get("class", "")))
        for key in {tag, *found.get("class", "").split()}:
            self.texts.setdefault(key, []).append("")
        if tag == "table":
            self._table = self.tables.setdefault(found.get("class", ""), [])
        elif tag == "tr":
            self._table.append([])
        elif tag in ("td", "th"):
            self._table[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop()[0] == tag, self.path

    def handle_data(self, data: str) -> None:
        for tag, classes in self._open:
            for key in {tag, *classes.split()}:
                self.texts[key][-1] += data
        if any(tag in ("td", "th") for tag, _ in self._open):
            self._table[-1][-1] += data

    def rows(self, table: str) -> list[list[str]]:
        """The cells of a table, their white space made single."""
        return [[" ".join(cell.split()) for cell in row] for row in self.tables[table]]

    def __contains__(self, text: str) -> bool:
        return any(text in " ".join(one.split()) for one in self.texts["body"])


def dead_links(root: Path) -> list[tuple[str, str]]:
    """Every link of every page under `root` that leads nowhere, with the page that has it."""
    pages = {path.resolve(): Page(path) for path in root.rglob("*.html")}
    dead = []
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            goal = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            there = goal in pages and (
                not parts.fragment or unquote(parts.fragment) in pages[goal].ids
            )
            if parts.scheme or parts.netloc or not there:
                dead.append((str(path), link))
    return dead


def case_page(reports: Path, case: str) -> Page:
    """The page of a case in the only run of a report: of its evidence, else of its area."""
    pages = _by_title(reports)
    found = [page for title, page in pages.items() if title.partition(": ")[2] == case]
    found = found or [pages[title] for title in pages if title.startswith(case.split("/")[0] + ":")]
    (page,) = found
    return page


def matrix_page(reports: Path) -> Page:
    """The matrix of the only run of a report."""
    (path,) = reports.glob("html/runs/*/matrix.html")
    return Page(path)


@functools.cache
def _by_title(reports: Path) -> dict[str, Page]:
    pages = [Page(path) for path in reports.glob("html/runs/*/*.html")]
    found = {page.texts["title"][0]: page for page in pages}
    assert len(found) == len(pages)
    return found
