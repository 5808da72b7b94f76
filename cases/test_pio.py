# SPDX-License-Identifier: BSD-2-Clause
"""Port I/O: SDM 1 chapter 19, SDM 2 "OUT", "OUTS"; the exit IO and nvmm_assist_io."""

from __future__ import annotations

import pytest
from io_bench import (
    BUFFER,
    EVERY,
    HIGH_IMMEDIATE,
    IMMEDIATE,
    OTHER_SIZE,
    PORT,
    STATUS,
    Bench,
    Form,
    device_bytes,
    mask,
    registers_of,
)

from nvmmconf.suite import (
    Gpr,
    IoExit,
    Mode,
    PortAccess,
    Segment,
    Stop,
    Stubs,
    VirtualMachine,
    check,
    modes,
    requirement,
)

DEBUG_CONSOLE = 0xE9
TEST_DEVICE = 0xF4
TF, RF = 1 << 8, 1 << 16
SIZES = (1, 2, 4)
PORTS = {"dx": PORT, "imm": IMMEDIATE, "high": HIGH_IMMEDIATE}
"""By the guest's forms."""
INSTRUCTIONS = {"out": "out dx, al", "in": "in eax, dx", "outs": "outsb"}


@requirement("A-EXIT-4", "A-CB-1", "L-IO-3", "L-IO-4", "L-IO-7")
def test_console_gets_every_byte_in_order(vm: VirtualMachine) -> None:
    """What OUT and REP OUTSB write arrives at the port, byte by byte, in order."""
    run = vm.boot("hello")
    assert run.console.splitlines() == [
        f"hello from {vm.mode.value}, a byte at a time",
        "and this line by one REP OUTSB, longer than what one exit moves: 32 bytes each time",
    ]


@requirement("A-EXIT-4", "A-CB-1")
def test_result_ends_the_run(vm: VirtualMachine) -> None:
    """A byte v written to the test device ends the run with the status (v << 1) | 1."""
    run = vm.boot("hello")
    assert run.reason is Stop.EXITED
    assert run.status == 1
    assert run.exits_of(IoExit)[-1].port == TEST_DEVICE


@requirement("K-IO-1", "K-IO-2")
def test_out_tells_port_size_and_next_rip(vm: VirtualMachine) -> None:
    """OUT exits with IO: port, direction, one byte, and the next instruction's RIP."""
    run = vm.boot("hello")
    out = run.exits_of(IoExit)[0]
    assert out.port == DEBUG_CONSOLE
    assert not out.is_in
    assert not out.string
    assert not out.rep
    assert out.operand_size == 1
    assert run.address(out.npc) == run.symbol("after_out")


@requirement("K-IO-2")
def test_rip_stays_on_the_instruction(vm: VirtualMachine) -> None:
    """At an IO exit RIP is still on the instruction."""
    run = vm.boot("hello")
    first = next(one for one in run.all_exits() if isinstance(one.exit, IoExit))
    assert first.rip == run.symbol("out_insn")


@requirement("K-IO-3", "K-IO-4")
def test_rep_outsb_tells_string_rep_and_segment(vm: VirtualMachine) -> None:
    """REP OUTSB exits with str and rep set, and DS (or, without decode assists, none)."""
    run = vm.boot("hello")
    string = next(io for io in run.exits_of(IoExit) if io.string)
    assert string.rep
    assert string.port == DEBUG_CONSOLE
    assert string.operand_size == 1
    assert string.address_size == vm.mode.bits // 8
    assert string.segment in (Segment.DS, None)
    assert run.address(string.npc) == run.symbol("after_outsb")


@requirement("L-IO-5", "L-IO-14")
def test_rep_outsb_stays_until_the_count_is_zero(vm: VirtualMachine) -> None:
    """REP OUTSB is executed again until its count is 0; only then RIP moves on."""
    run = vm.boot("hello")
    rips = [traced.rip for traced in run.all_exits() if getattr(traced.exit, "string", False)]
    assert set(rips) == {run.symbol("outsb_insn")}
    assert len(rips) >= 2
    assert run.status == 1


# NetBSD io_assist 1 to 3 are the IN of `dx` and `imm` in long64, 7 to 9 the OUT.


