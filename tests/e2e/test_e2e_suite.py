# SPDX-License-Identifier: BSD-2-Clause
"""A suite, as the README's first command runs the whole one; and one case of it again."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from nvmmconf.results import Verdict
from nvmmconf.results.summary import by_case

from .conftest import Once
from .html import Page, case_page, dead_links, matrix_page
from .project import REPOSITORY, Finished, Project, of


def small_suite(root: Path, **environment: str) -> Finished:
    """A few cases of two areas under the repository's own configuration.

    All of the repository's cases are the main job's: here they would be too many.
    """
    project = Project.make(root)
    (root / "pytest.ini").unlink()
    shutil.copy(REPOSITORY / "pyproject.toml", root)
    shutil.copy(REPOSITORY / "conftest.py", root)
    project.cases(_HLT, "test_hlt.py")
    project.cases(_SHUTDOWN, "test_shutdown.py")
    return project.pytest("-n", "auto", **environment)


_HLT = """\
@requirement("K-HLT-1", "A-EXIT-6")
def test_hlt_halts(vm):
    run = vm.boot("hlt")
    assert run.rip == run.symbol("after_hlt")


@requirement("K-HLT-1")
def test_hlt_is_one_exit(vm):
    run = vm.boot("hlt")
    assert run.all_exits()[-1].rip == run.symbol("after_hlt")
"""

_SHUTDOWN = """\
@requirement("K-SHUT-1")
def test_triple_fault_ends_the_guest(vm):
    assert vm.boot("shutdown").reason is Stop.RESET


@requirement("K-SHUT-1")
def test_triple_fault_is_one_exit(vm):
    assert vm.boot("shutdown").reasons() == [ExitReason.SHUTDOWN]
"""


@pytest.fixture(scope="module")
def suite(once: Once) -> Finished:
    """The suite, nothing switched on."""
    return once("suite", small_suite)


@pytest.fixture(scope="module")
def faulty(once: Once) -> Finished:
    """The suite on a hypervisor that leaves RIP on HLT."""
    return once("faulty", lambda root: small_suite(root, NVMM_SOFT_FAULT="hlt-rip-not-advanced"))


def test_everything_passes(suite: Finished) -> None:
    assert suite.status == 0
    assert suite.err == ""
    assert set(suite.verdicts.values()) == {Verdict.PASS}
    assert suite.run.header.faults == ()


def test_cases_are_those_of_every_file(suite: Finished) -> None:
    assert {one.planned.area for one in suite.run.results} == {"hlt", "shutdown"}
    assert len(suite.run.results) == 4 * 2 * len(suite.run.header.targets)


def test_workers_share_the_work(suite: Finished) -> None:
    workers = {one.ended.worker for one in suite.run.results}
    assert len(workers) >= 2
    assert suite.run.header.workers >= 2


def test_records_are_kept_and_nothing_else(suite: Finished) -> None:
    (folder,) = suite.runs
    names = {path.name for path in folder.iterdir()}
    workers = {f"worker-{one.ended.worker}.jsonl" for one in suite.run.results}
    assert workers <= names
    others = {name for name in names if not name.startswith("worker-")}
    assert others == {"controller.jsonl", "run.jsonl"}


def test_index_has_a_row_for_each_case_and_a_column_for_each_version(suite: Finished) -> None:
    page = matrix_page(suite.reports)
    heads, *rows = page.rows("cases")
    targets = suite.run.header.targets
    assert {1, 2} <= {target.nvmm_version for target in targets}
    assert heads == ["Case", *(f"NVMM v{one.nvmm_version} {one.name}" for one in targets)]
    shown = {row[0]: row[1:] for row in rows if row != heads}
    assert set(shown) == {row.name for row in by_case(suite.run)}
    assert all(cells == ["pass"] * len(targets) for cells in shown.values())
    assert "All passed." in page


def test_links_lead_somewhere(suite: Finished, faulty: Finished) -> None:
    for finished in (suite, faulty):
        html = finished.reports / "html"
        evidence = [page for page in html.glob("runs/*/*.html") if Page(page).texts.get("message")]
        assert len(evidence) == len(of(finished.verdicts, Verdict.FAIL))
        assert dead_links(html) == []


def test_terminal_says_how_it_ended_and_where_the_report_is(suite: Finished) -> None:
    number = len(suite.run.results)
    targets = len(suite.run.header.targets)
    assert f"{number} cases on {targets} targets: {number} pass" in suite.out.splitlines()
    assert f"report: {suite.reports / 'html/index.html'}" in suite.out.splitlines()
    assert "SEEDED" not in suite.out


def test_seeded_fault_fails_the_hlt_cases_and_nothing_else(
    suite: Finished, faulty: Finished
) -> None:
    assert faulty.status == 1
    failed = of(faulty.verdicts, Verdict.FAIL)
    assert failed == {case for case in suite.verdicts if case.startswith("hlt/")}
    assert set(faulty.verdicts) == set(suite.verdicts)
    assert set(faulty.verdicts) - failed == of(faulty.verdicts, Verdict.PASS)


def test_seeded_fault_is_told_everywhere(faulty: Finished) -> None:
    assert faulty.run.header.faults == ("hlt-rip-not-advanced",)
    assert "SEEDED FAULTS ON: hlt-rip-not-advanced" in faulty.out
    for path in faulty.reports.glob("html/runs/**/*.html"):
        assert "Seeded faults were on: hlt-rip-not-advanced" in Page(path)


def test_failed_cases_tell_expected_and_observed_rip(faulty: Finished) -> None:
    failed = [one for one in faulty.run.results if one.ended.verdict is Verdict.FAIL]
    assert failed
    for one in failed:
        page = case_page(faulty.reports, one.planned.case)
        (comparison,) = one.ended.comparisons
        expected, observed = comparison.expected, comparison.observed
        assert expected.endswith(" <after_hlt>")
        assert observed.endswith(" <hlt_insn>")
        assert int(expected.split()[0], 16) == int(observed.split()[0], 16) + 1
        assert (page.texts["wanted"], page.texts["got"]) == ([expected], [observed])


@pytest.mark.parametrize("verdict", [Verdict.PASS, Verdict.FAIL])
def test_command_of_a_case_page_runs_that_case(
    verdict: Verdict, suite: Finished, faulty: Finished, tmp_path: Path
) -> None:
    finished = suite if verdict is Verdict.PASS else faulty
    first = finished.run.header.targets[0].name
    case = min(one for one in of(finished.verdicts, verdict) if one.endswith(f"@{first}"))
    nodeid = finished.result(case).planned.nodeid
    said = case_page(finished.reports, case).texts["pre"]
    (command,) = [one for one in said if nodeid in one]
    project = Project(tmp_path / "elsewhere, too")
    shutil.copytree(finished.reports.parent, project.root)
    shutil.rmtree(project.reports)

    again = project.command(["sh", "-c", command])

    assert again.verdicts == {case: verdict}
    assert again.status == (0 if verdict is Verdict.PASS else 1)
