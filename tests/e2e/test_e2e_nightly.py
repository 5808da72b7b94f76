# SPDX-License-Identifier: BSD-2-Clause
"""contrib/nightly.sh as cron(8) runs it: night after night, a regression, a host that goes down."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from nvmmconf.results import Run, Verdict, load_run

from .html import dead_links
from .project import BACKSTOP, REPOSITORY, Finished, Project, environment, of, verdicts

SCRIPT = REPOSITORY / "contrib" / "nightly.sh"

# The script's, of POSIX; sh, and binutils for the suite.
TOOLS = (
    *("awk", "basename", "cp", "cat", "cut", "date", "dirname", "expr", "grep", "ls", "mkdir"),
    *("mv", "rm", "sed", "sort", "tail", "tr", "sh", "as", "ld", "objcopy"),
)

CASES = """
import time

def stay(where: str) -> None:
    if Path(f"stay-{where}").exists():
        Path("ready").write_bytes(b".")
        while True:
            time.sleep(1000)

stay("import")

@requirement("K-HLT-1")
def test_halts(vm: VirtualMachine) -> None:
    assert vm.boot("hlt").reason is Stop.HALTED

@requirement("K-HLT-1")
def test_goes_on_behind(vm: VirtualMachine) -> None:
    run = vm.boot("hlt")
    assert run.rip == run.symbol("after_hlt")

@requirement("K-HLT-1")
def test_in_flight(vm: VirtualMachine) -> None:
    stay("case")
    assert vm.boot("hlt").reason is Stop.HALTED

@requirement("K-HLT-1")
def test_after_it(vm: VirtualMachine) -> None:
    assert vm.boot("hlt").reason is Stop.HALTED
"""

PROFILE = ("--", "--nvmm-profile=v2-svm")


class Nights:
    """A project, and what the script makes of it."""

    def __init__(self, project: Project, path: Path) -> None:
        self.project = project
        self.path = path
        self.reports = project.root / "nightly"
        self.public = project.root / "public html"

    def words(self, *more: str) -> list[str]:
        return [
            *("/bin/sh", str(SCRIPT), "-C", str(self.project.root), "-P", sys.executable),
            *("-l", "bundled", "-n", "2", "-p", str(self.public), *more),
        ]

    def environment(self, **more: str) -> dict[str, str]:
        return environment(PATH=str(self.path), TZ="UTC") | more

    def night(self, *more: str, **variables: str) -> Finished:
        done = subprocess.run(
            self.words(*(more or PROFILE)),
            cwd=self.project.root.parent,
            env=self.environment(**variables),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=BACKSTOP,
            check=False,
        )
        return Finished(done.returncode, done.stdout, done.stderr, self.reports)

    @property
    def runs(self) -> list[Run]:
        """What was kept, oldest first."""
        return [load_run(path) for path in sorted(self.reports.glob("runs/*/run.jsonl"))]

    def state(self) -> set[str]:
        """What is in its own folder, without the logs."""
        names = {path.name for path in (self.reports / "state").iterdir()}
        return {name for name in names if not name.endswith(".log")}

    def killed(self, where: str) -> None:
        """A night that stays at `where`; somebody else comes; then everything is killed."""
        root = self.project.root
        (root / f"stay-{where}").touch()
        os.mkfifo(root / "ready")
        # For writing, too: so that neither side waits for the other to open it.
        fifo = os.open(root / "ready", os.O_RDWR)
        with subprocess.Popen(
            self.words(*PROFILE),
            cwd=root,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        ) as process:
            try:
                while not select.select([fifo], [], [], 1.0)[0]:
                    assert process.poll() is None, "it ended before it was killed"
                second = self.night()
                assert second.status == 5
                assert second.out == ""
                assert f"another one is at it: process {process.pid} " in second.err
            finally:
                os.killpg(process.pid, signal.SIGKILL)
        os.close(fifo)
        (root / f"stay-{where}").unlink()
        (root / "ready").unlink()


def said(finished: Finished) -> dict[str, str]:
    """The summary's lines by their names; the first is `nvmmconf nightly`."""
    assert finished.err == ""
    finished.told_without_traceback()
    rows = [line.partition(":") for line in finished.out.splitlines() if not line.startswith(" ")]
    return {name: text.strip() for name, _, text in rows}


def tools_only(folder: Path, names: Sequence[str]) -> Path:
    """A folder to be all of PATH, with just these."""
    folder.mkdir()
    for name in names:
        found = shutil.which(name)
        assert found is not None, name
        (folder / name).symlink_to(found)
    return folder


def kernel(folder: Path, release: str) -> None:
    """Have `uname` say NetBSD of that release."""
    path = folder / "uname"
    path.write_text(
        "#!/bin/sh\n"
        f"case $1 in -s) echo NetBSD ;; -r) echo {release} ;; -m) echo amd64 ;;\n"
        '-v) echo "NetBSD GENERIC  #0" ;; esac\n'
    )
    path.chmod(0o755)


@pytest.fixture
def nights(project: Project, tmp_path: Path) -> Nights:
    project.cases(CASES)
    path = tools_only(tmp_path / "the tools", TOOLS)
    kernel(path, "10.0")
    return Nights(project, path)