@requirement("L-IO-3", "L-IO-4", "L-IO-5", "A-CB-1", "A-EXIT-4")
@modes(*EVERY)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("form", ["dx", "imm", "high"])
def test_out_writes_the_low_part_of_rax(vm: VirtualMachine, form: str, size: int) -> None:
    """OUT writes AL, AX or EAX to the port in DX or in the instruction; no register changes."""
    bench = Bench(vm)
    for value in (0x0000_0000, 0x8877_6655, 0xFFFF_FFFF, 0x0102_0380):
        effect = bench.execute(f"out_{form}_{size}", {Gpr.RAX: value}, STATUS)
        bench.verify(effect, [PortAccess(PORTS[form], False, size, value & mask(size))])


@requirement("L-IO-3", "L-IO-4", "L-IO-5", "A-CB-1", "A-EXIT-4")
@modes(*EVERY)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("form", ["dx", "imm", "high"])
def test_in_reads_into_the_low_part_of_rax(vm: VirtualMachine, form: str, size: int) -> None:
    """IN reads AL, AX or EAX from the port in DX or in the instruction; the rest of EAX, and all
    other registers, are kept."""
    before = 0xA1B2_C3D4
    bench = Bench(vm)
    for n in range(3):
        effect = bench.execute(f"in_{form}_{size}", {Gpr.RAX: before}, STATUS)
        value = int.from_bytes(device_bytes(n * size, size), "little")
        access = PortAccess(PORTS[form], True, size, value)
        bench.verify(effect, [access], {Gpr.RAX: before & ~mask(size) | value})


@requirement("L-IO-4")
@modes(Mode.LONG64)
@pytest.mark.parametrize("answer", [0, 0x7F, 0x80, 0xFFFFFFFF])
@pytest.mark.parametrize("size", SIZES)
def test_upper_half_of_rax(vm: VirtualMachine, size: int, answer: int) -> None:
    """IN to AL and AX keeps the rest of RAX (BH-3); IN to EAX clears bits 63:32 (BH-4)."""
    before = 0xFEDC_BA98_7654_3210
    guest = vm.prepare("port_io", ports={PORT: answer})
    guest.registers.gpr |= {
        Gpr.RIP: guest.symbol(f"in_dx_{size}"),
        Gpr.RDX: PORT,
        Gpr.RAX: before,
    }
    low = answer & mask(size)
    wanted = low if size == 4 else before & ~mask(size) | low
    assert guest.run().registers.gpr[Gpr.RAX] == wanted


@requirement("K-IO-1", "L-IO-3", "A-CB-1")
@modes(Mode.REAL16, Mode.LONG64)
@pytest.mark.parametrize(
    "port", [0, 1, 0x20, 0x7F, 0x80, 0xFF, 0x100, 0x3F8, 0xCF8, 0x7FFF, 0x8000, 0xFFFC, 0xFFFF]
)
def test_every_port_exits(vm: VirtualMachine, port: int) -> None:
    """IN and OUT exit with IO on any port, at any width up to the last one; the device sees
    all 16 bits of the number and the width, as one access."""
    bench = Bench(vm, also=[port])
    # Bits above DX are no part of the number.
    dx = 0x5A5A_0000 | port
    for size in SIZES:
        effect = bench.execute(f"out_dx_{size}", {Gpr.RDX: dx, Gpr.RAX: 0x1234_5678})
        out = PortAccess(port, False, size, 0x1234_5678 & mask(size))
        bench.verify(effect, [out], what=f"OUT of {size}: ")
        value = int.from_bytes(device_bytes(bench.given, size), "little")
        effect = bench.execute(f"in_dx_{size}", {Gpr.RDX: dx, Gpr.RAX: 0})
        access = PortAccess(port, True, size, value)
        bench.verify(effect, [access], {Gpr.RAX: value}, f"IN of {size}: ")
    exits = [(io.port, io.operand_size) for io in effect.run.exits_of(IoExit)]
    check.equal(exits, [(port, size) for size in SIZES for _ in range(2)], "exits")


@requirement("A-CB-1", "A-EXIT-4", "L-IO-4")
@modes(*EVERY)
@pytest.mark.parametrize("size", SIZES)
def test_port_without_a_device(vm: VirtualMachine, size: int) -> None:
    """A port where no device is reads all ones, and takes writes."""
    bench = Bench(vm)
    effect = bench.execute(f"in_dx_{size}", {Gpr.RDX: 0x4321, Gpr.RAX: 0})
    bench.verify(effect, [], {Gpr.RAX: mask(size)}, "IN: ")
    bench.verify(bench.execute(f"out_dx_{size}", {Gpr.RDX: 0x4321}), [], what="OUT: ")
    assert [io.port for io in effect.run.exits_of(IoExit)][:1] == [0x4321]


