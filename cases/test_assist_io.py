# SPDX-License-Identifier: BSD-2-Clause
"""nvmm_assist_io called by hand: libnvmm(3) "nvmm_assist_io"; what it refuses, what it looks at,
and what it has done when it returns.
"""

from __future__ import annotations

import errno

import pytest
from io_bench import BUFFER, EVERY, PORT, Form

from nvmmconf.suite import (
    ExitReason,
    Gpr,
    IoExit,
    Level,
    Mode,
    PreparedGuest,
    Segment,
    StateFlag,
    VirtualMachine,
    check,
    expect_errno,
    modes,
    requirement,
)

SOME = (Mode.REAL16, Mode.LONG64)


def at(vm: VirtualMachine, label: str, **registers: int) -> PreparedGuest:
    """A guest that stands at `label`, with a device at the port in DX."""
    guest = vm.prepare("port_io", ports={PORT: 0x5A})
    values = {Gpr[name.upper()]: value for name, value in registers.items()}
    guest.registers.gpr |= {Gpr.RIP: guest.symbol(label), Gpr.RDX: PORT, **values}
    return guest


def accesses(guest: PreparedGuest) -> int:
    """How many the device has seen; runs the guest on to its next HLT."""
    return len(guest.run().ports)


@requirement("L-IO-1")
@modes(*EVERY)
@pytest.mark.parametrize("code", ["hlt", "memory", "rdmsr", "ud2"])
def test_refused_after_another_exit(vm: VirtualMachine, code: str) -> None:
    """After an exit that is not IO it fails with EINVAL, and nothing is looked at or changed."""
    text = {
        "hlt": "hlt\n",
        "memory": "mov al, ds:[0xC000]\n",
        "rdmsr": "mov ecx, 0x1B\n rdmsr\n",
        "ud2": "lidt [none]\n ud2\n .pushsection .rodata\nnone: .quad 0, 0\n .popsection\n",
    }[code]
    base = 0x20000 if vm.mode is Mode.REAL16 else 0
    if vm.mode is Mode.LONG64:
        text = text.replace("mov al, ds:[0xC000]", "mov ebx, 0xC000\n mov al, [rbx]")
    guest = vm.prepare_code(text, unmapped=[(base + 0xC000, 0x1000)])
    taken = guest.next_exit()
    check(taken.reason is not ExitReason.IO, f"{taken.reason_name} is another exit")
    before = guest.state()
    with expect_errno(errno.EINVAL):
        guest.vcpu.assist_io()
    check.equal(guest.state(), before, "the vCPU's state")


@requirement("L-IO-1")
@modes(Mode.LONG64)
def test_memory_assist_does_not_take_it(vm: VirtualMachine) -> None:
    """nvmm_assist_mem after an IO exit fails with EINVAL; nvmm_assist_io still does it."""
    guest = at(vm, "out_dx_1")
    assert isinstance(guest.next_exit(), IoExit)
    with expect_errno(errno.EINVAL):
        guest.vcpu.assist_mem()
    guest.vcpu.assist_io()
    assert accesses(guest) == 1


@requirement("K-IO-5", "L-IO-14")
@modes(*SOME)
@pytest.mark.parametrize("label", ["out_dx_2", "in_dx_4"])
def test_unassisted_instruction_exits_again(vm: VirtualMachine, label: str) -> None:
    """Where the caller runs on without the assist the same instruction exits again."""
    guest = at(vm, label)
    first, second = guest.next_exit(), guest.next_exit()
    assert isinstance(first, IoExit)
    assert isinstance(second, IoExit)
    check.equal((second.port, second.npc), (first.port, first.npc), "exit")
    check.equal(accesses(guest), 1, "accesses")


@requirement("L-IO-2", "L-ST-5")
@modes(*SOME)
def test_changes_are_seen_before_the_next_run(vm: VirtualMachine) -> None:
    """What the assist has changed getstate gives before the next run."""
    guest = at(vm, "in_dx_1", rax=0x1122_3344)
    guest.next_exit()
    guest.vcpu.assist_io()
    guest.vcpu.getstate(StateFlag.GPRS)
    gpr = guest.state().gpr
    check.equal(gpr[Gpr.RAX], 0x1122_335A, "RAX")
    check.equal(gpr[Gpr.RIP], guest.symbol("in_dx_1_npc"), "RIP")


