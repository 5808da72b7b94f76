# SPDX-License-Identifier: BSD-2-Clause
"""Which folders a run leaves, and which it does not."""

from __future__ import annotations

import datetime
import os
import re
from pathlib import Path

import pytest

from nvmmconf.results import load_run
from nvmmconf.suite import session

from .html import Page
from .project import Project

CASE = """
@requirement("K-HLT-1")
def test_halts(vm: VirtualMachine) -> None:
    assert vm.boot("hlt")
"""

ONE = ("--nvmm-profile=v1-svm", "-k", "real16")


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["--collect-only"], 0),
        (["--collect-only", "-n2"], 0),
        (["-k", "nothing_like_it"], 5),
        (["-n2", "-k", "nothing_like_it"], 5),
        (["tests"], 0),
        (["-n2", "tests"], 0),
        (["--help"], 0),
        (["--version"], 0),
        (["no/such.py"], 4),
    ],
    ids=str,
)
def test_no_case_no_run(project: Project, arguments: list[str], status: int) -> None:
    project.cases(CASE)
    (project.root / "tests").mkdir()
    (project.root / "tests/test_own.py").write_text("def test_own() -> None:\n    pass\n")
    finished = project.pytest(*arguments)
    assert finished.status == status
    assert finished.runs == []
    assert not (finished.reports / "html").exists()


def test_cases_beside_tests_are_a_run(project: Project) -> None:
    project.cases(CASE + "\ndef test_plain() -> None:\n    pass\n")
    finished = project.pytest(*ONE)
    assert finished.status == 0
    assert set(finished.verdicts) == {"it/halts[real16]@v1-svm"}


def test_a_failing_test_that_is_no_case_still_fails_the_run(project: Project) -> None:
    project.cases(CASE + "\ndef test_plain() -> None:\n    assert False\n")
    finished = project.pytest("--nvmm-profile=v1-svm")
    assert finished.status == 1
    assert "2 cases on 1 target: 2 pass" in finished.out


def test_reports_are_kept_where_the_user_wants(project: Project, tmp_path: Path) -> None:
    project.cases(CASE)
    wanted = tmp_path / "kept, elsewhere"
    first = project.pytest(*ONE, "--nvmm-reports", str(wanted))
    second = project.pytest(*ONE, f"--nvmm-reports={wanted}")
    assert (first.status, second.status) == (0, 0)
    assert not project.reports.exists()
    folders = sorted(wanted.glob("runs/*"))
    assert len(folders) == 2
    assert f"report: {wanted / 'html/index.html'}" in second.out.splitlines()
    # Both are there, the newest first.
    rows = Page(wanted / "html/index.html").rows("runs")[1:]
    assert len(rows) == 2
    assert rows[0][0] == f"{load_run(folders[1]).header.run_id} (this one)"


def test_rootdir_decides_where_reports_go(project: Project) -> None:
    """Not the folder that one happens to stand in."""
    project.cases(CASE)
    finished = Project(project.root / "cases").pytest(*ONE, "test_it.py")
    assert finished.status == 0
    assert len(list(project.reports.glob("runs/*"))) == 1


def test_two_runs_of_one_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Named in their order, and different also where clock and token are the same."""
    second = datetime.datetime(2026, 11, 22, 1, 2, 3, tzinfo=datetime.UTC)
    micro = datetime.timedelta(microseconds=1)
    times = iter([second, second, second, second + micro, second + 999_999 * micro])

    class Clock(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> datetime.datetime:
            return next(times)

    monkeypatch.setattr(session.datetime, "datetime", Clock)
    tokens = iter(["aa", "aa", "bb", "00", "00"])
    monkeypatch.setattr(session.secrets, "token_hex", lambda size: next(tokens))
    made = [session.new_run_folder(tmp_path) for _ in range(4)]
    assert len(set(made)) == 4
    assert made == sorted(made)
    for folder in made:
        assert folder.is_dir()
        assert re.fullmatch(r"20261122T010203Z-[0-9a-f]{7}", folder.name)


def test_plan_is_there_before_the_controller_looks(project: Project) -> None:
    """Workers that are held up at the end of collection, as on a busy machine, lose no run."""
    project.cases(CASE)
    for worker in ("gw0", "gw1"):
        os.mkfifo(project.root / f"seen by {worker}")
    (project.root / "conftest.py").write_text("""
import os
from pathlib import Path
import pytest

HERE = Path(__file__).parent

def pytest_collection_finish(session):
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker:
        (HERE / f"seen by {worker}").read_bytes()

seen = []

@pytest.hookimpl(trylast=True)
def pytest_xdist_node_collection_finished(node):
    seen.append(node)
    if len(seen) == 2:
        for node in seen:
            (HERE / f"seen by {node.gateway.id}").write_bytes(b".")
""")
    finished = project.pytest("-n2", "--nvmm-profile=v1-svm")
    assert finished.status == 0
    assert set(finished.verdicts) == {"it/halts[real16]@v1-svm", "it/halts[long64]@v1-svm"}
