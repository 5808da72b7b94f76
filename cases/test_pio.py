# SPDX-License-Identifier: BSD-2-Clause
"""Port I/O: SDM 1 chapter 19, SDM 2 "OUT", "OUTS"; the exit IO and nvmm_assist_io."""

from nvmmconf.suite import IoExit, Segment, Stop, VirtualMachine, requirement

DEBUG_CONSOLE = 0xE9
TEST_DEVICE = 0xF4


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
