# SPDX-License-Identifier: BSD-2-Clause
"""A machine that is saved between two exits, destroyed, built anew and restored goes on as if
nothing had happened: libnvmm(3) nvmm_vcpu_getstate and nvmm_vcpu_setstate tell, and take, the whole
state of a vCPU.  Compared are console, ports, registers and memory with a run that nobody has
disturbed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from raw_bench import START, RawGuest, enter

from nvmmconf.suite import (
    Cr,
    Dr,
    ExitReason,
    Gpr,
    IoExit,
    Libnvmm,
    Mmio,
    Mode,
    Msr,
    PreparedGuest,
    Segment,
    StateFlag,
    Stop,
    Vcpu,
    VirtualMachine,
    VmRun,
    check,
    modes,
    requirement,
)

Make = Callable[[], PreparedGuest]

RF = 1 << 16
"""Set where the kernel had to fill in a page under an instruction that exits (SDM 3C 27.3.3), which
it may have to in a new machine only."""

all_modes = modes(Mode.REAL16, Mode.PROT32, Mode.COMPAT32, Mode.LONG64)
ids = requirement("A-SYNC-3", "A-SYNC-1", "L-ST-1", "L-ST-2", "K-RUN-13")


def said(runs: list[VmRun]) -> dict[str, Any]:
    """What came of a guest that ran in several machines, one after the other."""
    last = runs[-1]
    registers = last.registers
    return {
        "end": (last.reason, last.status),
        "console": "".join(run.console for run in runs),
        "ports": [port for run in runs for port in run.ports],
        "devices": [access for run in runs for access in run.mmio],
        "guest's words": [event for run in runs for event in run.events],
        "general registers": dict(registers.gpr) | {Gpr.RFLAGS: registers.gpr[Gpr.RFLAGS] & ~RF},
        "segments": dict(registers.seg),
        "control registers": dict(registers.cr),
        "debug registers": dict(registers.dr),
        "MSRs": {name: value for name, value in registers.msr.items() if name is not Msr.TSC},
        "FPU": registers.fpu,
        "memory": last.memory(0, 2 << 20),
    }


def moved_at_every_pass(
    vm: VirtualMachine, make: Make, least: int, present: list[PreparedGuest] | None = None
) -> VmRun:
    """Hold each run that is moved once, at another pass each time, against an undisturbed one.

    The machine after a move is put at the end of `present`.  Returns the undisturbed run.
    """
    plain = make()
    undisturbed = plain.run()
    wanted = said([undisturbed])
    for pass_ in range(1, 1000):
        guest = make()
        before = guest.run(passes=pass_)
        if before.reason is not Stop.STOPPED:
            check(pass_ > least, f"{pass_ - 1} moves, {least} at the least")
            return undisturbed
        guest = vm.moved(guest)
        if present is not None:
            present.append(guest)
        found = said([before, guest.run()])
        for what, one in wanted.items():
            if what == "memory":
                check(found[what] == one, f"memory, moved at pass {pass_}")
            else:
                check.equal(found[what], one, f"{what}, moved at pass {pass_}")
        guest.close()
    raise AssertionError("it does not end")


# ---- the guests of this project ----


@ids
@pytest.mark.parametrize("name", ["hello", "hlt", "port_io", "shutdown", "ud"])
@modes(Mode.REAL16, Mode.PROT32, Mode.LONG64)
def test_guest_is_moved(vm: VirtualMachine, name: str) -> None:
    """A guest that is moved to a new machine at any pass of the loop ends as one that is not."""
    moved_at_every_pass(vm, lambda: vm.prepare(name), 0)


@ids
@modes(Mode.REAL16)
@pytest.mark.parametrize("cache", [0, 0x40000000])
def test_guest_that_enters_long_mode_is_moved(vm: VirtualMachine, cache: int) -> None:
    """So does one that goes from real mode to 64-bit mode."""
    moved_at_every_pass(vm, lambda: vm.prepare("to_long", cache=cache), 0)


# ---- what there is to be lost ----

PARTS = {
    "fpu": """
    fninit
    fld1
    fldpi
    out     0x70, al
    movd    xmm0, eax
    out     0x70, al
    fxch
    fst     dword ptr [bx]
    out     0x70, al
    fnstsw  ax
    movd    ecx, xmm0
""",
    "flags": """
    stc
    out     0x70, al
    adc     ax, 0
    std
    out     0x70, al
    stosb
    out     0x70, al
    cmp     al, al
    out     0x70, al
    setz    cl
