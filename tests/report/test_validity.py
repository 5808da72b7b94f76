# SPDX-License-Identifier: BSD-2-Clause
"""Every page against the parser of the HTML standard, which knows what is an error."""

from __future__ import annotations

from pathlib import Path

import html5lib
import pytest

from nvmmconf.report import Store, write_site
from nvmmconf.results.history import History

from .samples import all_pass, sample_run
from .test_changes import FIRST, KILLS, SECOND
from .test_hostile import HOSTILE, with_text


def errors(text: str) -> list[str]:
    parser = html5lib.HTMLParser()
    parser.parse(text)
    return [f"{line}:{column}: {code} {data}" for (line, column), code, data in parser.errors]


@pytest.mark.parametrize("evil", ["x", HOSTILE[1], HOSTILE[4]], ids=["plain", "markup", "controls"])
def test_every_page_is_valid(tmp_path: Path, evil: str) -> None:
    runs = {
        run.header.run_id: run
        for run in (
            sample_run(FIRST, all_pass),
            sample_run(SECOND, faults=("f",)),
            with_text(sample_run(), lambda text: f"{text} {evil}"),
        )
    }
    with History(None) as history:
        for run in runs.values():
            history.add(run)
        write_site(Store(history, lambda past: runs[past.header.run_id], kills=KILLS), tmp_path)
    pages = list(tmp_path.rglob("*.html"))
    assert len(pages) > 30
    for path in pages:
        assert errors(path.read_text(encoding="utf-8")) == [], path


def test_the_parser_knows_an_error_when_it_sees_one() -> None:
    assert errors("<!DOCTYPE html><html><body><p><table><tr><b>x</b></tr></table>")
    assert errors("<!DOCTYPE html><title>t</title><p>fine") == []
