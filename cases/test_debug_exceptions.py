# SPDX-License-Identifier: BSD-2-Clause
"""Debug exceptions: SDM 3B 17.2 and 17.3 (breakpoints, single step, general detect, DR6), SDM 3A
6.8.3 (MOV SS).  NVMM leaves all of it to the guest; what the kernel, an assist or the accelerator
does in the processor's place has to trap as the processor would."""

from __future__ import annotations

import pytest

from nvmmconf.suite import (
    Cr,
    Dr,
    EventType,
    ExitReason,
    Gpr,
    Mmio,
    Mode,
    Stubs,
    VirtualMachine,
    check,
    modes,
    requirement,
)

TF, IF, RF = 1 << 8, 1 << 9, 1 << 16
DB = 1
BS, BD = 1 << 14, 1 << 13
INIT_DR6 = 0xFFFF0FF0
EVERY = (Mode.REAL16, Mode.PROT32, Mode.COMPAT32, Mode.LONG64)
DATA = 0x5000
WRITE, ACCESS = 1, 3
LENGTH_BITS = {1: 0, 2: 1, 4: 3, 8: 2}


def _dr7(number: int, when: int = 0, length: int = 1, *, local: bool = True) -> int:
    enable = 1 << (2 * number + (not local))
    return 0x400 | enable | (when | LENGTH_BITS[length] << 2) << (16 + 4 * number)


def _linear(stubs: Stubs, label: str) -> int:
    return stubs.guest.image.linear(label)


def _step(vm: VirtualMachine, insn: str, **layout: object) -> Stubs:
    stubs = Stubs(vm, f"    {insn}\nafter:\n    nop\n    nop\n    hlt\n", **layout)  # type: ignore[arg-type]
    stubs.registers.gpr[Gpr.RFLAGS] |= TF
    return stubs


def _stepped(stubs: Stubs, where: str = "after") -> None:
    frame = stubs.take()
    check.equal((frame.vector, frame.error), (DB, None), "event")
    check.equal(frame.ip, stubs.symbol(where), "return address")
    check.equal(frame.flags & TF, TF, "TF in the flags pushed")
    state = stubs.guest.state()
    check.equal(state.dr[Dr.DR6], INIT_DR6 | BS, "DR6")
    check.equal(state.gpr[Gpr.RFLAGS] & TF, 0, "TF in the handler")


# ---- single step ----------------------------------------------------------------


@requirement("K-INK-12")
@modes(Mode.REAL16, Mode.LONG64)
@pytest.mark.parametrize("insn", ["nop", "inc eax", "xchg eax, ecx", "jmp after", "cld", "pushf"])
def test_single_step_traps_after_an_instruction(vm: VirtualMachine, insn: str) -> None:
    """With TF set #DB comes after one instruction, with DR6.BS; its handler begins without TF."""
    stubs = _step(vm, insn)
    if insn == "pushf":
        stubs.top -= 2 if vm.mode is Mode.REAL16 else 4 if vm.mode is not Mode.LONG64 else 8
    _stepped(stubs)
    assert stubs.exits() == [ExitReason.HALTED]


@requirement("K-INK-12")
@modes(Mode.REAL16, Mode.LONG64)
def test_popf_that_sets_tf_is_not_stepped(vm: VirtualMachine) -> None:
    """The first trap comes after the instruction behind the POPF that sets TF."""
    stubs = Stubs(vm, "    push 0x102\n    popf\n    nop\nafter:\n    nop\n    hlt\n")
    _stepped(stubs)


