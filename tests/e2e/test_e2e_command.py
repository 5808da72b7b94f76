# SPDX-License-Identifier: BSD-2-Clause
"""The `nvmmconf` command: what it prints, its exit status, and one line for what is wrong."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest

from nvmmconf.cli import main

from .html import Page, matrix_page
from .project import Finished, Project

CASE = """
@requirement("K-HLT-1")
def test_halts(vm: VirtualMachine) -> None:
    assert vm.boot("hlt")
"""

Command = Callable[..., Finished]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    """The command in this process, which is faster; it has no state."""

    def call(*arguments: str) -> Finished:
        try:
            status = main(arguments)
        except SystemExit as exit_:
            status = int(exit_.code or 0)
        out, err = capsys.readouterr()
        return Finished(status, out, err, tmp_path)

    return call


def one_line(finished: Finished) -> str:
    finished.told_without_traceback()
    (line,) = finished.err.splitlines()
    assert line.startswith("nvmmconf: ")
    return line


def test_version(project: Project) -> None:
    finished = project.nvmmconf("--version")
    assert (finished.status, finished.err) == (0, "")
    assert finished.out == metadata.version("nvmmconf") + "\n"


def test_console_script_is_the_same_command() -> None:
    (script,) = metadata.entry_points(group="console_scripts", name="nvmmconf")
    assert script.load() is main


@pytest.mark.parametrize(
    "arguments",
    [(), ("rport",), ("softnvmm",), ("softnvmm", "--list-all"), ("report", "--reports")],
)
def test_usage(command: Command, arguments: tuple[str, ...]) -> None:
    finished = command(*arguments)
    assert finished.status == 2
    finished.told_without_traceback()
    assert finished.err.startswith("usage: nvmmconf")
    assert "error: " in finished.err.splitlines()[-1]


@pytest.mark.parametrize(
    ("option", "names"),
    [
        ("--list-profiles", {"v1-svm", "v2-svm"}),
        ("--list-faults", {"hlt-rip-not-advanced", "shutdown-as-halted"}),
        ("--list-quirks", set()),
    ],
)
def test_lists(command: Command, option: str, names: set[str]) -> None:
    finished = command("softnvmm", option)
    assert (finished.status, finished.err) == (0, "")
    listed = [line.split(maxsplit=1) for line in finished.out.splitlines() if line[0] != " "]
    assert listed
    assert names <= {name for name, _ in listed}
    assert all(summary.strip() for _, summary in listed)


def test_two_lists_are_one_too_many(command: Command) -> None:
    assert command("softnvmm", "--list-faults", "--list-quirks").status == 2


@pytest.mark.parametrize("kind", ["missing", "empty", "file"])
def test_report_of_nothing(command: Command, tmp_path: Path, kind: str) -> None:
    reports = tmp_path / "no reports"
    if kind == "empty":
        (reports / "runs").mkdir(parents=True)
    elif kind == "file":
        reports.write_text("")
    finished = command("report", "--reports", str(reports))
    assert finished.status == 1
    assert str(reports) in one_line(finished)
    assert finished.out == ""
    assert not (reports / "html").exists()


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The reports of one run of one case."""
    project = Project.make(tmp_path_factory.mktemp("command") / "a project")
    project.cases(CASE)
    finished = project.pytest("-n0", "--nvmm-profile=v1-svm", "-k", "real16")
    assert finished.status == 0
    return finished.reports


@pytest.fixture
def copied(reports: Path, tmp_path: Path) -> Path:
    """A copy of them to spoil."""
    copy = tmp_path / "reports copied"
    shutil.copytree(reports, copy)
    return copy


def test_report_is_made_again(command: Command, copied: Path) -> None:
    before = {path: path.read_bytes() for path in copied.rglob("*.html")}
    assert before
    shutil.rmtree(copied / "html")
    finished = command("report", "--reports", str(copied))
    assert (finished.status, finished.err) == (0, "")
    assert finished.out == f"{copied / 'html/index.html'}\n"
    assert {path: path.read_bytes() for path in copied.rglob("*.html")} == before


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not JSON\n",
        b'{"record":"header"}\n',
        b'{"some":"thing else"}\n',
        b"\xff\xfe\x00\n",
        b"[" * 100_000 + b"\n",
        None,
    ],
    ids=["empty", "text", "no fields", "foreign", "binary", "deep", "half"],
)
def test_run_that_cannot_be_read(command: Command, copied: Path, content: bytes | None) -> None:
    (file,) = copied.glob("runs/*/run.jsonl")
    whole = file.read_bytes()
    file.write_bytes(whole[:-10] if content is None else content)
    finished = command("report", "--reports", str(copied))
    assert finished.status == 1
    assert str(file) in one_line(finished)
    assert "\x1b" not in finished.err


def test_run_file_that_is_a_folder(command: Command, copied: Path) -> None:
    (file,) = copied.glob("runs/*/run.jsonl")
    file.unlink()
    file.mkdir()
    finished = command("report", "--reports", str(copied))
    assert finished.status == 1
    assert str(file) in one_line(finished)


def test_older_run_that_cannot_be_read_is_named(command: Command, copied: Path) -> None:
    """And the others have their report."""
    (newest,) = copied.glob("runs/*")
    older = copied / "runs/20000101T000000Z-0000"
    older.mkdir()
    (older / "run.jsonl").write_text("spoilt\n")
    finished = command("report", "--reports", str(copied))
    assert finished.status == 1
    assert str(older) in one_line(finished)
    assert finished.out == f"{copied / 'html/index.html'}\n"
    assert newest.name in Page(copied / "html/index.html")


@pytest.mark.parametrize("lines", [0, 1, 2])
def test_interrupted_run_is_merged(command: Command, copied: Path, lines: int) -> None:
    """As far as a worker came: nothing, the start of its case, its end."""
    (folder,) = copied.glob("runs/*")
    (folder / "run.jsonl").unlink()
    worker = folder / "worker-main.jsonl"
    kept = itertools.islice(worker.read_bytes().splitlines(keepends=True), lines)
    worker.write_bytes(b"".join(kept))
    finished = command("report", "--reports", str(copied))
    assert finished.status == 0
    assert finished.out.splitlines()[0] == f"merged the interrupted run {folder.name}"
    verdict = ["missing", "crash", "pass"][lines]
    assert matrix_page(copied).rows("cases")[-1][1] == verdict


def test_report_in_place_of_somebody_else_s_page(command: Command, copied: Path) -> None:
    shutil.rmtree(copied / "html")
    (copied / "html").mkdir()
    (copied / "html/index.html").write_text("mine")
    finished = command("report", "--reports", str(copied))
    assert finished.status == 1
    assert "is not ours" in one_line(finished)
    assert (copied / "html/index.html").read_text() == "mine"


def test_report_where_none_can_be_written(command: Command, copied: Path) -> None:
    shutil.rmtree(copied / "html")
    (copied / "html").write_text("a file")
    finished = command("report", "--reports", str(copied))
    assert finished.status == 1
    assert "html" in one_line(finished)
