# SPDX-License-Identifier: BSD-2-Clause
"""The `vm` of a case, on the bundled libnvmm; and the evidence that is kept of its runs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nvmmconf.abi import ExitReason, Gpr, Segment
from nvmmconf.guest import GuestError, GuestLibrary, Mode
from nvmmconf.nvmm.vcpu import SoftDiagnostic, Vcpu
from nvmmconf.suite import GuestHangError, IoExit, Stop, UnimplementedWarning, VirtualMachine
from nvmmconf.suite.evidence import guest_run
from nvmmconf.suite.target import Target

from .conftest import REPOSITORY


@pytest.fixture(params=["v1-svm", "v2-svm"])
def target(request: pytest.FixtureRequest, targets: dict[str, Target]) -> Target:
    return targets[request.param]


@pytest.fixture
def machine(target: Target, mode: Mode, guests: GuestLibrary) -> Iterator[VirtualMachine]:
    with VirtualMachine(target, mode, guests) as one:
        yield one


Written = Callable[[str], VirtualMachine]


@pytest.fixture
def written(target: Target, mode: Mode, tmp_path: Path) -> Iterator[Written]:
    """A machine for a guest `it` with this body, and little patience."""
    made: list[VirtualMachine] = []

    def call(body: str) -> VirtualMachine:
        modes = " ".join(mode.value for mode in Mode)
        head = f"# A guest of a test.\n#\n# area: hlt\n# modes: {modes}\n\nstart:\n"
        (tmp_path / "it.S").write_text(head + body)
        include = REPOSITORY / "guests/include"
        library = GuestLibrary(tmp_path, tmp_path / "cache", include=include)
        made.append(VirtualMachine(target, mode, library, timeout=0.2))
        return made[-1]

    yield call
    for machine in made:
        machine.close()


def test_run_of_a_guest(machine: VirtualMachine) -> None:
    run = machine.boot("hello")
    assert run.reason is Stop.EXITED
    assert run.status == 1
    assert run.console.startswith(f"hello from {machine.mode.value}")
    assert run.reasons()[-1] is ExitReason.IO
    assert run.exits_of(IoExit)[-1].port == 0xF4
    assert repr(run).startswith(f"<hello in {machine.mode.value}: EXITED(1), RIP 0x")


def test_addresses_have_symbols(machine: VirtualMachine) -> None:
    run = machine.boot("hlt")
    assert repr(run.rip) == f"{run.image.symbol('after_hlt'):#x} <after_hlt>"
    assert repr(run.symbol("hlt_insn")).endswith(" <hlt_insn>")
    assert run.rip == run.symbol("hlt_insn") + 1
    with pytest.raises(GuestError, match="no symbol 'hltinsn'; near: hlt_insn"):
        run.symbol("hltinsn")


def test_resumed_run_leaves_the_first_as_it_was(machine: VirtualMachine) -> None:
    halted = machine.boot("hlt")
    rip, registers = halted.rip, dict(halted.registers.gpr)
    resumed = halted.resume()
    assert (halted.reason, resumed.reason) == (Stop.HALTED, Stop.EXITED)
    assert halted.rip == rip
    assert halted.registers.gpr == registers
    assert resumed.rip != rip
    # The latest state of each guest is the evidence.
    assert machine.runs == (resumed,)


def test_each_boot_is_a_machine_of_its_own(machine: VirtualMachine) -> None:
    first, second = machine.boot("hello"), machine.boot("hello")
    assert first.console == second.console
    assert len(first.exits) == len(second.exits)
    assert machine.runs == (first, second)


def test_closed_machine_forgets(machine: VirtualMachine) -> None:
    machine.boot("hlt")
    machine.close()
    assert machine.runs == ()
    machine.close()


def test_unknown_guest(machine: VirtualMachine) -> None:
    with pytest.raises(GuestError, match="no such guest"):
        machine.boot("htl")
    assert machine.runs == ()


def test_hang_is_stopped_with_evidence(written: Written) -> None:
    machine = written("spin:\n    jmp spin\n")
    with pytest.raises(GuestHangError, match=r"^it \(\w+\) ran for 0\.2 s .* RIP \w+ <spin>$"):
        machine.boot("it")
    (run,) = machine.runs
    assert run.reason is Stop.HANG
    assert run.rip == run.symbol("spin")


def test_watchdog_is_gone_after_a_run(machine: VirtualMachine) -> None:
    before = set(threading.enumerate())
    machine.boot("hlt")
    left = [one for one in threading.enumerate() if one not in before]
    for one in left:
        assert isinstance(one, threading.Timer)
        assert one.finished.is_set()


def test_hang_full_of_exits_is_a_hang(written: Written) -> None:
    """Time is what counts, not what the guest does with it."""
    machine = written("again:\n    out 0xE9, al\n    jmp again\n")
    with pytest.raises(GuestHangError):
        machine.boot("it")
    (run,) = machine.runs
    evidence = guest_run(run)
    assert evidence.outcome == "HANG"
    assert evidence.trace[-1].sequence == evidence.dropped + len(evidence.trace)


def test_what_the_interpreter_lacks_is_a_warning(
    machine: VirtualMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Told by the library; which instructions those are changes, the way to say it does not."""
    found = SoftDiagnostic(unimplemented=3, last_bytes=b"\x0f\xff", undecodable_mem=0)
    monkeypatch.setattr(Vcpu, "soft_diagnostic", lambda self: found)
    with pytest.warns(UnimplementedWarning, match=r"guest hlt .*: 3 instruction.*#UD.* 0f ff$"):
        machine.boot("hlt")


