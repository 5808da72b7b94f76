# SPDX-License-Identifier: BSD-2-Clause
"""Section 10, and A-EXIT-8, A-EXIT-9: MSRs that reach userland, by guests that use them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest

from nvmmconf.abi import ExitReason, Gpr
from nvmmconf.accel import Stop
from nvmmconf.board.apic_bus import ApicBus
from nvmmconf.board.clock import ManualClock
from nvmmconf.board.local_apic import LocalApic
from nvmmconf.suite import requirement

MakeRig = Callable[..., Any]
APIC_BASE, MTRRCAP, MCG_CAP, MCG_STATUS, MTRR_DEF_TYPE = 0x1B, 0xFE, 0x179, 0x17A, 0x2FF
NOBODYS = 0x12345
RDMSR, WRMSR = "0f 32", "0f 30"
AFTER_RDMSR = 8  # mov ecx, imm32 has six bytes in real mode, RDMSR and WRMSR two


def code(msr: int, instruction: str) -> str:
    """Mov ecx, msr; the instruction; hlt."""
    return f"66 b9 {msr.to_bytes(4, 'little').hex()} {instruction} f4"


def read(rig: MakeRig, msr: int, apic: Any = None) -> tuple[int, Any]:
    one = rig(code(msr, RDMSR), apic=apic)
    for gpr in (Gpr.RAX, Gpr.RDX):
        one.vcpu.registers.gpr[gpr] = (1 << 64) - 1
    assert one.run().reason is Stop.HALTED
    assert one.gpr(Gpr.RIP) == AFTER_RDMSR + 1
    return one.gpr(Gpr.RDX) << 32 | one.gpr(Gpr.RAX), one


def write(rig: MakeRig, msr: int, value: int, apic: Any = None) -> None:
    one = rig(code(msr, WRMSR), apic=apic)
    one.vcpu.registers.gpr[Gpr.RAX] = value & 0xFFFFFFFF
    one.vcpu.registers.gpr[Gpr.RDX] = value >> 32
    assert one.run().reason is Stop.HALTED
    assert one.gpr(Gpr.RIP) == AFTER_RDMSR + 1


def test_a_msr_1_the_apic_base_is_the_local_apic_s(rig: MakeRig, apic: Any) -> None:
    apic.base = 0x12_FEE0_0900
    assert read(rig, APIC_BASE, apic)[0] == 0x12_FEE0_0900


@pytest.mark.parametrize("msr", [MTRRCAP, MTRR_DEF_TYPE, MCG_CAP, MCG_STATUS])
def test_a_msr_2_some_are_zero(rig: MakeRig, msr: int, caplog: pytest.LogCaptureFixture) -> None:
    assert read(rig, msr)[0] == 0
    assert not caplog.records


def test_a_msr_3_any_other_is_zero_and_named(
    rig: MakeRig, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert read(rig, NOBODYS)[0] == 0
    assert "0x12345" in caplog.text


@requirement("A-EXIT-8")
def test_a_msr_4_the_answer_is_in_eax_and_edx(rig: MakeRig, apic: Any) -> None:
    """The registers' upper halves become zero, as RDMSR's do; RIP is the next instruction's."""
    apic.base = 0xFEDC_BA98_7654_3210
    answer, one = read(rig, APIC_BASE, apic)
    assert answer == 0xFEDC_BA98_7654_3210
    assert (one.gpr(Gpr.RAX), one.gpr(Gpr.RDX)) == (0x7654_3210, 0xFEDC_BA98)
    assert one.reasons.count("RDMSR") == 1


@requirement("A-EXIT-9", "A-MSR-8")
def test_a_msr_5_the_apic_base_is_set(rig: MakeRig, apic: Any) -> None:
    write(rig, APIC_BASE, 0x1_FEE0_0800, apic)
    assert apic.base == 0x1_FEE0_0800


def test_a_msr_5_a_base_that_the_apic_refuses_is_ignored_and_named(
    rig: MakeRig, caplog: pytest.LogCaptureFixture
) -> None:
    """A real local APIC, and reserved bits; the guest goes on."""
    apic = LocalApic(0, ApicBus(), ManualClock(), lambda: 0, is_bsp=True)
    with caplog.at_level(logging.WARNING):
        write(rig, APIC_BASE, 0xFEE00B00, apic)
    assert apic.base == 0xFEE00900
    assert "0xfee00b00" in caplog.text


@pytest.mark.parametrize("msr", [MTRR_DEF_TYPE, MCG_STATUS])
def test_a_msr_6_some_are_ignored_in_silence(
    rig: MakeRig, msr: int, caplog: pytest.LogCaptureFixture
) -> None:
    write(rig, msr, 0xC00)
    assert not caplog.records


def test_a_msr_7_any_other_is_ignored_and_named(
    rig: MakeRig, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        write(rig, NOBODYS, 0xABCDEF0123)
    assert "0x12345" in caplog.text
    assert "0xabcdef0123" in caplog.text


@pytest.mark.parametrize("instruction", [RDMSR, WRMSR], ids=["rdmsr", "wrmsr"])
def test_a_msr_8_by_getstate_and_setstate(
    rig: MakeRig, looks: Any, exit_of: Callable[..., Any], instruction: str
) -> None:
    """A-MSR-4 and A-MSR-8 alike; the next entry is not made, as it may be to the same place."""
    one = rig(code(APIC_BASE, instruction), library=looks.library)
    runs: list[int] = []

    def at_run() -> None:
        runs.append(looks.calls.count("vcpu_setstate 0x2"))
        if len(runs) == 2:
            looks.returns(exit_of(ExitReason.SHUTDOWN))

    looks.forget()
    looks.at_run(at_run)
    assert one.run().reason is Stop.RESET
    assert runs == [0, 1]
    assert "vcpu_getstate 0x2" in looks.calls
    assert one.gpr(Gpr.RIP) == AFTER_RDMSR


@pytest.mark.parametrize("instruction", [RDMSR, WRMSR], ids=["rdmsr", "wrmsr"])
@pytest.mark.parametrize("call", ["vcpu_getstate 0x2", "vcpu_setstate 0x2"])
def test_a_msr_8_a_failing_call_is_fatal(
    rig: MakeRig, looks: Any, instruction: str, call: str
) -> None:
    """A-MSR-4 and A-MSR-8 alike: errno and what was being done are told."""
    one = rig(code(APIC_BASE, instruction), library=looks.library)
    looks.at_run(lambda: looks.fail(call, 5))
    outcome = one.run()
    assert outcome.reason is Stop.PANIC
    assert "EIO" in outcome.message
    assert "MSR 0x1b" in outcome.message
