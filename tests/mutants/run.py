# SPDX-License-Identifier: BSD-2-Clause
"""Puts each mutant into a copy of softnvmm and asks its tests: `make mutants`.

Usage: python tests/mutants/run.py [WORD...]; with words, only the mutants whose line has one of
them. Exit status 1 where a mutant survives, 2 where something else is wrong.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from queue import Queue
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.mutants.mutants import API, ROOT, SOFT, Mutant, read
from tests.softnvmm_api import conftest as build

if TYPE_CHECKING:
    from collections.abc import Iterator

HANGS = 60  # seconds; the slowest test takes two


class Verdict(Enum):
    """What became of a mutant."""

    KILLED = "killed"
    HUNG = "hung"  # which is noticed, too
    SURVIVED = "survived"


class BrokenError(Exception):
    """Neither: the mutant does not build, or its tests do not run."""


class Copy:
    """A copy of the library and its tests, built, one mutant at a time."""

    def __init__(self, where: Path) -> None:
        self.root = where / "tree"
        ignore = shutil.ignore_patterns("__pycache__", "*.so", "*.o")
        for part in (SOFT, API):
            shutil.copytree(ROOT / part, self.root / part, ignore=ignore)
        self.clients = where / "clients"
        self.built = self.clients / "plain-softnvmm"
        self.built.mkdir(parents=True)
        self.library = build.library(self.built, (), self.root / SOFT)

    def ask(self, nodes: list[str], seconds: int | None = None) -> Verdict:
        """What the tests say of the library as it is.

        Raises BrokenError where they cannot be run.
        """
        env = {
            **{k: v for k, v in os.environ.items() if not k.startswith("NVMM_SOFT_")},
            "NVMMCONF_CLIENTS": str(self.clients),
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider"]
        try:
            done = subprocess.run(
                [*command, f"--rootdir={self.root}", *nodes],
                cwd=self.root,
                env=env,
                capture_output=True,
                text=True,
                check=False,
                timeout=seconds,
            )
        except subprocess.TimeoutExpired:
            return Verdict.HUNG
        if done.returncode not in (0, 1):
            raise BrokenError(done.stdout + done.stderr)
        return Verdict.KILLED if done.returncode else Verdict.SURVIVED

    def try_out(self, mutant: Mutant) -> Verdict:
        """Build with the mutant, ask its tests, and put everything back."""
        source = self.root / SOFT / mutant.file
        text = source.read_text()
        source.write_text(mutant.apply(text))
        try:
            self.compile(source)
            return self.ask(mutant.nodes(), HANGS)
        except RuntimeError as problem:
            raise BrokenError(f"{mutant.where} does not build:\n{problem}") from problem
        finally:
            source.write_text(text)
            self.compile(source)

    def compile(self, source: Path) -> None:
        build.compile_one(source, self.built, (), self.root / SOFT)
        build.link(self.built, ())


@contextmanager
def borrowed(copies: Queue[Copy]) -> Iterator[Copy]:
    copy = copies.get()
    try:
        yield copy
    finally:
        copies.put(copy)


def run(mutants: list[Mutant], where: Path) -> Counter[str]:
    """Try all of them; how many came to which end."""
    jobs = min(os.cpu_count() or 1, len(mutants))
    copies: Queue[Copy] = Queue()
    for number in range(jobs):
        copies.put(Copy(where / str(number)))
    with borrowed(copies) as copy:
        every = sorted({node for mutant in mutants for node in mutant.nodes()})
        if copy.ask(every) is not Verdict.SURVIVED:
            raise BrokenError("the tests fail without any mutant: run make test")
    ends: Counter[str] = Counter()
    lock = threading.Lock()

    def one(mutant: Mutant) -> None:
        problem = ""
        try:
            with borrowed(copies) as copy:
                end = copy.try_out(mutant).value
        except (BrokenError, ValueError) as why:
            end, problem = "broken", f"\n{why}"
        with lock:
            print(f"{end:8}  {mutant.file}: {mutant.where}{problem}", flush=True)
            ends[end] += 1

    with ThreadPoolExecutor(jobs) as pool:
        for done in [pool.submit(one, mutant) for mutant in mutants]:
            done.result()
    return ends


def main(words: list[str]) -> int:
    began = time.monotonic()
    every = [(m, f"{m.file}: {m.where}") for m in read()]
    mutants = [m for m, line in every if not words or any(word in line for word in words)]
    if not mutants:
        print("no mutant is named so", file=sys.stderr)
        return 2
    if build.compiler() is None:
        print("no C compiler: set CC", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="nvmmconf-mutants-") as where:
        try:
            ends = run(mutants, Path(where))
        except (BrokenError, ValueError) as problem:
            print(problem, file=sys.stderr)
            return 2
    rows = {row for mutant in mutants for row in mutant.rows}
    said = ", ".join(f"{count} {end}" for end, count in sorted(ends.items()))
    seconds = time.monotonic() - began
    print(f"{len(mutants)} mutants of {len(rows)} requirements: {said}; {seconds:.0f} s")
    if ends["broken"]:
        return 2
    return 1 if ends[Verdict.SURVIVED.value] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