@requirement("K-INK-12")
@modes(Mode.REAL16, Mode.LONG64)
def test_popf_that_clears_tf_is_stepped(vm: VirtualMachine) -> None:
    """The POPF that clears TF is still trapped, as TF was set when it began."""
    stubs = Stubs(vm, "    popf\nafter:\n    nop\n    hlt\n")
    stubs.registers.gpr[Gpr.RFLAGS] |= TF
    word = 2 if vm.mode is Mode.REAL16 else 8
    stubs.registers.gpr[Gpr.RSP] -= word
    base = 0x20000 if vm.mode is Mode.REAL16 else 0
    stubs.guest.write(base + stubs.top - word, (2).to_bytes(word, "little"))
    frame = stubs.take()
    check.equal((frame.vector, frame.ip), (DB, stubs.symbol("after")), "event")
    check.equal(frame.flags & TF, 0, "TF in the flags pushed")


@requirement("K-INK-12")
@modes(Mode.REAL16, Mode.PROT32, Mode.LONG64)
def test_rep_traps_after_each_iteration(vm: VirtualMachine) -> None:
    """A repeated string instruction traps after each iteration, with RIP still on it."""
    stubs = Stubs(
        vm, "    mov ecx, 3\n    mov edi, 0x5000\nrep_insn:\n    rep stosb\nafter:\n    hlt\n"
    )
    stubs.registers.gpr |= {
        Gpr.RIP: stubs.symbol("rep_insn"),
        Gpr.RCX: 3,
        Gpr.RDI: DATA,
        Gpr.RFLAGS: 2 | TF,
    }
    frame = stubs.take()
    check.equal((frame.vector, frame.ip), (DB, stubs.symbol("rep_insn")), "event")
    check.equal(stubs.guest.state().gpr[Gpr.RCX], 2, "count")


@requirement("K-INK-12")
@modes(*EVERY)
def test_int_n_is_not_stepped(vm: VirtualMachine) -> None:
    """INT n clears TF: its handler's first instruction is not trapped."""
    stubs = _step(vm, "int 0x41")
    frame = stubs.take()
    assert frame.vector == 0x41
    assert frame.flags & TF


@requirement("K-INK-12")
@modes(Mode.REAL16, Mode.PROT32, Mode.LONG64)
def test_mov_ss_puts_the_trap_off(vm: VirtualMachine) -> None:
    """After MOV SS the single-step trap waits for the next instruction."""
    stubs = Stubs(vm, "    nop\nfrom:\n    mov ss, ecx\n    nop\nafter:\n    nop\n    hlt\n")
    selector = 0x2000 if vm.mode is Mode.REAL16 else 0x10
    stubs.registers.gpr |= {
        Gpr.RIP: stubs.symbol("from"),
        Gpr.RCX: selector,
        Gpr.RFLAGS: 2 | TF,
    }
    _stepped(stubs)


@requirement("K-INK-13", "K-INK-12")
@modes(Mode.REAL16, Mode.LONG64)
@pytest.mark.parametrize("insn", ["cpuid", "mov {{ ax }}, cr0", "wbinvd", "rdtsc"])
def test_instruction_of_the_kernel_is_stepped(vm: VirtualMachine, insn: str) -> None:
    """An instruction that the kernel may carry out traps as every other does."""
    _stepped(_step(vm, insn.replace("{{ ax }}", "{{ 'rax' if bits == 64 else 'eax' }}")))


@requirement("K-INK-13", "L-IO-18")
@modes(Mode.REAL16, Mode.LONG64)
@pytest.mark.parametrize("insn", ["out 0x40, al", "in al, 0x40", "outsb", "insb"])
def test_assisted_io_is_stepped(vm: VirtualMachine, insn: str) -> None:
    """I/O that nvmm_assist_io() carries out traps as every other instruction does (BH-30e)."""
    stubs = _step(vm, insn, ports={0x40: 0})
    stubs.registers.gpr |= {Gpr.RDX: 0x40, Gpr.RSI: DATA, Gpr.RDI: DATA}
    _stepped(stubs)