def test_three_nights(nights: Nights) -> None:
    """A good one, one with a bug of the hypervisor, and one on the next kernel without it."""
    first = nights.night()
    words = said(first)
    assert first.status == 0
    assert words["nvmmconf nightly"] == "the first run"
    assert words["kernel"] == "NetBSD 10.0 amd64"
    assert words["build"] == "NetBSD GENERIC #0"
    assert words["result"] == "8 cases on 1 target: 8 pass"
    assert words["report"] == f"{nights.public}/index.html"
    assert "interrupted" not in words
    assert dead_links(nights.public) == []

    second = nights.night(NVMM_SOFT_FAULT="hlt-rip-not-advanced")
    words = said(second)
    assert second.status == 1
    assert words["nvmmconf nightly"] == "REGRESSION"
    good, bad = nights.runs
    failed = of(verdicts(bad), Verdict.FAIL)
    assert failed
    assert words["compared"].startswith(
        f"{good.header.run_id} -> {bad.header.run_id}: {len(failed)} regression"
    )
    named = {line.split(": ")[0].strip() for line in second.out.splitlines() if line[0] == " "}
    assert named == failed
    assert "last time" not in words
    assert len(second.out.splitlines()) <= 14
    assert (nights.public / "runs" / bad.header.run_id).is_dir()

    kernel(nights.path, "10.1")
    third = nights.night()
    words = said(third)
    assert third.status == 0
    assert words["nvmmconf nightly"] == "nothing got worse"
    assert f"{len(failed)} fixed" in words["compared"]
    assert words["kernel"] == "NetBSD 10.1 amd64"
    assert words["last time"] == "NetBSD 10.0 amd64 NetBSD GENERIC #0"
    assert len(nights.runs) == 3
    assert nights.state() == {"last", "lock"}
    assert not list(nights.project.root.glob("public html?*"))


def test_the_host_goes_down_in_a_case(nights: Nights) -> None:
    """The next start names the case, and compares with the last run that came to its end."""
    assert nights.night().status == 0
    (before,) = nights.runs
    nights.killed("case")
    after = nights.night()
    words = said(after)
    assert after.status == 0
    _, interrupted, last = nights.runs
    crashed = of(verdicts(interrupted), Verdict.CRASH)
    # The other worker may have been in another one.
    assert "it/in_flight" in {case.partition("[")[0] for case in crashed}
    missing = of(verdicts(interrupted), Verdict.MISSING)
    told = words["interrupted"]
    assert told.startswith(f"run {interrupted.header.run_id}; in ")
    assert {word for word in told.split() if word.startswith("it/")} == crashed
    assert told.endswith(f" before {len(missing)} others")
    assert words["compared"].startswith(f"{before.header.run_id} -> {last.header.run_id}: ")
    # Told once; and records are kept as long as was asked for.
    assert "interrupted" not in said(nights.night("-k", "2", *PROFILE))
    assert len(nights.runs) == 2
    assert last.header.run_id == nights.runs[0].header.run_id
    assert len(list(nights.reports.glob("state/*.log"))) == 2


def test_the_host_goes_down_before_the_first_case(nights: Nights) -> None:
    nights.killed("import")
    words = said(nights.night())
    assert words["interrupted"].endswith("before its first case")
    assert words["nvmmconf nightly"] == "the first run"
    assert "interrupted" not in said(nights.night())


def test_what_cannot_run(nights: Nights) -> None:
    nothing = nights.night("-l", str(nights.project.root / "none.so"))
    assert nothing.status == 3
    assert said(nothing)["nvmmconf nightly"].startswith("COULD NOT RUN: nvmmconf doctor")
    assert "PROBLEM  library" in nothing.out
    assert "none.so" in nothing.out
    for words in (("--", "--no-such-option"), ("--", "-k", "no_such_case")):
        finished = nights.night(*words)
        assert finished.status == 3
        assert said(finished)["nvmmconf nightly"].startswith("COULD NOT RUN: pytest ended with ")
    listed = nights.night("--", "--collect-only")
    assert listed.status == 3
    assert said(listed)["nvmmconf nightly"] == "COULD NOT RUN: no run came of it"
    (nights.project.root / "cases" / "test_broken.py").write_text("import no_such_module\n")
    broken = nights.night()
    assert broken.status == 3
    assert "COULD NOT RUN" in broken.out
    assert nights.runs == []
    assert nights.state() == {"lock"}
    assert not nights.public.exists()


def test_a_folder_of_somebody_else_is_left_alone(nights: Nights) -> None:
    nights.public.mkdir()
    (nights.public / "index.html").write_text("my page")
    finished = nights.night()
    assert finished.status == 4
    assert "NOT published" in said(finished)["report"]
    assert [path.name for path in nights.public.iterdir()] == ["index.html"]
    assert (nights.public / "index.html").read_text() == "my page"


@pytest.mark.parametrize("words", [("-k", "many"), ("-k", "1"), ("-x",), ("-C", "/dev")])
def test_usage(nights: Nights, words: tuple[str, ...]) -> None:
    finished = nights.night(*words)
    assert finished.status == 2
    assert finished.out == ""
    assert finished.err
    assert not nights.reports.exists()