@requirement("L-IO-2")
@modes(*SOME)
def test_only_general_registers_are_changed(vm: VirtualMachine) -> None:
    """The assist changes general registers, and nothing else of the state."""
    form = Form(True, 2, vm.mode.bits)
    guest = at(vm, form.label, rdi=BUFFER, rcx=5)
    guest.next_exit()
    before = guest.state()
    guest.vcpu.assist_io()
    after = guest.state()
    for part in ("seg", "cr", "dr", "fpu"):
        check.equal(getattr(after, part), getattr(before, part), part)
    changed = {gpr for gpr in Gpr if after.gpr[gpr] != before.gpr[gpr]}
    check.equal(sorted(changed), sorted((Gpr.RCX, Gpr.RDI, Gpr.RIP)), "registers")


@requirement("L-IO-2", "L-ST-3")
@modes(*SOME)
def test_state_set_by_the_caller_counts(vm: VirtualMachine) -> None:
    """Registers that the caller sets between the exit and the assist are what it uses."""
    guest = at(vm, "out_dx_4", rax=0x1111_1111)
    guest.next_exit()
    guest.registers.gpr[Gpr.RAX] = 0x2222_2222
    guest.state()
    guest.vcpu.assist_io()
    assert [access.value for access in guest.run().ports] == [0x2222_2222]


@requirement("L-IO-6")
@modes(*SOME)
@pytest.mark.parametrize("direction", ["ins", "outs"])
def test_count_of_zero_set_by_the_caller(vm: VirtualMachine, direction: str) -> None:
    """With a count of 0 the assist moves nothing, and RIP goes on (BH-9); it looks neither at
    the segment nor at memory."""
    form = Form(direction == "ins", 1, vm.mode.bits)
    guest = at(vm, form.label, rsi=BUFFER, rdi=BUFFER, rcx=3)
    guest.next_exit()
    guest.registers.gpr[Gpr.RCX] = 0
    guest.state()
    guest.vcpu.assist_io()
    gpr = guest.state().gpr
    check.equal(gpr[Gpr.RIP], guest.symbol(f"{form.label}_npc"), "RIP")
    check.equal((gpr[form.index], gpr[Gpr.RCX]), (BUFFER, 0), "index and count")
    check.equal(accesses(guest), 0, "accesses")


@requirement("L-IO-8")
@modes(*EVERY)
@pytest.mark.parametrize("segment", ["", "es", "cs", "ss", "ds", "fs", "gs"])
def test_segment_that_the_exit_does_not_name(vm: VirtualMachine, segment: str) -> None:
    """Where the exit names no segment (-1) OUTS reads from that of its prefix all the same
    (BH-8)."""
    form = Form(False, 1, vm.mode.bits, False, segment)
    guest = at(vm, form.label, rsi=0x6000)
    used = form.used_segment
    if vm.mode is Mode.LONG64 and used not in (Segment.FS, Segment.GS):
        used = Segment.DS
    for n, name in enumerate((Segment.ES, Segment.DS, Segment.FS, Segment.GS)):
        seg = guest.registers.seg[name]
        if vm.mode is Mode.LONG64 and name in (Segment.ES, Segment.DS):
            continue
        if vm.mode is not Mode.COMPAT32:
            seg.base += 0x1000 * n
            seg.selector = seg.base >> 4 if vm.mode is Mode.REAL16 else seg.selector
    for n in range(5):
        base = guest.registers.seg[Segment.SS].base
        guest.write(base + 0x6000 + 0x1000 * n, bytes([0x30 + n]))
    wanted = guest.memory(guest.registers.seg[used].base + 0x6000, 1)[0]
    guest.next_exit()
    guest.vcpu.put_io_segment(None)
    guest.vcpu.assist_io()
    assert [access.value for access in guest.run().ports] == [wanted]


@requirement("L-IO-8")
@modes(*EVERY)
@pytest.mark.parametrize("label", ["outs_late_prefix", "outs_last_prefix"])
def test_unnamed_segment_after_other_prefixes(vm: VirtualMachine, label: str) -> None:
    """Where the exit names no segment, the last of several prefixes counts, however late."""
    guest = at(vm, label, rsi=0x3000)
    for n, name in enumerate((Segment.FS, Segment.GS), 1):
        seg = guest.registers.seg[name]
        seg.base += 0x1000 * n
        seg.selector = seg.base >> 4 if vm.mode is Mode.REAL16 else seg.selector
    start = guest.registers.seg[Segment.DS].base + 0x3000
    for n in range(3):
        guest.write(start + 0x1000 * n, bytes([0x30 + n]))
    guest.next_exit()
    guest.vcpu.put_io_segment(None)
    guest.vcpu.assist_io()
    wanted = 0x32 if label == "outs_last_prefix" else 0x31
    assert [access.value for access in guest.run().ports] == [wanted]