@requirement("K-INK-13", "L-IO-18")
@modes(Mode.PROT32, Mode.LONG64)
@pytest.mark.parametrize("access", ["load", "store"])
def test_assisted_memory_is_stepped(vm: VirtualMachine, access: str) -> None:
    """An access that nvmm_assist_mem() carries out traps as every other does (BH-30e)."""
    insn = "mov al, [{{ bx }}]" if access == "load" else "mov [{{ bx }}], al"
    stubs = _step(vm, insn, mmio=(Mmio(0x60000),))
    stubs.registers.gpr[Gpr.RBX] = 0x60000
    _stepped(stubs)


@requirement("K-INK-13", "K-HLT-5")
@modes(Mode.REAL16, Mode.LONG64)
def test_hlt_is_stepped(vm: VirtualMachine) -> None:
    """HLT with TF set: #DB comes after it when the vCPU goes on."""
    stubs = _step(vm, "hlt")
    run = stubs.run()
    if run.rip == stubs.symbol("after"):
        run = stubs.run()
    frame = stubs.frame()
    assert (frame.vector, frame.ip) == (DB, stubs.symbol("after"))


@requirement("K-INJ-7", "K-INJ-8")
@modes(*EVERY)
def test_interrupt_with_tf_set(vm: VirtualMachine) -> None:
    """An interrupt pushes TF as it is, and its handler is not trapped."""
    stubs = Stubs(vm, "    nop\n    hlt\n")
    stubs.registers.gpr[Gpr.RFLAGS] |= TF | IF
    stubs.guest.inject(EventType.INTR, 0x41)
    frame = stubs.take()
    check.equal((frame.vector, frame.ip), (0x41, stubs.symbol("here")), "event")
    check.equal(frame.flags, 2 | TF | IF, "flags pushed")


# ---- INT1 -----------------------------------------------------------------------


@requirement("K-INK-12")
@modes(*EVERY)
def test_int1_traps_and_leaves_dr6(vm: VirtualMachine) -> None:
    """INT1 raises #DB as a trap, and sets nothing in DR6."""
    stubs = Stubs(vm, "    .byte 0xF1\nafter:\n    hlt\n")
    frame = stubs.take()
    check.equal((frame.vector, frame.ip), (DB, stubs.symbol("after")), "event")
    check.equal(frame.flags, 2, "flags")
    check.equal(stubs.guest.state().dr[Dr.DR6], INIT_DR6, "DR6")


@requirement("K-INK-12")
@modes(Mode.PROT32, Mode.LONG64)
def test_int1_looks_at_no_gate_privilege(vm: VirtualMachine) -> None:
    """INT1 at CPL 3 goes through a gate of DPL 0."""
    stubs = Stubs(vm, "    .byte 0xF1\nafter:\n", user=True)
    frame = stubs.take()
    assert (frame.vector, frame.ip) == (DB, stubs.symbol("after"))


# ---- breakpoints on instructions ------------------------------------------------


@requirement("K-SET-24", "K-INK-12")
@modes(Mode.REAL16, Mode.LONG64)
@pytest.mark.parametrize("local", [True, False])
@pytest.mark.parametrize("number", range(4))
def test_instruction_breakpoint(vm: VirtualMachine, number: int, local: bool) -> None:
    """A breakpoint that userland set on an instruction faults before it, and DR6 names it."""
    stubs = Stubs(vm, "    nop\nhit:\n    nop\n    hlt\n")
    stubs.registers.dr[Dr(number)] = _linear(stubs, "hit")
    stubs.registers.dr[Dr.DR7] = _dr7(number, local=local)
    frame = stubs.take()
    check.equal((frame.vector, frame.error), (DB, None), "event")
    check.equal(frame.ip, stubs.symbol("hit"), "return address")
    check.equal(stubs.guest.state().dr[Dr.DR6] & 0xE00F, 1 << number, "DR6")
    check.equal(stubs.exits(), [ExitReason.HALTED], "exits")