@pytest.mark.parametrize("found", [None, SoftDiagnostic(0, b"", 0)], ids=["kernel", "nothing"])
def test_no_warning_without_cause(
    machine: VirtualMachine,
    monkeypatch: pytest.MonkeyPatch,
    recwarn: pytest.WarningsRecorder,
    found: SoftDiagnostic | None,
) -> None:
    monkeypatch.setattr(Vcpu, "soft_diagnostic", lambda self: found)
    machine.boot("hlt")
    assert not recwarn.list


# ---- evidence --------------------------------------------------------------------------------


def test_evidence_is_in_the_coordinates_of_the_listing(machine: VirtualMachine) -> None:
    """Also in real16, where CS has a base."""
    run = machine.boot("hlt")
    evidence = guest_run(run)
    labels = {row.label: row for row in evidence.listing if row.label}
    assert evidence.rip == labels["after_hlt"].address == run.symbol("after_hlt")
    assert labels["hlt_insn"].text == "hlt"
    assert labels["hlt_insn"].encoding == "f4"
    assert [(row.sequence, row.reason) for row in evidence.trace] == [(1, "HALTED")]
    assert evidence.trace[0].rip == repr(run.rip)
    assert (evidence.guest, evidence.mode) == ("hlt", machine.mode.value)
    assert evidence.outcome == "HALTED"


def test_evidence_after_a_far_jump_is_still_a_place_in_the_image(
    written: Written, mode: Mode
) -> None:
    """Another CS with another offset is the same instruction."""
    if mode is not Mode.REAL16:
        pytest.skip("a segment's base is of real mode")
    machine = written(
        "    .byte 0xEA\n    .word offset there + 0x1000, 0x1F00\n"
        "there:\n    hlt\nafter:\n    nop\n"
    )
    run = machine.boot("it")
    assert run.registers.seg[Segment.CS].base == 0x1F000
    labels = {row.label: row.address for row in guest_run(run).listing}
    assert guest_run(run).rip == labels["after"]


def test_evidence_tells_the_registers(machine: VirtualMachine) -> None:
    run = machine.boot("hello")
    words = guest_run(run).registers
    assert words["RIP"] == f"{run.registers.gpr[Gpr.RIP]:#x}"
    assert words["RCX"] == "0x0"
    real = machine.mode is Mode.REAL16
    assert words["CS"].startswith("0x2000 base 0x20000 limit 0xffff" if real else "0x0008 base 0x0")
    long_mode = machine.mode in (Mode.COMPAT32, Mode.LONG64)
    assert words["EFER"] == ("0x500" if long_mode else "0x0")
    assert {"CR0", "CR3", "CR4", "GDT", "IDT", "TR"} <= set(words)
    assert "CR8" not in words


def test_evidence_has_console_and_every_exit(machine: VirtualMachine) -> None:
    run = machine.boot("hello")
    evidence = guest_run(run)
    assert evidence.console == run.console
    assert len(evidence.trace) == len(run.exits)
    assert all(row.detail for row in evidence.trace if row.reason == "IO")
    assert evidence.dropped == 0