""",
    "strings": """
    mov     cx, 5
back:
    mov     dx, 0x70
    movzx   eax, cx
    out     dx, ax
    loop    back
    mov     dx, 0x71
    in      ax, dx
""",
    "msrs": """
    mov     ecx, 0x174
    mov     eax, 0x1230
    xor     edx, edx
    wrmsr
    out     0x70, al
    rdmsr
    mov     ebx, eax
    mov     ecx, 0x1B
    rdmsr
    out     0x70, al
    mov     ecx, 0x277
    rdmsr
""",
    "debug": """
    mov     eax, 0x1234
    {{ 'mov dr2, rax' if bits == 64 else 'mov dr2, eax' }}
    out     0x70, al
    {{ 'mov rcx, dr2' if bits == 64 else 'mov ecx, dr2' }}
    {{ 'mov cr2, rax' if bits == 64 else 'mov cr2, eax' }}
    out     0x70, al
    {{ 'mov rdx, cr2' if bits == 64 else 'mov edx, cr2' }}
""",
    "segments": """
    push    ds
    pop     fs
    out     0x70, al
    push    fs
    pop     gs
    out     0x70, al
    push    gs
    pop     {{ cx }}
    out     0x70, al
""",
    "stack": """
    call    one
    out     0x70, al
    jmp     end
one:
    push    {{ bp }}
    out     0x70, al
    pop     {{ bp }}
    ret