@requirement("K-INK-12")
@modes(Mode.PROT32, Mode.LONG64)
def test_rf_holds_an_instruction_breakpoint_off(vm: VirtualMachine) -> None:
    """With RF set the breakpoint on the next instruction is passed over, once."""
    stubs = Stubs(vm, "    nop\nhit:\n    nop\n    hlt\nafter:\n")
    stubs.registers.dr[Dr.DR0] = _linear(stubs, "here")
    stubs.registers.dr[Dr.DR1] = _linear(stubs, "hit")
    stubs.registers.dr[Dr.DR7] = _dr7(0) | _dr7(1)
    stubs.registers.gpr[Gpr.RFLAGS] |= RF
    frame = stubs.take()
    check.equal((frame.vector, frame.ip), (DB, stubs.symbol("hit")), "event")
    check.equal(stubs.guest.state().dr[Dr.DR6] & 0xF, 2, "DR6")


@requirement("L-IO-18", "K-HLT-2")
@modes(Mode.PROT32, Mode.LONG64)
@pytest.mark.parametrize("by", ["out", "store", "cpuid", "hlt", "rdmsr"])
def test_rf_ends_with_an_emulated_instruction(vm: VirtualMachine, by: str) -> None:
    """RF that got a guest past a breakpoint ends with that instruction, whoever does it: the
    breakpoint on the next one hits (BH-81)."""
    insn = {"out": "out 0x40, al", "store": "mov [{{ bx }}], al"}.get(by, by)
    stubs = Stubs(
        vm,
        f"    {insn}\nhit:\n    nop\n    hlt\nafter:\n",
        ports={0x40: 0},
        mmio=(Mmio(0x60000),),
    )
    registers = stubs.registers
    registers.dr[Dr.DR0] = _linear(stubs, "here")
    registers.dr[Dr.DR1] = _linear(stubs, "hit")
    registers.dr[Dr.DR7] = _dr7(0) | _dr7(1)
    registers.gpr |= {Gpr.RBX: 0x60000, Gpr.RCX: 0xC0000103, Gpr.RFLAGS: 2 | RF}
    run = stubs.run()
    if by == "hlt" and run.rip == stubs.symbol("hit"):
        stubs.run()
    frame = stubs.frame()
    assert (frame.vector, frame.ip) == (DB, stubs.symbol("hit"))


@requirement("K-SET-24")
@modes(Mode.PROT32, Mode.LONG64)
def test_breakpoints_survive_exits(vm: VirtualMachine) -> None:
    """Breakpoints hold through exits of every kind (BH-83)."""
    stubs = Stubs(
        vm,
        "    out 0x40, al\n    cpuid\n    mov [{{ di }}], al\n    in al, 0x40\n"
        "hit:\n    nop\n    hlt\n",
        ports={0x40: 0},
        mmio=(Mmio(0x60000),),
    )
    stubs.registers.dr[Dr.DR3] = _linear(stubs, "hit")
    stubs.registers.dr[Dr.DR7] = _dr7(3)
    stubs.registers.gpr[Gpr.RDI] = 0x60000
    frame = stubs.take()
    check.equal((frame.vector, frame.ip), (DB, stubs.symbol("hit")), "event")
    check.equal(stubs.guest.state().dr[Dr.DR6] & 0xF, 8, "DR6")
    wanted = [ExitReason.IO, ExitReason.MEMORY, ExitReason.IO, ExitReason.HALTED]
    check.equal(stubs.exits(), wanted, "exits")


@requirement("K-INK-12")
@modes(Mode.LONG64)
@pytest.mark.parametrize("number", range(4))
def test_disabled_breakpoint_does_not_hit(vm: VirtualMachine, number: int) -> None:
    """A breakpoint that DR7 does not enable does nothing."""
    stubs = Stubs(vm, "    nop\nhit:\n    nop\n    hlt\nafter:\n")
    stubs.registers.dr[Dr(number)] = _linear(stubs, "hit")
    stubs.registers.dr[Dr.DR7] = 0x400
    assert stubs.run().rip == stubs.symbol("after")


# ---- breakpoints on data --------------------------------------------------------

