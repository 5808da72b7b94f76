# SPDX-License-Identifier: BSD-2-Clause
"""Puts each mutant into a copy of what it is of and asks its tests: `make mutants`.

Usage: python tests/mutants/run.py [WORD...]; with words, only the mutants whose line has one of
them. A line a mutant: what became of it, the file, its list and number there, the requirements,
and the test that noticed. Exit status 1 where a mutant survives, 2 where something else is wrong.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from queue import Queue
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.mutants.copies import COPIES, BrokenError, Copy, Verdict
from tests.mutants.mutants import Mutant, Part, read
from tests.mutants.processes import Processes, StoppedError
from tests.softnvmm_api import conftest as build

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def borrowed(copies: Queue[Copy]) -> Iterator[Copy]:
    copy = copies.get()
    try:
        yield copy
    finally:
        copies.put(copy)


def run(part: Part, mutants: list[Mutant], where: Path) -> Counter[str]:
    """Try all of them, which are of one part; how many came to which end."""
    jobs = min(os.cpu_count() or 1, len(mutants))
    processes = Processes()
    copies: Queue[Copy] = Queue()
    for number in range(jobs):
        copies.put(COPIES[part](where / f"{part.value}{number}", processes))
    with borrowed(copies) as copy:
        every = sorted({node for mutant in mutants for node in mutant.nodes()})
        end = copy.ask(every)
        if end.verdict is not Verdict.SURVIVED:
            raise BrokenError(f"the tests fail without any mutant ({end.by}): run make test")
    ends: Counter[str] = Counter()
    lock = threading.Lock()

    def one(mutant: Mutant) -> None:
        by = problem = ""
        try:
            with borrowed(copies) as copy:
                end = copy.try_out(mutant)
            said, by = end.verdict.value, end.by
        except (BrokenError, ValueError) as why:
            said, problem = "broken", f"\n{why}"
        except StoppedError:
            return
        with lock:
            print(f"{said:8}  {mutant}{by and f'  <- {by}'}{problem}", flush=True)
            ends[said] += 1

    with ThreadPoolExecutor(jobs) as pool:
        try:
            for done in [pool.submit(one, mutant) for mutant in mutants]:
                done.result()
        except BaseException:
            processes.stop()
            pool.shutdown(cancel_futures=True)
            raise
    return ends


def main(words: list[str]) -> int:
    # As Ctrl-C: what runs is ended, and the copies are removed.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    began = time.monotonic()
    mutants = [m for m in read() if not words or any(word in str(m) for word in words)]
    if not mutants:
        print("no mutant is named so", file=sys.stderr)
        return 2
    if build.compiler() is None:
        print("no C compiler: set CC", file=sys.stderr)
        return 2
    ends: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="nvmmconf-mutants-") as where:
        try:
            for part in Part:
                some = [mutant for mutant in mutants if mutant.part is part]
                ends += run(part, some, Path(where)) if some else Counter()
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
