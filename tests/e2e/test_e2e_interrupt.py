# SPDX-License-Identifier: BSD-2-Clause
"""Ctrl-C while guests spin: it ends, says so, and what was done is kept."""

from __future__ import annotations

import pytest

from nvmmconf.results import Verdict

from .html import dead_links
from .project import Project

SPIN = """
    out     0xE9, al
spin:
    jmp     spin
"""

CASES = """
@requirement("K-HLT-1")
def test_before(vm: VirtualMachine) -> None:
    assert vm.boot("hlt").reason is Stop.HALTED

@requirement("K-HLT-1")
@pytest.mark.parametrize("number", range(8))
def test_spin(vm: VirtualMachine, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # The guest says itself that it runs; after this it only spins.
    tell = lambda *ignored: Path("ready").write_bytes(b".")
    monkeypatch.setattr("nvmmconf.board.debugcon.DebugConsole.port_write", tell)
    assert vm.boot("spin")

@requirement("K-HLT-1")
def test_later(vm: VirtualMachine) -> None:
    assert vm.boot("hlt")
"""


# Version 1 leaves the guest by a signal, version 2 by the stop word.
@pytest.mark.parametrize(("workers", "profile"), [(0, "v1-svm"), (0, "v2-svm"), (2, "v1-svm")])
def test_interrupt_ends_the_run(project: Project, workers: int, profile: str) -> None:
    project.guest("spin", SPIN)
    project.cases(CASES)
    finished = project.interrupted(
        f"-n{workers}",
        f"--nvmm-profile={profile}",
        "--nvmm-timeout=100000",  # only the interrupt can end it
        "-k",
        "real16",
        ready=max(workers, 1),
    )
    assert finished.status == 2
    finished.told_without_traceback()
    assert "KeyboardInterrupt" in finished.out
    by = finished.verdicts
    assert len(by) == 10
    errors = [one.ended for one in finished.run.results if one.ended.verdict is Verdict.ERROR]
    assert len(errors) == max(workers, 1)
    assert {one.message for one in errors} == {"interrupted by the user"}
    assert all("/spin[" in one.case for one in errors)
    assert set(by.values()) <= {Verdict.PASS, Verdict.ERROR, Verdict.MISSING}
    if not workers:
        assert by[f"it/before[real16]@{profile}"] is Verdict.PASS
        assert by[f"it/later[real16]@{profile}"] is Verdict.MISSING
    assert dead_links(finished.reports / "html") == []
