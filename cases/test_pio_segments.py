# SPDX-License-Identifier: BSD-2-Clause
"""Where the memory of INS and OUTS is, and what its segment allows: SDM 2 "INS", "OUTS"; SDM 3A
5.3 (limits), 5.5 (types); SDM 3A 3.4.4 (segments in 64-bit mode); nvmm_assist_io of libnvmm(3).

A violation is for the assist to find, and for its caller to raise: it fails with EFAULT, and
nothing has been done yet.
"""

from __future__ import annotations

import pytest
from io_bench import BUFFER, EVERY, OTHER_SIZE, PORT, Bench, Form

from nvmmconf.suite import Gpr, IoExit, Mode, Segment, VirtualMachine, check, modes, requirement

SEGMENTS = ("es", "cs", "ss", "ds", "fs", "gs")
SEGMENTED = (Mode.REAL16, Mode.PROT32, Mode.COMPAT32)
DIRECTIONS = ("ins", "outs")

READ_WRITE, READ_ONLY, DOWN, CODE, EXECUTE_ONLY = 0x9300, 0x9100, 0x9700, 0x9B00, 0x9900
BIG, GRANULAR, PRESENT = 0x400000, 0x800000, 0x8000
"""Of a segment's flags: D/B, G, P (SDM 3A 3.4.5)."""


def string(
    vm: VirtualMachine, direction: str, size: int = 1, segment: str = "", *, wide: bool = False
) -> Form:
    """REP of it; `wide`: with 32-bit addresses."""
    address = 32 if wide else vm.mode.bits
    return Form(direction == "ins", size, address, True, segment)


def of(direction: str) -> Segment:
    """The segment that it uses without a prefix."""
    return Segment.ES if direction == "ins" else Segment.DS


@requirement("K-IO-4", "L-IO-8", "L-IO-9")
@modes(*SEGMENTED)
@pytest.mark.parametrize("rep", [False, True], ids=["once", "rep"])
@pytest.mark.parametrize("segment", SEGMENTS)
def test_outs_reads_from_the_segment_of_its_prefix(
    vm: VirtualMachine, segment: str, rep: bool
) -> None:
    """OUTS reads from the segment that a prefix names, by its base (BH-8, BH-10)."""
    bench = Bench(vm)
    for n, name in enumerate(SEGMENTS):
        if name != "cs":
            bench.segment(Segment[name.upper()], bench.base + 0x1000 * (n + 1))
    wanted = Form(False, 2, vm.mode.bits, rep, segment)
    if segment == "cs":
        # The guest's own code, which the window does not have.
        start = bench.guest.registers.seg[Segment.CS].base
        offset = bench.guest.symbol("out_imm_1")
        data = bench.guest.memory(start + offset, 4)
        count = 2 if rep else 1
        registers = {Gpr.RSI: offset} | ({Gpr.RCX: count} if rep else {})
        effect = bench.execute(wanted.label, registers)
        out = b"".join(one.value.to_bytes(2, "little") for one in effect.ports)
        check.equal(out, data[: 2 * count], "what the port got")
        return
    bench.transfer(wanted, offset=0x2345, count=2)


@requirement("K-IO-4", "L-IO-8", "L-IO-9")
@modes(Mode.LONG64)
@pytest.mark.parametrize("address", [32, 64])
@pytest.mark.parametrize("segment", SEGMENTS)
def test_in_64_bit_mode_only_fs_and_gs_have_bases(
    vm: VirtualMachine, segment: str, address: int
) -> None:
    """In 64-bit mode a prefix of FS or GS adds its base (BH-10); of the others the base, the
    limit and all else are not looked at."""
    bench = Bench(vm)
    for n, name in enumerate(SEGMENTS):
        if name not in ("cs", "ss"):
            bench.segment(Segment[name.upper()], 0x1000 * (n + 1), 0)
    bench.transfer(Form(False, 2, address, True, segment), offset=0x2345, count=20)


