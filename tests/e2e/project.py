# SPDX-License-Identifier: BSD-2-Clause
"""A small project of its own, and pytest run in it as a user runs it."""

from __future__ import annotations

import os
import re
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nvmmconf.results import CaseResult, Run, Verdict, load_run

REPOSITORY = Path(__file__).resolve().parents[2]

BACKSTOP = 120.0
"""Seconds after which a process counts as stuck; nothing comes near it."""

# A shell's background jobs, and all below them, ignore SIGINT.
_INTERRUPTIBLE = """\
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execv(sys.argv[1], sys.argv[1:])
"""

_CONFIGURATION = """\
[pytest]
testpaths = cases
addopts = --strict-markers -ra
nvmmconf_guests = guests
filterwarnings =
    ignore:Module already imported so cannot be rewritten
"""

_HEAD = """\
import os, signal
from pathlib import Path
import pytest
from nvmmconf.suite import *

"""

_GUEST = """\
# SPDX-License-Identifier: BSD-2-Clause
# A guest of a test.
#
# area: hlt
# modes: {modes}

start:
"""


def environment(**more: str) -> dict[str, str]:
    """The environment of a user: nothing of ours in it, and nothing of the outer pytest."""
    ours = ("NVMM", "PYTEST", "PYTHON", "COLUMNS", "MAKE", "MFLAGS")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    scripts = str(Path(sys.executable).parent)
    # Wide, so that no message is cut where a test reads it.
    return kept | {"PATH": f"{scripts}:{kept.get('PATH', '')}", "COLUMNS": "400"} | more


@dataclass(frozen=True)
class Finished:
    """A process that has ended, and what it left behind."""

    status: int
    out: str
    err: str
    reports: Path

    @property
    def runs(self) -> list[Path]:
        """The folders of all runs, oldest first."""
        return sorted(self.reports.glob("runs/*"))

    @property
    def run(self) -> Run:
        """The one run, merged and saved."""
        (folder,) = self.runs
        return load_run(folder / "run.jsonl")

    @property
    def verdicts(self) -> dict[str, Verdict]:
        """Verdict by case id."""
        return verdicts(self.run)

    def result(self, case: str) -> CaseResult:
        """The one case whose id begins so."""
        (found,) = [one for one in self.run.results if one.planned.case.startswith(case)]
        return found

    def told_without_traceback(self) -> None:
        """Nothing that it said shows a user the inside of pytest or of nvmmconf."""
        for said in (self.out, self.err):
            assert "Traceback" not in said
            assert "INTERNALERROR" not in said


def verdicts(run: Run) -> dict[str, Verdict]:
    """Verdict by case id."""
    return {one.planned.case: one.ended.verdict for one in run.results}


def of(found: Mapping[str, Verdict], verdict: Verdict) -> set[str]:
    """The cases with that verdict."""
    return {case for case, its in found.items() if its is verdict}


@dataclass(frozen=True)
class Project:
    """A folder with a configuration, guests and cases."""

    root: Path

    @classmethod
    def make(cls, root: Path) -> Project:
        """A project in `root`, with the repository's guests and no case."""
        root.mkdir()
        (root / "pytest.ini").write_text(_CONFIGURATION)
        (root / "cases").mkdir()
        shutil.copytree(REPOSITORY / "guests", root / "guests")
        for path in (root / "guests").glob("*.S"):  # two modes are enough, and stay two
            text = path.read_text()
            path.write_text(re.sub(r"^# modes:.*", "# modes: real16 long64", text, flags=re.M))
        return cls(root)

    @property
    def reports(self) -> Path:
        """Where results go unless an option says otherwise."""
        return self.root / "reports"

    def cases(self, text: str, name: str = "test_it.py") -> None:
        """Write a file of cases; what they need is imported already."""
        path = self.root / "cases" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(_HEAD + text)

    def guest(self, name: str, body: str, modes: str = "real16 long64") -> None:
        """Write a guest."""
        (self.root / "guests" / f"{name}.S").write_text(_GUEST.format(modes=modes) + body)

    def command(self, words: Sequence[str], **more: str) -> Finished:
        """Run a command in the project until it ends."""
        done = subprocess.run(
            words,
            cwd=self.root,
            env=environment(**more),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=BACKSTOP,
            check=False,
        )
        return Finished(done.returncode, done.stdout, done.stderr, self.reports)

    def pytest(self, *arguments: str, **more: str) -> Finished:
        """Run pytest; `more` is for the environment."""
        return self.command(pytest_words(arguments), **more)

    def nvmmconf(self, *arguments: str) -> Finished:
        """Run the command line tool."""
        return self.command([sys.executable, "-m", "nvmmconf.cli", *arguments])

    def interrupted(self, *arguments: str, ready: int) -> Finished:
        """Run pytest, and interrupt it as Ctrl-C does once the cases have said so `ready` times.

        A case says so by a byte to the FIFO `ready`.
        """
        os.mkfifo(self.root / "ready")
        # For writing, too: so that neither side waits for the other to open it.
        fifo = os.open(self.root / "ready", os.O_RDWR)
        with subprocess.Popen(
            [sys.executable, "-c", _INTERRUPTIBLE, *pytest_words(arguments)],
            cwd=self.root,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # a terminal signals the whole group
        ) as process:
            try:
                while ready > 0:
                    assert process.poll() is None, "it ended before it was interrupted"
                    if select.select([fifo], [], [], 1.0)[0]:
                        ready -= len(os.read(fifo, ready))
                os.killpg(process.pid, signal.SIGINT)
                out, err = process.communicate(timeout=BACKSTOP)
            finally:
                process.kill()
                os.close(fifo)
        return Finished(process.returncode, out, err, self.reports)


def pytest_words(arguments: Iterable[str]) -> list[str]:
    """The command for pytest; it leaves no cache, which would be one more thing to look at."""
    return [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