@requirement("L-IO-8")
@modes(*SOME)
@pytest.mark.parametrize("segment", ["", "fs"])
def test_ins_needs_no_segment(vm: VirtualMachine, segment: str) -> None:
    """Where the exit names no segment INS writes to ES."""
    form = Form(True, 1, vm.mode.bits, False, segment)
    guest = at(vm, form.label, rdi=0x6000)
    guest.registers.seg[Segment.FS].base += 0x1000
    start = guest.registers.seg[Segment.ES].base + 0x6000
    guest.next_exit()
    guest.vcpu.put_io_segment(None)
    guest.vcpu.assist_io()
    assert guest.memory(start, 1) == b"\x5a"


@requirement("L-IO-16", "L-IO-2")
@modes(Mode.REAL16, Mode.PROT32)
@pytest.mark.parametrize("direction", ["ins", "outs"])
def test_refused_and_then_allowed(vm: VirtualMachine, direction: str) -> None:
    """An assist that failed has done nothing: once the segment is right the same one is done."""
    form = Form(direction == "ins", 2, vm.mode.bits)
    guest = at(vm, form.label, rsi=BUFFER, rdi=BUFFER, rcx=3)
    name = form.used_segment
    limit = guest.registers.seg[name].limit
    flags = guest.registers.seg[name].flags
    guest.registers.seg[name].limit = 0xFFF
    guest.registers.seg[name].flags = flags & ~0x800000
    guest.next_exit()
    before = guest.state()
    with expect_errno(errno.EFAULT):
        guest.vcpu.assist_io()
    check.equal(guest.state(), before, "state after it")
    guest.registers.seg[name].limit = limit
    guest.registers.seg[name].flags = flags
    guest.state()
    guest.vcpu.assist_io()
    run = guest.run()
    check.equal(len(run.ports), 3, "accesses")
    check.equal(run.registers.gpr[form.index], BUFFER + 6, "index")


@requirement("L-IO-11", level=Level.INFO)
@modes(Mode.LONG64)
@pytest.mark.parametrize("size", [1, 2, 4])
@pytest.mark.parametrize("direction", ["ins", "outs"])
def test_bytes_of_one_call(vm: VirtualMachine, direction: str, size: int) -> None:
    """One call of the assist moves up to 32 bytes of a REP INS or REP OUTS."""
    form = Form(direction == "ins", size, vm.mode.bits)
    guest = at(vm, form.label, rsi=BUFFER, rdi=BUFFER, rcx=100)
    guest.next_exit()
    guest.vcpu.assist_io()
    assert (100 - guest.state().gpr[Gpr.RCX]) * size == 32


@requirement("L-IO-12", level=Level.INFO)
@modes(Mode.LONG64)
@pytest.mark.parametrize("direction", ["ins", "outs"])
def test_elements_of_one_call_downwards(vm: VirtualMachine, direction: str) -> None:
    """Downwards one call of the assist moves one element."""
    form = Form(direction == "ins", 1, vm.mode.bits)
    guest = at(vm, form.label, rsi=BUFFER, rdi=BUFFER, rcx=100, rflags=0x402)
    guest.next_exit()
    guest.vcpu.assist_io()
    assert guest.state().gpr[Gpr.RCX] == 99


@requirement("K-COMM-6", "L-ST-6")
@modes(*EVERY)
def test_registers_come_with_the_exit(vm: VirtualMachine) -> None:
    """An IO exit brings the general registers, so that the assist need not ask for them."""
    guest = vm.prepare_code("    mov ebx, 0x2345\n    mov edx, 0x1234\nout_insn:\n    out dx, al\n")
    assert isinstance(guest.next_exit(), IoExit)
    gpr = guest.vcpu.gpr_bytes()
    check.equal(int.from_bytes(gpr[8 * Gpr.RBX :][:8], "little"), 0x2345, "RBX")
    check.equal(int.from_bytes(gpr[8 * Gpr.RIP :][:8], "little"), guest.symbol("out_insn"), "RIP")