end:
""",
}


@ids
@pytest.mark.parametrize("part", sorted(PARTS))
@modes(Mode.REAL16, Mode.PROT32, Mode.LONG64)
def test_nothing_is_lost(vm: VirtualMachine, part: str) -> None:
    """What a guest has in its registers and in memory between two exits is there after a move."""
    code = PARTS[part]
    if vm.mode is not Mode.REAL16:
        code = code.replace("[bx]", "[{{ bx }}]")
    else:
        code = code.replace("    movd    xmm0, eax\n", "").replace("    movd    ecx, xmm0\n", "")
    if vm.mode is Mode.LONG64:
        code = code.replace(
            "push    ds\n    pop     fs\n", "mov     eax, ds\n    mov     fs, eax\n"
        )
    source = f"    mov {{{{ bx }}}}, 0x8000\n    mov {{{{ di }}}}, 0x8100\n{code}    EXIT 3\n"

    def make() -> PreparedGuest:
        return vm.prepare_code(source, ports={0x70: 0, 0x71: 0x55AA})

    check.equal(moved_at_every_pass(vm, make, 2).status, 7, "status")


@ids
@all_modes
def test_devices_in_memory_are_moved(vm: VirtualMachine) -> None:
    """Emulated accesses to memory, before and after a move, are done once each."""
    at = 0x8000 if vm.mode is Mode.REAL16 else 0x90000
    source = f"""
    mov     {{{{ bx }}}}, {at:#x}
    mov     {{{{ di }}}}, {at:#x}
    mov     ax, ds
    mov     es, ax
    mov     eax, 0x11223344
    mov     [{{{{ bx }}}}], eax
    or      dword ptr [{{{{ bx }}}}], 0x80
    mov     cx, [{{{{ bx }}}} + 2]
    add     {{{{ di }}}}, 8
    cld
    stosb
    stosw
    mov     dl, [{{{{ bx }}}} + 8]
    EXIT    2
"""
    gpa = 0x28000 if vm.mode is Mode.REAL16 else at

    def make() -> PreparedGuest:
        return vm.prepare_code(source, mmio=[Mmio(gpa)])

    check.equal(moved_at_every_pass(vm, make, 5).status, 5, "status")


@requirement("A-SYNC-3", "A-EVT-2", "A-PRE-4", "A-EXIT-6", "L-ST-2")
@modes(Mode.REAL16)
def test_interrupts_are_moved(vm: VirtualMachine) -> None:
    """An interrupt that waits for IF, for the end of a shadow, or that ends a HLT comes once,
    whenever the machine is moved."""
    source = """
    xor     ax, ax
    mov     es, ax
    mov     word ptr es:[0x41 * 4], offset handler
    mov     es:[0x41 * 4 + 2], cs
    in      al, 0x70            # an interrupt; IF is clear
    out     0x71, al
    sti
    out     0x71, al            # within the shadow
    nop
    cli
    in      al, 0x70
    out     0x71, al
    sti
    hlt                         # what is pending ends it
    cli
    EXIT    4
handler:
    inc     bx
    out     0x72, al
    iret
"""
    present: list[PreparedGuest] = []

    def raise_line(size: int) -> int:
        present[-1].interrupt(0x41)
        return 0

    def make() -> PreparedGuest:
        present.append(vm.prepare_code(source, ports={0x71: 0, 0x72: 0, 0x70: raise_line}))
        return present[-1]

    run = moved_at_every_pass(vm, make, 4, present)
    check.equal((run.status, run.registers.gpr[Gpr.RBX]), (9, 2), "status and interrupts")


# ---- several vCPUs ----


@requirement("A-SYNC-3", "L-ST-2", "K-VCPU-3")
@modes(Mode.PROT32, Mode.LONG64)
def test_all_vcpus_are_moved(vm: VirtualMachine) -> None:
    """A machine of several vCPUs that all halt is moved with all of them."""
    source = """
    mov     ebx, 0x1000
    cli
    hlt
    add     ebx, ebp
    hlt
"""
    guest = vm.prepare_code(source, vcpus=3)
    for index in (1, 2):
        guest.start(index, "start")
    for index in range(3):
        guest.cpus[index].gpr[Gpr.RBP] = 0x10 + index
    run = guest.run()
    check.equal(run.reason, Stop.HALTED, "end")
    moved = vm.moved(guest)
    again = moved.run()
    check.equal(again.reason, Stop.HALTED, "restored halted")
    check.equal([cpu.gpr[Gpr.RBX] for cpu in again.cpus], [0x1000] * 3, "EBX")
    last = again.resume()
    check.equal([cpu.gpr[Gpr.RBX] for cpu in last.cpus], [0x1010, 0x1011, 0x1012], "EBX then")


# ---- by libnvmm alone ----

# xor ax,ax; back: inc ax; out 0x70,ax; add [0x300],ax; cmp ax,6; jb back; fld1; hlt; inc cx; hlt
CODE = bytes.fromhex("31c0 40 e770 01060003 83f806 72f4 d9e8 f4 41 f4")


@contextmanager
def _copy(library: Libnvmm, guest: RawGuest) -> Iterator[RawGuest]:
    """Another machine with what `guest` has in memory and registers."""
    guest.vcpu.getstate(StateFlag.ALL)
    state, memory = guest.vcpu.state_bytes(), bytes(guest.memory.data)
    with RawGuest(library, b"\xf4") as other:
        other.memory.data[:] = memory
        other.vcpu.put_state_bytes(state)
        other.vcpu.setstate(StateFlag.ALL)
        yield other


def _go_on(guest: RawGuest, wanted: int) -> list[object]:
    """Run `guest` for `wanted` exits."""
    seen: list[object] = []
    while len(seen) < wanted:
        taken = enter(guest.vcpu)
        if isinstance(taken, IoExit):
            seen.append((taken.port, guest.rax()))
            guest.vcpu.state.gprs[Gpr.RIP] = taken.npc
            guest.vcpu.setstate(StateFlag.GPRS)
        else:
            seen.append(taken.reason)
    return seen


def _all(guest: RawGuest) -> bytes:
    """All that getstate tells, without the TSC."""
    guest.vcpu.getstate(StateFlag.ALL)
    guest.vcpu.state.msrs[Msr.TSC] = 0
    return guest.vcpu.state_bytes() + bytes(guest.memory.data)


@requirement("L-ST-1", "L-ST-2", "K-RUN-13", "K-COMM-3")
@pytest.mark.parametrize("after", range(9))
def test_state_goes_into_another_machine(library: Libnvmm, after: int) -> None:
    """What getstate tells of a vCPU after any of its exits, given to one of another machine with
    the same memory, goes on as the first one does."""
    with RawGuest(library, CODE) as guest:
        check.equal(len(_go_on(guest, after)), after, "exits before")
        with _copy(library, guest) as other:
            wanted = _go_on(guest, 8 - after)
            check.equal(_go_on(other, 8 - after), wanted, "exits then")
            check.equal(_all(other), _all(guest), "state at the end")


@requirement("L-ST-1", "L-ST-2", "K-SET-1")
@pytest.mark.parametrize("part", [one for one in StateFlag if one.bit_count() == 1])
def test_one_part_is_another_machines(library: Libnvmm, part: StateFlag) -> None:
    """A part of the state alone is carried over and leaves the others as they were."""
    with RawGuest(library, b"\xf4\xf4") as guest:
        _colour(guest.vcpu)
        given = _parts(guest.vcpu)
        check.equal(enter(guest.vcpu).reason, ExitReason.HALTED, "exit")
        guest.vcpu.getstate(StateFlag.ALL)
        for one in (StateFlag.SEGS, StateFlag.DRS, StateFlag.MSRS):
            check.equal(_parts(guest.vcpu)[one], given[one], f"{one.name} as they were set")
        state = guest.vcpu.state_bytes()
        with RawGuest(library, b"\xf4\xf4\xf4") as other:
            check.equal(enter(other.vcpu).reason, ExitReason.HALTED, "exit of the other")
            other.vcpu.getstate(StateFlag.ALL)
            before = _parts(other.vcpu)
            other.vcpu.put_state_bytes(state)
            other.vcpu.setstate(part)
            check.equal(enter(other.vcpu).reason, ExitReason.HALTED, "then")
            guest.vcpu.getstate(StateFlag.ALL)
            other.vcpu.getstate(StateFlag.ALL)
            mine, found = _parts(guest.vcpu), _parts(other.vcpu)
            for one in found:
                if one != StateFlag.GPRS:  # RIP has gone on
                    wanted = mine if one == part else before
                    check.equal(found[one], wanted[one], one.name or "")


def _colour(vcpu: Vcpu) -> None:
    """Values in each part that are not those of reset."""
    vcpu.getstate(StateFlag.ALL)
    state = vcpu.state
    state.segs[Segment.FS].selector, state.segs[Segment.FS].base = 0x123, 0x1230
    for gpr in Gpr:
        if gpr not in (Gpr.RIP, Gpr.RFLAGS, Gpr.RSP):
            state.gprs[gpr] = 0x4567_0000_0000 + gpr
    state.crs[Cr.CR2] = 0x89AB
    for dr in (Dr.DR0, Dr.DR1, Dr.DR2, Dr.DR3):
        state.drs[dr] = 0xCDE0 + dr
    state.msrs[Msr.STAR] = 0x1234567890
    state.intr.nmi_window_exiting = 0
    state.intr.int_window_exiting = 1
    vcpu.setstate(StateFlag.ALL)


def _parts(vcpu: Vcpu) -> dict[StateFlag, object]:
    state = vcpu.state
    return {
        StateFlag.SEGS: [
            (state.segs[one].selector, state.segs[one].base, state.segs[one].limit)
            for one in Segment
        ],
        StateFlag.GPRS: [state.gprs[one] for one in Gpr],
        StateFlag.CRS: [state.crs[one] for one in Cr],
        StateFlag.DRS: [state.drs[one] for one in Dr],
        StateFlag.MSRS: [state.msrs[one] for one in Msr if one is not Msr.TSC],
        StateFlag.INTR: (state.intr.int_shadow, state.intr.int_window_exiting),
    }


@requirement("L-ST-2", "K-INT-1")
def test_window_is_open_in_another_machine(library: Libnvmm) -> None:
    """A window that was asked for in one machine opens in the one that its state is given to."""
    code = b"\xe7\x70\xfb\x90\x90\xf4"  # out; sti; nop; nop; hlt
    with RawGuest(library, code) as guest:
        taken = enter(guest.vcpu)
        assert isinstance(taken, IoExit)
        guest.vcpu.getstate(StateFlag.ALL)
        guest.vcpu.state.gprs[Gpr.RIP] = taken.npc
        guest.vcpu.state.intr.int_window_exiting = 1
        guest.vcpu.setstate(StateFlag.GPRS | StateFlag.INTR)
        with _copy(library, guest) as other:
            check.equal(enter(other.vcpu).reason, ExitReason.INT_READY, "exit")
            check.equal(other.gpr(Gpr.RIP), START + 4, "RIP")


@requirement("L-ST-2", "K-MEM-22")
@pytest.mark.parametrize("count", [1, 5])
def test_machine_after_machine(library: Libnvmm, count: int) -> None:
    """A state is carried on through many machines, all but the last of them destroyed."""
    with RawGuest(library, CODE) as guest:
        wanted = _go_on(guest, 8)
        guest.again()
        guest.memory.data[0x300:0x302] = b"\0\0"
        seen = []
        present = guest
        copies = []
        for _ in range(count):
            seen += _go_on(present, 1)
            copy = _copy(library, present)
            present = copy.__enter__()
            copies.append(copy)
        seen += _go_on(present, 8 - count)
        check.equal(seen, wanted, "exits")
        for copy in reversed(copies):
            copy.__exit__(None, None, None)
