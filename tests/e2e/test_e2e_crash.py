# SPDX-License-Identifier: BSD-2-Clause
"""A worker that dies in a case costs that case and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from nvmmconf.results import Verdict, load_run
from nvmmconf.results.summary import count

from .conftest import Once
from .html import Page, case_page, dead_links
from .project import Finished, Project, of, verdicts

PROFILE = "--nvmm-profile=v1-svm"


def dying(*names: str, among: int = 12) -> str:
    """Cases `c00` and on, of which those named kill their own worker after the guest ran."""
    return f"""
@requirement("K-HLT-1")
@pytest.mark.parametrize("name", [f"c{{number:02}}" for number in range({among})])
def test_life(vm: VirtualMachine, name: str) -> None:
    run = vm.boot("only16")
    if name in {names!r}:
        os.kill(os.getpid(), signal.SIGKILL)
    assert run.reason is Stop.HALTED
"""


def case(name: str) -> str:
    return f"it/life[real16-{name}]@v1-svm"


def run(root: Path, names: tuple[str, ...], *options: str, among: int = 12) -> Finished:
    project = Project.make(root)
    project.guest("only16", "    hlt\n", modes="real16")
    project.cases(dying(*names, among=among))
    return project.pytest(PROFILE, *options)


@pytest.fixture(scope="module")
def middle(once: Once) -> Finished:
    """One case in the middle, two workers."""
    return once("crash", lambda root: run(root, ("c05",), "-n2"))


def test_run_goes_on(middle: Finished) -> None:
    assert middle.status == 1
    assert of(middle.verdicts, Verdict.CRASH) == {case("c05")}
    others = {case(f"c{number:02}") for number in range(12)} - {case("c05")}
    assert of(middle.verdicts, Verdict.PASS) == others
    assert all(one.ended.runs for one in middle.run.results if one.ended.verdict is Verdict.PASS)


def test_message_names_the_worker(middle: Finished) -> None:
    ended = middle.result(case("c05")).ended
    assert ended.worker in ("gw0", "gw1")
    assert ended.message.startswith(f"worker {ended.worker} died in this case")


def test_crash_is_told_on_terminal_and_page(middle: Finished) -> None:
    assert "12 cases on 1 target: 11 pass, 1 crash" in middle.out
    middle.told_without_traceback()
    page = case_page(middle.reports, case("c05"))
    assert middle.result(case("c05")).ended.message in page
    assert "1 not as required (1 crash); 11 passed." in Page(middle.reports / "html/index.html")
    assert dead_links(middle.reports / "html") == []


def test_a_worker_each_time(tmp_path: Path) -> None:
    """The very first case, the very last one, and one in between."""
    names = ("c00", "c03", "c07")
    finished = run(tmp_path / "a project", names, "-n2", among=8)
    assert finished.status == 1
    assert of(finished.verdicts, Verdict.CRASH) == {case(name) for name in names}
    assert count(finished.run.results)[Verdict.PASS] == 5


def test_no_worker_left(tmp_path: Path) -> None:
    """Workers are not replaced, so what is not run is missing, and the report says that."""
    names = tuple(f"c{number:02}" for number in range(8))
    finished = run(tmp_path / "a project", names, "-n2", "--max-worker-restart=0", among=8)
    assert finished.status == 1
    found = finished.verdicts
    assert 1 <= len(of(found, Verdict.CRASH)) <= 2
    assert of(found, Verdict.CRASH) | of(found, Verdict.MISSING) == set(found)
    assert len(found) == 8
    finished.told_without_traceback()
    assert (finished.reports / "html/index.html").exists()


def test_crash_in_a_fixture_after_the_case(project: Project) -> None:
    """The evidence is there already; it stays, and nobody takes it for a pass."""
    project.cases("""
@pytest.fixture
def deadly():
    yield
    os.kill(os.getpid(), signal.SIGKILL)

@requirement("K-HLT-1")
def test_first(vm: VirtualMachine, deadly: None) -> None:
    assert vm.boot("hlt")

@requirement("K-HLT-1")
def test_second(vm: VirtualMachine) -> None:
    assert vm.boot("hlt")
""")
    finished = project.pytest(PROFILE, "-n2", "-k", "real16")
    assert finished.status == 1
    assert finished.verdicts == {
        "it/first[real16]@v1-svm": Verdict.CRASH,
        "it/second[real16]@v1-svm": Verdict.PASS,
    }


def test_crash_after_the_end_was_written(project: Project) -> None:
    """Only the controller knows of it: the worker's own record says pass."""
    project.cases("""
@requirement("K-HLT-1")
def test_first(vm: VirtualMachine) -> None:
    assert vm.boot("hlt")

@requirement("K-HLT-1")
def test_second(vm: VirtualMachine) -> None:
    assert vm.boot("hlt")
""")
    (project.root / "conftest.py").write_text("""
import os, signal

def pytest_runtest_logreport(report):
    if "PYTEST_XDIST_WORKER" in os.environ and report.when == "teardown":
        if "test_first" in report.nodeid:
            os.kill(os.getpid(), signal.SIGKILL)
""")
    finished = project.pytest(PROFILE, "-n2", "-k", "real16")
    assert finished.status == 1
    assert finished.verdicts == {
        "it/first[real16]@v1-svm": Verdict.CRASH,
        "it/second[real16]@v1-svm": Verdict.PASS,
    }
    ended = finished.result("it/first").ended
    assert ended.message.startswith(f"worker {ended.worker} died in this case: ")
    assert ended.runs


@pytest.mark.parametrize("option", ["-pno:xdist", "-n0"])
def test_without_workers_the_report_is_made_afterwards(tmp_path: Path, option: str) -> None:
    root = tmp_path / "a project"
    died = run(root, ("c02",), option, among=5)
    assert died.status == -9
    assert not (died.reports / "html").exists()

    again = Project(root).nvmmconf("report", "--reports", "reports")
    assert (again.status, again.err) == (0, "")
    (folder,) = again.runs
    assert again.out.splitlines() == [
        f"merged the interrupted run {folder.name}",
        "reports/html/index.html",
    ]
    found = verdicts(load_run(folder / "run.jsonl"))
    assert [found[case(f"c0{number}")] for number in range(5)] == [
        Verdict.PASS,
        Verdict.PASS,
        Verdict.CRASH,
        Verdict.MISSING,
        Verdict.MISSING,
    ]
    assert dead_links(root / "reports/html") == []

    twice = Project(root).nvmmconf("report")
    assert (twice.status, twice.out) == (0, "reports/html/index.html\n")