@requirement("L-IO-8", "K-IO-4")
@modes(*SEGMENTED)
@pytest.mark.parametrize("segment", SEGMENTS)
def test_ins_writes_to_es_whatever_the_prefix(vm: VirtualMachine, segment: str) -> None:
    """INS writes to ES; no prefix changes that."""
    bench = Bench(vm)
    for n, name in enumerate(SEGMENTS):
        if name not in ("cs", "ss"):
            bench.segment(Segment[name.upper()], bench.base + 0x1000 * (n + 1))
    bench.transfer(Form(True, 2, vm.mode.bits, True, segment), offset=0x2345, count=5)


@requirement("L-IO-8", "K-IO-4")
@modes(Mode.LONG64)
@pytest.mark.parametrize("segment", ["fs", "gs"])
def test_ins_in_64_bit_mode_has_no_base(vm: VirtualMachine, segment: str) -> None:
    """In 64-bit mode a prefix of FS or GS does not move INS."""
    bench = Bench(vm)
    bench.segment(Segment[segment.upper()], 0x2000)
    bench.transfer(Form(True, 2, 64, True, segment), offset=0x2345, count=5)


@requirement("K-IO-4", "L-IO-8")
@modes(*EVERY)
@pytest.mark.parametrize("label", ["outs_late_prefix", "outs_last_prefix", "rep_outs_rep_first"])
def test_segment_prefix_anywhere(vm: VirtualMachine, label: str) -> None:
    """Of several segment prefixes the last one counts, wherever it is among the prefixes."""
    bench = Bench(vm)
    bench.segment(Segment.FS, bench.base + 0x1000)
    bench.segment(Segment.GS, bench.base + 0x2000)
    bench.guest.write(bench.base + 0x3000, b"\x11")
    bench.guest.write(bench.base + 0x4000, b"\x22")
    bench.guest.write(bench.base + 0x5000, b"\x33")
    effect = bench.execute(label, {Gpr.RSI: 0x3000, Gpr.RCX: 1})
    wanted = 0x33 if label == "outs_last_prefix" else 0x22
    assert [one.value for one in effect.ports] == [wanted]


@requirement("L-IO-9")
@modes(*SEGMENTED)
@pytest.mark.parametrize("size", [1, 2, 4])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_string_up_to_the_limit(vm: VirtualMachine, direction: str, size: int) -> None:
    """The last byte that a limit allows may be used, whatever the base (BH-7, BH-11)."""
    bench = Bench(vm)
    bench.segment(of(direction), bench.base + 0x1000, 0x3FFF)
    bench.transfer(string(vm, direction, size), offset=0x4000 - 3 * size, count=3)


@requirement("L-IO-9")
@modes(*SEGMENTED)
@pytest.mark.parametrize("size", [1, 2, 4])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_beyond_the_limit(vm: VirtualMachine, direction: str, size: int) -> None:
    """An element that ends beyond the limit is a fault, and moves nothing (BH-7, BH-13)."""
    bench = Bench(vm)
    bench.segment(of(direction), bench.base + 0x1000, 0x3FFF)
    bench.refuses(string(vm, direction, size), offset=0x4000 - size + 1)


@requirement("L-IO-15", "L-IO-9")
@modes(Mode.REAL16, Mode.PROT32)
@pytest.mark.parametrize("size", [1, 2, 4])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_limit_in_the_middle(vm: VirtualMachine, direction: str, size: int) -> None:
    """A string that goes over the limit is moved up to it, and faults there: what index and
    count tell has been done, no more and no less (BH-15b)."""
    bench = Bench(vm)
    bench.segment(of(direction), bench.base, 0x4FFF)
    wanted = string(vm, direction, size)
    offset = 0x5000 - 4 * size
    effect = bench.execute(wanted.label, {wanted.index: offset, Gpr.RCX: 9})
    check.equal(len(effect.ports), 4, "elements")
    check.equal(effect.after[wanted.index], 0x5000, "index")
    check.equal(effect.after[Gpr.RCX], 5, "count")
    check.equal(effect.run.rip, effect.run.symbol(wanted.label), "RIP")