STORES = {1: "mov [{bx}], al", 2: "mov [{bx}], ax", 4: "mov [{bx}], eax", 8: "mov [{bx}], rax"}


@requirement("K-INK-12", "K-SET-24")
@modes(Mode.LONG64)
@pytest.mark.parametrize("length", [1, 2, 4])
@pytest.mark.parametrize("number", range(4))
def test_data_breakpoint(vm: VirtualMachine, number: int, length: int) -> None:
    """A breakpoint on writes traps after the instruction that has written."""
    insn = STORES[length].format(bx="{{ bx }}")
    stubs = Stubs(vm, f"    {insn}\nafter:\n    nop\n    hlt\n")
    stubs.registers.dr[Dr(number)] = DATA
    stubs.registers.dr[Dr.DR7] = _dr7(number, WRITE, length)
    stubs.registers.gpr[Gpr.RBX] = DATA
    stubs.registers.gpr[Gpr.RAX] = 0x11223344
    frame = stubs.take()
    check.equal((frame.vector, frame.ip), (DB, stubs.symbol("after")), "event")
    check.equal(stubs.guest.state().dr[Dr.DR6] & 0xE00F, 1 << number, "DR6")
    wanted = bytes.fromhex("44332211")[:length]
    check.equal(stubs.guest.memory(DATA, length), wanted, "memory")


HITS = {
    # condition, length, address, access: hit
    "write-by-write": (WRITE, 4, DATA, "mov [rbx], eax", True),
    "write-by-read": (WRITE, 4, DATA, "mov eax, [rbx]", False),
    "access-by-write": (ACCESS, 4, DATA, "mov [rbx], eax", True),
    "access-by-read": (ACCESS, 4, DATA, "mov eax, [rbx]", True),
    "access-by-fetch": (ACCESS, 1, None, "nop", False),
    "last-byte": (WRITE, 4, DATA, "mov [rbx + 3], al", True),
    "byte-behind": (WRITE, 4, DATA, "mov [rbx + 4], al", False),
    "byte-before": (WRITE, 4, DATA, "mov [rbx - 1], al", False),
    "across-the-start": (WRITE, 4, DATA, "mov [rbx - 1], ax", True),
    "across-the-end": (WRITE, 4, DATA, "mov [rbx + 3], ax", True),
    "eight-bytes": (WRITE, 8, DATA, "mov [rbx + 7], al", True),
    "modify": (WRITE, 1, DATA, "inc byte ptr [rbx]", True),
    "push": (WRITE, 8, 0x6FF8, "push rax", True),
    "string": (WRITE, 1, DATA, "stosb", True),
}


@requirement("K-INK-12")
@modes(Mode.LONG64)
@pytest.mark.parametrize("name", HITS)
def test_what_a_data_breakpoint_catches(vm: VirtualMachine, name: str) -> None:
    """A data breakpoint hits where one of its bytes is accessed in its way, and else not."""
    when, length, address, insn, hit = HITS[name]
    stubs = Stubs(vm, f"    {insn}\nafter:\n    int 0x41\n")
    stubs.registers.dr[Dr.DR0] = address if address is not None else _linear(stubs, "here")
    stubs.registers.dr[Dr.DR7] = _dr7(0, when, length)
    stubs.registers.gpr |= {Gpr.RBX: DATA, Gpr.RDI: DATA, Gpr.RAX: 0x11223344}
    stubs.top -= 8 if insn == "push rax" else 0
    frame = stubs.take()
    assert frame.vector == (DB if hit else 0x41)
    if hit:
        assert frame.ip == stubs.symbol("after")


@requirement("K-INK-12")
@modes(Mode.LONG64)
def test_dr6_only_gathers(vm: VirtualMachine) -> None:
    """The processor sets bits of DR6 and clears none."""
    stubs = Stubs(vm, "    nop\nhit:\n    nop\n    hlt\n")
    stubs.registers.dr[Dr.DR0] = _linear(stubs, "hit")
    stubs.registers.dr[Dr.DR7] = _dr7(0)
    stubs.registers.dr[Dr.DR6] = INIT_DR6 | BS
    assert stubs.take().vector == DB
    assert stubs.guest.state().dr[Dr.DR6] == INIT_DR6 | BS | 1