@requirement("K-IO-1", "K-IO-2", "K-IO-3", "K-IO-5")
@modes(*EVERY)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("direction", ["in", "out"])
def test_exit_of_in_and_out(vm: VirtualMachine, direction: str, size: int) -> None:
    """The exit of IN and OUT tells port, direction and size, neither string nor REP, and the
    next RIP; RIP is on the instruction, and no register has changed."""
    guest = vm.prepare("port_io")
    for form, port in PORTS.items():
        label = f"{direction}_{form}_{size}"
        guest.registers.gpr |= {**registers_of(vm.mode), Gpr.RIP: guest.symbol(label)}
        before = dict(guest.registers.gpr)
        taken = guest.next_exit()
        assert isinstance(taken, IoExit)
        check.equal(taken.is_in, direction == "in", f"{form}: IN")
        check.equal((taken.port, taken.operand_size), (port, size), f"{form}: port and size")
        check.equal((taken.string, taken.rep), (False, False), f"{form}: string, rep")
        check.equal(taken.npc, guest.symbol(f"{label}_npc"), f"{form}: npc")
        state = guest.state().gpr
        check.equal([name for name in Gpr if state[name] != before[name]], [], "changed")


@requirement("K-IO-1", "K-IO-2", "K-IO-3", "K-IO-5")
@modes(*EVERY)
@pytest.mark.parametrize("rep", [False, True], ids=["once", "rep"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("direction", ["ins", "outs"])
def test_exit_of_ins_and_outs(vm: VirtualMachine, direction: str, size: int, rep: bool) -> None:
    """The exit of INS and OUTS tells port, direction, size, REP, address size and the next RIP;
    RIP is on the instruction, and no register has changed, index and count neither."""
    guest = vm.prepare("port_io")
    for address in (vm.mode.bits, OTHER_SIZE[vm.mode.bits]):
        form = Form(direction == "ins", size, address, rep)
        guest.registers.gpr |= {**registers_of(vm.mode), Gpr.RIP: guest.symbol(form.label)}
        before = dict(guest.registers.gpr)
        taken = guest.next_exit()
        assert isinstance(taken, IoExit)
        check.equal(taken.is_in, form.is_in, "IN")
        check.equal((taken.port, taken.operand_size), (PORT, size), "port and size")
        check.equal((taken.string, taken.rep), (True, rep), "string, rep")
        check.equal(taken.address_size, address // 8, "address size")
        check.equal(taken.npc, guest.symbol(f"{form.label}_npc"), "npc")
        state = guest.state().gpr
        check.equal([name for name in Gpr if state[name] != before[name]], [], "changed")


@requirement("K-IO-1", "L-IO-5")
@modes(*EVERY)
def test_each_instruction_exits_once(vm: VirtualMachine) -> None:
    """One IN or OUT is one exit and one access: in order, none lost and none doubled (BH-82)."""
    run = vm.run_code(
        """
        mov     edx, 0x1234
        mov     ebx, 0
        .rept   4
        in      al, dx
        shl     ebx, 8
        mov     bl, al
        out     dx, al
        in      ax, dx
        out     0x7B, ax
        .endr
        hlt
        """,
        ports={PORT: list(range(0x11, 0x1A)), 0x7B: 0},
    )
    wanted = []
    for n in range(4):
        byte, word = 0x11 + 2 * n, 0x12 + 2 * n
        wanted += [
            PortAccess(PORT, True, 1, byte),
            PortAccess(PORT, False, 1, byte),
            PortAccess(PORT, True, 2, word),
            PortAccess(0x7B, False, 2, word),
        ]
    check.equal(run.ports, tuple(wanted), "accesses")
    check.equal(run.registers.gpr[Gpr.RBX], 0x11131517, "what IN read")
    check.equal(len(run.exits_of(IoExit)), 16, "exits")


@requirement("L-IO-4", "L-IO-3")
@modes(Mode.LONG64)
def test_in_uses_the_register_of_now(vm: VirtualMachine) -> None:
    """OUT writes what RAX holds when it is executed: RDMSR, IN and MOV before it count (BH-82)."""
    run = vm.run_code(
        """
        mov     rax, 0xFFFFFFFFFFFFFFFF
        mov     ecx, 0x277              # IA32_PAT
        rdmsr
        out     0x7B, eax
        mov     edx, 0x1234
        in      eax, dx
        add     eax, 1
        out     0x7B, eax
        mov     rax, 0xFFFFFFFFFFFFFFFF
        in      al, dx
        out     0x7B, eax
        hlt
        """,
        ports={PORT: [0xCAFEBABE, 0x42], 0x7B: 0},
    )
    out = [access.value for access in run.ports if not access.is_in]
    assert out == [0x00070406, 0xCAFEBABF, 0xFFFFFF42]


@requirement("K-IO-1")
@modes(Mode.REAL16, Mode.LONG64)
@pytest.mark.parametrize("prefix", [0xF3, 0xF2, 0x26, 0x64, 0x67])
def test_prefixes_that_mean_nothing(vm: VirtualMachine, prefix: int) -> None:
    """REP, segment and address-size prefixes change nothing in IN and OUT but their length."""
    run = vm.run_code(
        """
        mov     edx, 0x1234
        mov     eax, 0
        mov     ecx, 3
        .byte   {{ prefix }}
        in      al, dx
        .byte   {{ prefix }}
        out     dx, al
        hlt
    after:
        """,
        ports={PORT: [0x5A, 0x77]},
        prefix=prefix,
    )
    check.equal(run.rip, run.symbol("after"), "RIP")
    wanted = (PortAccess(PORT, True, 1, 0x5A), PortAccess(PORT, False, 1, 0x5A))
    check.equal(run.ports, wanted, "accesses")
    check.equal(run.registers.gpr[Gpr.RCX], 3, "count")


@requirement("L-IO-18")
@modes(Mode.REAL16, Mode.LONG64)
@pytest.mark.parametrize("name", ["out", "in", "outs"])
def test_trap_follows_an_io_instruction(vm: VirtualMachine, name: str) -> None:
    """With RFLAGS.TF set, #DB follows an I/O instruction, with RIP behind it."""
    stubs = Stubs(vm, f"    {INSTRUCTIONS[name]}\nnext:\n    nop\n    hlt\n", ports={PORT: 0})
    stubs.registers.gpr |= {Gpr.RDX: PORT, Gpr.RSI: BUFFER, Gpr.RFLAGS: 2 | TF}
    frame = stubs.take()
    check.equal(frame.vector, 1, "vector")
    check.equal(frame.ip, stubs.symbol("next"), "return address")


@requirement("L-IO-18")
@modes(Mode.REAL16, Mode.LONG64)
@pytest.mark.parametrize("name", ["out", "in", "outs"])
def test_interrupt_shadow_ends_with_an_io_instruction(vm: VirtualMachine, name: str) -> None:
    """The interrupt shadow of STI covers the one I/O instruction that follows, and no more
    (BH-93)."""
    stubs = Stubs(vm, f"    sti\n    {INSTRUCTIONS[name]}\n    hlt\n", ports={PORT: 0})
    stubs.registers.gpr |= {Gpr.RDX: PORT, Gpr.RSI: BUFFER}
    taken = stubs.guest.next_exit()
    assert isinstance(taken, IoExit)
    check(taken.state.int_shadow, "the shadow is there at the exit")
    stubs.guest.vcpu.assist_io()
    check.equal(stubs.guest.state().intr.int_shadow, False, "the shadow after it")


@requirement("L-IO-18")
@modes(Mode.REAL16, Mode.LONG64)
@pytest.mark.parametrize("name", ["out", "in", "outs"])
def test_rf_ends_with_an_io_instruction(vm: VirtualMachine, name: str) -> None:
    """RFLAGS.RF is 0 after an I/O instruction (SDM 3B 17.3.1.1)."""
    stubs = Stubs(vm, f"    {INSTRUCTIONS[name]}\n    hlt\n", ports={PORT: 0})
    stubs.registers.gpr |= {Gpr.RDX: PORT, Gpr.RSI: BUFFER, Gpr.RFLAGS: 2 | RF}
    taken = stubs.guest.next_exit()
    assert isinstance(taken, IoExit)
    stubs.guest.vcpu.assist_io()
    assert stubs.guest.state().gpr[Gpr.RFLAGS] & RF == 0