@requirement("L-IO-15", "L-IO-9")
@modes(Mode.REAL16)
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_64_kib_with_32_bit_addresses(vm: VirtualMachine, direction: str) -> None:
    """In real mode with 32-bit addresses a string ends at 64 KiB with a fault: it does not
    wrap, nor go on (BH-15b)."""
    bench = Bench(vm)
    wanted = string(vm, direction, wide=True)
    effect = bench.execute(wanted.label, {wanted.index: 0xFFF0, Gpr.RCX: 32})
    check.equal(len(effect.ports), 16, "elements")
    check.equal(effect.after[wanted.index], 0x10000, "index")


@requirement("L-IO-9")
@modes(Mode.REAL16)
@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_element_across_64_kib(vm: VirtualMachine, direction: str, size: int) -> None:
    """An element that begins below 64 KiB and ends above is a fault in real mode."""
    Bench(vm).refuses(string(vm, direction, size), offset=0x10000 - size + 1)


@requirement("L-IO-10")
@modes(Mode.PROT32)
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_limit_of_a_granular_segment(vm: VirtualMachine, direction: str) -> None:
    """A segment's limit in the state is in bytes, whatever G says: with 1FFFh there 1FFFh is
    its last byte, and 2000h is beyond (BH-12)."""
    bench = Bench(vm)
    bench.segment(of(direction), 0x3000, 0x1FFF, READ_WRITE | BIG | GRANULAR)
    bench.transfer(string(vm, direction), offset=0x1FFD, count=3, what="within: ")
    bench.refuses(string(vm, direction), offset=0x2000, what="beyond: ")


@requirement("L-IO-10", "L-IO-9")
@modes(Mode.PROT32)
@pytest.mark.parametrize("size", [1, 4])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_flat_segment_has_no_end(vm: VirtualMachine, direction: str, size: int) -> None:
    """With a limit of FFFFFFFFh every offset may be used (BH-11)."""
    bench = Bench(vm)
    bench.segment(of(direction), 0, 0xFFFFFFFF, READ_WRITE | BIG | GRANULAR)
    bench.transfer(string(vm, direction, size), count=40)


@requirement("L-IO-10")
@modes(Mode.PROT32)
@pytest.mark.parametrize("big", [False, True], ids=["16-bit", "32-bit"])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_expand_down_segment(vm: VirtualMachine, direction: str, big: bool) -> None:
    """In an expand-down segment offsets above the limit may be used, those up to it not
    (BH-12); without B none above FFFFh."""
    bench = Bench(vm)
    flags = DOWN | (BIG if big else 0)
    bench.segment(of(direction), 0, 0x47FF, flags)
    bench.transfer(string(vm, direction), offset=0x4800, count=3, what="above: ")
    bench.refuses(string(vm, direction), offset=0x47FF, what="below: ")


@requirement("L-IO-10")
@modes(Mode.PROT32)
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_top_of_a_16_bit_expand_down_segment(vm: VirtualMachine, direction: str) -> None:
    """An expand-down segment without B ends at FFFFh."""
    bench = Bench(vm)
    bench.segment(of(direction), 0, 0x47FF, DOWN)
    bench.refuses(string(vm, direction), offset=0x10000)


@requirement("L-IO-10")
@modes(Mode.PROT32)
@pytest.mark.parametrize("kind", ["read-only", "read-only, expand-down", "code", "execute-only"])
def test_ins_to_a_segment_that_may_not_be_written(vm: VirtualMachine, kind: str) -> None:
    """INS to a segment that may not be written is a fault (BH-12)."""
    flags = {
        "read-only": READ_ONLY,
        "read-only, expand-down": READ_ONLY | 0x400,
        "code": CODE,
        "execute-only": EXECUTE_ONLY,
    }[kind]
    bench = Bench(vm)
    limit = 0x47FF if "down" in kind else 0xFFFF
    bench.segment(Segment.ES, 0, limit, flags | BIG)
    bench.refuses(string(vm, "ins"), offset=BUFFER)