# ---- the registers themselves ---------------------------------------------------


@requirement("K-INK-12", "K-INK-6")
@modes(Mode.PROT32, Mode.LONG64)
@pytest.mark.parametrize("insn", ["mov {{ ax }}, dr0", "mov dr3, {{ ax }}", "mov {{ ax }}, dr7"])
def test_general_detect(vm: VirtualMachine, insn: str) -> None:
    """With DR7.GD a MOV of a debug register faults, DR6.BD tells it, and the handler has GD off."""
    stubs = Stubs(vm, f"insn:\n    {insn}\n    hlt\n")
    stubs.registers.dr[Dr.DR7] = 0x400 | 1 << 13
    frame = stubs.take()
    state = stubs.guest.state()
    check.equal((frame.vector, frame.ip), (DB, stubs.symbol("insn")), "event")
    check.equal(state.dr[Dr.DR6] & BD, BD, "DR6.BD")
    check.equal(state.dr[Dr.DR7] & 1 << 13, 0, "DR7.GD in the handler")


@requirement("K-INK-6")
@modes(Mode.REAL16, Mode.LONG64)
@pytest.mark.parametrize("number", [0, 1, 2, 3, 6, 7])
def test_debug_registers_read_back(vm: VirtualMachine, number: int) -> None:
    """What the guest writes to a debug register reads back, without an exit, and userland sees
    it; fixed bits aside."""
    value = {6: 0xFFFF4FF1, 7: 0x700}.get(number, 0x12345678)
    wide = "r" if vm.mode is Mode.LONG64 else "e"
    stubs = Stubs(
        vm,
        f"    mov eax, {value:#x}\n    mov dr{number}, {wide}ax\n    mov {wide}bx, dr{number}\n"
        "    hlt\n",
    )
    run = stubs.run()
    check.equal(run.registers.gpr[Gpr.RBX], value, "as the guest reads it")
    check.equal(run.registers.dr[Dr[f"DR{number}"]], value, "as userland reads it")
    check.equal(stubs.exits(), [ExitReason.HALTED], "exits")


@requirement("K-INK-6")
@modes(Mode.PROT32, Mode.LONG64)
@pytest.mark.parametrize("extensions", [False, True])
@pytest.mark.parametrize("number", [4, 5])
def test_dr4_and_dr5(vm: VirtualMachine, number: int, extensions: bool) -> None:
    """DR4 and DR5 are DR6 and DR7, or #UD with CR4.DE."""
    stubs = Stubs(vm, f"insn:\n    .byte 0x0F, 0x21, {0xC0 | number << 3:#x}\n    hlt\nafter:\n")
    stubs.registers.cr[Cr.CR4] |= extensions << 3
    if extensions:
        frame = stubs.take()
        assert (frame.vector, frame.ip) == (6, stubs.symbol("insn"))
    else:
        run = stubs.run()
        assert run.rip == stubs.symbol("after")
        assert run.registers.gpr[Gpr.RAX] == (INIT_DR6 if number == 4 else 0x400)


@requirement("K-INK-6")
@modes(Mode.LONG64)
@pytest.mark.parametrize("bit", [32, 63])
@pytest.mark.parametrize("number", [6, 7])
def test_upper_half_of_dr6_and_dr7(vm: VirtualMachine, number: int, bit: int) -> None:
    """MOV to DR6 or DR7 with a bit of the upper half raises #GP(0)."""
    stubs = Stubs(vm, f"    mov rax, 1 << {bit} | 0x400\ninsn:\n    mov dr{number}, rax\n    hlt\n")
    frame = stubs.take()
    assert (frame.vector, frame.error) == (13, 0)
    assert frame.ip == stubs.symbol("insn")
