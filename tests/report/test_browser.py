# SPDX-License-Identifier: BSD-2-Clause
"""The pages in a real browser, where there is one: the script runs, under its policy."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from nvmmconf.report import write_report

from .samples import CASES, of_everything, sample_run

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no chromium (Debian: chromium)")

QUIET = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-dev-shm-usage",
]


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The matrix of the one run."""
    out = write_report([sample_run()], tmp_path_factory.mktemp("html")).parent
    (page,) = out.glob("runs/*/matrix.html")
    return page


def visit(page: str, profile: Path, *options: str) -> tuple[str, str]:
    """The page's elements after its scripts ran, and what the browser logged."""
    assert BROWSER is not None
    done = subprocess.run(
        [BROWSER, *QUIET, f"--user-data-dir={profile}", "--enable-logging=stderr", *options,
         "--dump-dom", page],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout, done.stderr


def shown(dom: str) -> list[str]:
    rows = re.findall(
        r'<tr id="(case-[^"]*)"([^>]*)>.*?class="name"[^>]*>(.*?)</a>', dom, re.DOTALL
    )
    return [re.sub("<wbr>", "", name) for _, attributes, name in rows if "hidden" not in attributes]


def failing(target: str) -> set[str]:
    return {name for name, _, _ in CASES if of_everything(name, target).value == "fail"}


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", {name for name, _, _ in CASES}),
        ("?q=v2-svm:fail", failing("v2-svm")),
        ("?q=V2-SVM:FAIL%20-long64", failing("v2-svm") - {"hlt/halts[long64]"}),
        ("?q=area:pio&bad=1", {"pio/rep-outs[long64]"}),
        ("?q=no-such-thing", set()),
    ],
)
def test_the_filter_shows_what_it_says(
    index: Path, tmp_path: Path, query: str, expected: set[str]
) -> None:
    dom, log = visit(index.as_uri() + query, tmp_path)
    assert set(shown(dom)) == expected
    assert "CONSOLE" not in log
    count = re.search(r"<output[^>]*>(.*?)</output>", dom)
    assert count
    assert count[1] == (f"{len(expected)} of {len(CASES)} cases" if query else "")
    assert '<form class="filter" role="search">' in dom


def test_a_link_to_a_row_shows_it_whatever_the_filter(index: Path, tmp_path: Path) -> None:
    anchor = re.findall(r'<tr id="(case-[^"]*)"', index.read_text())[-1]
    dom, _ = visit(f"{index.as_uri()}?q=no-such-thing#{anchor}", tmp_path)
    assert set(shown(dom)) == {name for name, _, _ in CASES}


def test_a_case_page_offers_to_copy_its_command(index: Path, tmp_path: Path) -> None:
    page = next(index.parent.glob("hlt-halts-real16-v1-svm-*.html"))
    dom, log = visit(page.as_uri(), tmp_path)
    assert '<button type="button" data-copy="rerun">Copy</button>' in dom
    assert "CONSOLE" not in log
