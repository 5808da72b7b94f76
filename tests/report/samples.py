# SPDX-License-Identifier: BSD-2-Clause
"""Runs to render: one with something of everything, as a real one might have it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

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

TARGETS = tuple(
    TargetInfo(
        f"v{version}-svm",
        version,
        {
            "state_size": "1008 bytes",
            "max_machines": "128",
            "max_vcpus": "256",
            "max_ram": "127 TiB",
            "cpuid_maxops": "32",
            "vcpu configuration": "CPUID, callbacks",
        },
    )
    for version in (1, 2)
)
REQUIREMENTS = (
    Requirement("K-HLT-1", "HLT exits HALTED with RIP after it.", "hlt", "S,X exit_hlt"),
    Requirement(
        "A-EXIT-6",
        "HALTED: unless (HARD pending and IF set) or NMI pending: the vCPU becomes halted and "
        'the loop is left with the "halted" reason.',
        "exits",
        "spec/accelerator.md 9",
    ),
    Requirement("K-IO-2", "A string instruction exits once per element.", "pio", "S,X exit_io"),
)
LISTING = (
    InsnRow(0x1000, "ba e9 00", "mov dx, 0xe9", "_start"),
    InsnRow(0x1003, "b0 68", "mov al, 0x68"),
    InsnRow(0x1005, "ee", "out dx, al"),
    InsnRow(0x1006, "b0 69", "mov al, 0x69"),
    InsnRow(0x1008, "ee", "out dx, al"),
    InsnRow(0x1009, "fa", "cli", "wait_here"),
    InsnRow(0x100A, "f4", "hlt"),
    InsnRow(0x100B, "66 0f 38 f0 04 25 00 10 00 00", "movbe ax, word ptr [0x1000]", "after_hlt"),
    InsnRow(0x1015, "eb fe", "jmp 0x1015"),
)
REGISTERS = {
    name: f"{value:#018x}"
    for name, value in [
        ("rax", 0x69), ("rbx", 0), ("rcx", 0), ("rdx", 0xE9), ("rsi", 0), ("rdi", 0),
        ("rbp", 0), ("rsp", 0x7C00), ("rip", 0x100A), ("rflags", 0x2), ("cr0", 0x10),
        ("cr3", 0), ("cr4", 0), ("efer", 0x1000), ("cs", 0), ("ss", 0),
    ]
}  # fmt: skip


def guest_run(rip: int | None, outcome: str = "HALTED", **changes: Any) -> GuestRun:
    run = GuestRun(
        guest="hlt",
        mode="real16",
        outcome=outcome,
        rip=rip,
        console="hi\n\x1b[1mbold\x1b[0m\ttab\0end\n",
        registers=REGISTERS,
        trace=(
            ExitRow(4, "IO", "0x1005", "OUT port 0xe9, 1 byte: 0x68"),
            ExitRow(5, "IO", "0x1008", "OUT port 0xe9, 1 byte: 0x69"),
            ExitRow(6, "HALTED", "0x100a", ""),
        ),
        dropped=3,
        listing=LISTING,
    )
    return dataclasses.replace(run, **changes)


def ended(case: str, verdict: Verdict, worker: str) -> Ended:
    seconds = 0.00123
    match verdict:
        case Verdict.PASS:
            return Ended(case, worker, verdict, seconds, runs=(guest_run(0x100B),))
        case Verdict.UNSUPPORTED:
            return Ended(case, worker, verdict, 0.0, "needs CPUID leaf 7, which is not there")
        case Verdict.FAIL:
            return Ended(
                case,
                worker,
                verdict,
                seconds,
                "RIP after HLT: wanted 0x100b <after_hlt>, got 0x100a <wait_here+1>",
                "    def test_hlt(vm):\n>       assert run.rip == run.symbol('after_hlt')\n"
                "E       assert 0x100a == 0x100b\n\ncases/test_hlt.py:12: AssertionError",
                (
                    Comparison(
                        "run.rip == run.symbol('after_hlt')",
                        "==",
                        "0x100a <wait_here+1>",
                        "0x100b <after_hlt>",
                    ),
                ),
                (guest_run(0x100A),),
            )
        case Verdict.HANG:
            message = "stopped after 2 s: 1,000,000 exits at 0x1015"
            return Ended(case, worker, verdict, 2.01, message, runs=(guest_run(0x1016, "STOPPED"),))
        case Verdict.CRASH:
            return Ended(case, worker, verdict, 0.0, f"worker {worker} died in this case")
        case Verdict.ERROR:
            message = "the assembler is missing: as"
            return Ended(case, worker, verdict, 0.1, message, "Traceback ...")
        case _:
            message = "planned, but the run ended before it started"
            return Ended(case, "", verdict, 0.0, message)


CASES: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("hlt/halts[real16]", "HLT with nothing pending halts the vCPU.", ("K-HLT-1", "A-EXIT-6")),
    ("hlt/halts[long64]", "HLT with nothing pending halts the vCPU.", ("K-HLT-1", "A-EXIT-6")),
    ("hlt/resumes[real16]", "A halted vCPU resumes at the next instruction.", ("K-HLT-1",)),
    ("pio/out[real16]", "OUT to a port reaches the device with its value.", ("K-IO-2",)),
    ("pio/out[long64]", "OUT to a port reaches the device with its value.", ("K-IO-2",)),
    ("pio/rep-outs[real16]", "REP OUTSB puts out each element, in order.", ("K-IO-2",)),
    ("pio/rep-outs[long64]", "REP OUTSB puts out each element, in order.", ("K-IO-2",)),
    ("shutdown/triple[real16]", "A triple fault shuts the vCPU down.", ("K-SHUT-9",)),
    ("shutdown/triple[long64]", "A triple fault shuts the vCPU down.", ()),
)

Choose = Callable[[str, str], Verdict]


def all_pass(name: str, target: str) -> Verdict:
    return Verdict.PASS


def of_everything(name: str, target: str) -> Verdict:
    special = {
        ("hlt/halts[real16]", "v1-svm"): Verdict.FAIL,
        ("hlt/halts[real16]", "v2-svm"): Verdict.FAIL,
        ("hlt/halts[long64]", "v2-svm"): Verdict.FAIL,
        ("hlt/resumes[real16]", "v1-svm"): Verdict.HANG,
        ("pio/rep-outs[long64]", "v2-svm"): Verdict.CRASH,
        ("pio/out[long64]", "v1-svm"): Verdict.UNSUPPORTED,
        ("shutdown/triple[real16]", "v1-svm"): Verdict.ERROR,
        ("shutdown/triple[real16]", "v2-svm"): Verdict.MISSING,
    }
    return special.get((name, target), Verdict.PASS)


def sample_run(
    run_id: str = "20261122T101500Z-4f2a",
    choose: Choose = of_everything,
    *,
    faults: tuple[str, ...] = (),
    host: Mapping[str, str] | None = None,
) -> Run:
    header = RunHeader(
        run_id=run_id,
        started_at=f"{run_id[:4]}-{run_id[4:6]}-{run_id[6:8]}T10:15:00.123+00:00",
        suite_version="0.1.0",
        suite_revision="839bc7f",
        library="/usr/lib/libnvmm.so.1",
        library_reason="the system has one",
        targets=TARGETS,
        host=host or {"system": "NetBSD 10.1 amd64", "CPU": "AMD EPYC 7543P", "memory": "16 GiB"},
        arguments=("-n", "auto"),
        workers=2,
        faults=faults,
        requirements=REQUIREMENTS,
    )
    results = []
    for name, title, requirements in CASES:
        for index, target in enumerate(TARGETS):
            case = f"{name}@{target.name}"
            path = name.split("[")[0].replace("/", ".py::test_")
            nodeid = f"cases/test_{path}[{name.split('[')[1][:-1]}-{target.name}]"
            planned = Planned(case, target.name, name.split("/")[0], title, requirements, nodeid)
            verdict = choose(name, target.name)
            results.append(CaseResult(planned, ended(case, verdict, f"gw{index}")))
    return Run(header, tuple(results))