@requirement("L-IO-10")
@modes(Mode.PROT32)
def test_outs_from_a_segment_that_may_not_be_read(vm: VirtualMachine) -> None:
    """OUTS from an execute-only code segment is a fault; from a readable or read-only it is
    none (BH-12)."""
    bench = Bench(vm)
    for flags in (READ_ONLY, CODE):
        bench.segment(Segment.DS, 0, 0xFFFF, flags | BIG)
        bench.transfer(string(vm, "outs"), count=3, what=f"{flags:#x}: ")
    bench.segment(Segment.DS, 0, 0xFFFF, EXECUTE_ONLY | BIG)
    bench.refuses(string(vm, "outs"), offset=BUFFER, what="execute-only: ")


@requirement("L-IO-9")
@modes(Mode.PROT32, Mode.COMPAT32)
@pytest.mark.parametrize("segment", ["ds", "es", "fs", "gs"])
def test_segment_that_is_not_there(vm: VirtualMachine, segment: str) -> None:
    """String I/O by a segment register that holds a null selector is a fault (BH-13)."""
    bench = Bench(vm)
    bench.segment(Segment[segment.upper()], 0, 0, 0)
    prefix = "" if segment in ("ds", "es") else segment
    bench.refuses(string(vm, "ins" if segment == "es" else "outs", 1, prefix), offset=0)


@requirement("L-IO-6", "L-IO-9")
@modes(*SEGMENTED)
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_count_of_zero_looks_at_no_segment(vm: VirtualMachine, direction: str) -> None:
    """With a count of 0 there is no fault, wherever the index points."""
    bench = Bench(vm)
    bench.segment(of(direction), bench.base, 0xFF)
    bench.transfer(string(vm, direction), offset=0x8000, count=0)


@requirement("L-IO-9", "L-IO-10")
@modes(Mode.COMPAT32)
@pytest.mark.parametrize("size", [1, 4])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_compatibility_mode_has_segments(vm: VirtualMachine, direction: str, size: int) -> None:
    """32-bit code under a 64-bit kernel has the bases of all segments (BH-13)."""
    bench = Bench(vm)
    bench.segment(of(direction), 0x2000)
    bench.transfer(string(vm, direction, size), count=5)


@requirement("K-IO-3", "K-IO-4", "L-IO-8")
@modes(*EVERY)
@pytest.mark.parametrize("segment", ["", *SEGMENTS])
def test_exit_names_the_segment(vm: VirtualMachine, segment: str) -> None:
    """A string exit names ES for INS, for OUTS the prefix's segment or DS; or, without decode
    assists, none."""
    guest = vm.prepare("port_io")
    sizes = (vm.mode.bits, OTHER_SIZE[vm.mode.bits])
    for is_in, address in ((way, size) for way in (True, False) for size in sizes):
        form = Form(is_in, 1, address, False, segment)
        guest.registers.gpr |= {Gpr.RIP: guest.symbol(form.label), Gpr.RDX: PORT}
        taken = guest.next_exit()
        assert isinstance(taken, IoExit)
        allowed = {form.used_segment, None}
        if vm.mode is Mode.LONG64 and form.used_segment not in (Segment.FS, Segment.GS):
            allowed.add(Segment.ES if is_in else Segment.DS)  # others have no effect there
        check(taken.segment in allowed, f"{form.label}: {taken.segment!r} is the segment")
        check.equal(taken.address_size, address // 8, f"{form.label}: address size")
        check.equal(taken.npc, guest.symbol(f"{form.label}_npc"), f"{form.label}: npc")
