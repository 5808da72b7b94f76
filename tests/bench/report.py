# SPDX-License-Identifier: BSD-2-Clause
"""What the report costs: 1,500 cases on seven targets, and a hundred runs of history.

    python tests/bench/report.py [FOLDER]

Prints processor time and sizes; `FOLDER` keeps the pages.  The limits are the
project's: the end of a run 5 s, the matrix 2 MB, a hundred runs 10 s.
"""

from __future__ import annotations

import dataclasses
import gc
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from nvmmconf.report import Store, write_site
from nvmmconf.results import (
    CaseResult,
    Comparison,
    Ended,
    ExitRow,
    GuestRun,
    InsnRow,
    Planned,
    Requirement,
    Run,
    RunHeader,
    TargetInfo,
    Verdict,
)
from nvmmconf.results.history import History

CASES, AREAS, RUNS = 1500, 15, 100
NAMES = ("ideal", "v1-svm", "v1-vmx", "v2-svm", "v2-vmx", "v3-svm", "v3-vmx")
BRIEF = GuestRun(
    "guest",
    "long64",
    "HALTED",
    0x100A,
    "ok\n",
    {f"R{number}": f"{number:#018x}" for number in range(40)},
    tuple(ExitRow(n, "IO", "0x1005 <again>", "OUT port 0xe9, 1 byte: 0x68") for n in range(1, 17)),
    0,
    tuple(InsnRow(0x1000 + n, "ee", "out dx, al", "") for n in range(16)),
)
FULL = dataclasses.replace(
    BRIEF,
    trace=tuple(ExitRow(n, "IO", "0x1005 <again>", "OUT port 0xe9") for n in range(1, 201)),
    listing=tuple(InsnRow(0x1000 + n, "ee", "out dx, al", "") for n in range(600)),
)


def verdict(case: int, target: int) -> Verdict:
    """One in fifty fails on a target, one in twenty is known there."""
    if (case * 7 + target) % 350 == 0:
        return Verdict.FAIL
    return Verdict.KNOWN if target and (case * 3 + target) % 140 == 0 else Verdict.PASS


def synthetic(day: int) -> Run:
    """A run of all; what fails depends on the day."""
    requirements = tuple(
        Requirement(f"K-X-{n}", f"The kernel does thing {n}, and nothing else.", "area", "source")
        for n in range(300)
    )
    header = RunHeader(
        f"2026{day // 28 + 1:02}{day % 28 + 1:02}T000000Z-{day:05x}",
        f"2026-{day // 28 + 1:02}-{day % 28 + 1:02}T00:00:00+00:00",
        "0.1.0",
        "abcdef123456",
        "/usr/lib/libnvmm.so.1",
        "the system has one",
        tuple(TargetInfo(name, 2, {"max_ram": "127 TiB"}) for name in NAMES),
        {"system": "NetBSD 10.1"},
        ("-n", "auto"),
        2,
        requirements=requirements,
    )
    results = []
    for case in range(CASES):
        area = f"area{case % AREAS}"
        name = f"{area}/something_is_as_it_has_to_be[long64-{case}]"
        for index, target in enumerate(NAMES):
            found = verdict(case + day, index)
            bad = found is not Verdict.PASS
            planned = Planned(
                f"{name}@{target}",
                target,
                area,
                "What the guest does arrives as it has to, and nothing else happens.",
                (f"K-X-{case % 300}", f"K-X-{(case + 7) % 300}"),
                f"cases/test_{area}.py::test_something_is_as_it_has_to_be[long64@{target}-{case}]",
                known="BH-1: it is so" if found is Verdict.KNOWN else "",
            )
            ended = Ended(
                planned.case,
                "gw0",
                found,
                0.01 + case / 1e5,
                "RAX: wanted 1, got 2" if bad else "",
                "a traceback\n" * 30 if bad else "",
                (Comparison("RAX", "==", "2", "1"),) if bad else (),
                (FULL if bad else BRIEF,),
            )
            results.append(CaseResult(planned, ended))
    return Run(header, tuple(results))


def cost(what: str, act: Callable[[], object]) -> float:
    """Run it, print and return its processor time."""
    gc.collect()
    start = time.process_time()
    act()
    seconds = time.process_time() - start
    print(f"{what:<52} {seconds:8.2f} s")
    return seconds


def size(path: Path) -> float:
    """Megabytes of a file, or of all below a folder."""
    files = [path] if path.is_file() else [one for one in path.rglob("*") if one.is_file()]
    return sum(one.stat().st_size for one in files) / 1e6


def main(folder: Path) -> int:
    """Measure; 1 where a limit is not kept."""
    gc.disable()
    out = folder / "html"
    older, newest = synthetic(RUNS), synthetic(RUNS + 1)
    runs = {run.header.run_id: run for run in (older, newest)}
    with History(folder / "history.sqlite") as history:
        for day in range(RUNS):
            history.add(synthetic(day))

        def add_and_report(run: Run) -> None:
            history.add(run)
            known = runs.keys()
            store = Store(
                history,
                lambda past: runs[past.header.run_id],
                has=lambda past: past.header.run_id in known,
            )
            write_site(store, out, only_newest=True)

        cost("first report", lambda: add_and_report(older))
        end = cost("the end of a run: history and pages", lambda: add_and_report(newest))
        again = cost("once more, nothing new", lambda: add_and_report(newest))
    pages = out / "runs" / newest.header.run_id
    print(f"{'results':<52} {len(newest.results):8,}")
    print(f"{'pages of a run':<52} {len(list(pages.iterdir())):8,}")
    for what, path in (
        ("matrix", pages / "matrix.html"),
        ("pages of a run", pages),
        ("history page", out / "history.html"),
        ("history.sqlite, 102 runs", folder / "history.sqlite"),
    ):
        print(f"{what:<52} {size(path):8.2f} MB")
    kept = end < 5 and again < 10 and size(pages / "matrix.html") < 2
    print("within its limits" if kept else "BEYOND ITS LIMITS")
    return 0 if kept else 1


if __name__ == "__main__":
    if len(sys.argv) > 1:
        sys.exit(main(Path(sys.argv[1])))
    with tempfile.TemporaryDirectory() as name:
        sys.exit(main(Path(name)))
