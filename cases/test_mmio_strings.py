# SPDX-License-Identifier: BSD-2-Clause
"""MMIO by string instructions: MOVS, STOS, LODS, CMPS, with and without REP.

SDM 2 "REP/REPE/REPNE", "MOVS", "STOS", "LODS", "CMPS"; SDM 1 7.3.9 (DF, and the
size of addresses).  MOVS has two operands in memory, so libnvmm computes their
addresses itself, and either may be RAM.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from arithmetic import DF, STATUS, ZF, compute, mask, operands
from mmio_bench import AFTER, DEVICE, FLAGS_BEFORE, OTHER, Bench, base_of, pattern

from nvmmconf.suite import Gpr, Mmio, Mode, Segment, Stop, VirtualMachine, check, modes, requirement

EVERY = (Mode.REAL16, Mode.PROT32, Mode.LONG64)
TWO = (Mode.REAL16, Mode.LONG64)
AT, TO = 0x200, 0x800
"""Offsets in the device's page: of what is read and what is written."""
MOVES = ("movs", "movs_from_ram", "movs_to_ram", "stos", "lods")

GUEST = "mmio_strings"


class Strings:
    """One string instruction with its operands, and what it shall do."""

    def __init__(self, vm: VirtualMachine, move: str, size: int) -> None:
        self.bench = Bench(vm, GUEST)
        self.size = size
        self.move = move
        self.mnemonic = move.partition("_")[0]
        self.source = OTHER if move.endswith("from_ram") else DEVICE
        self.target = OTHER if move.endswith("to_ram") else DEVICE
        self.width = {Mode.REAL16: 2, Mode.PROT32: 4, Mode.COMPAT32: 4}.get(vm.mode, 8)

    def run(self, prefix: str, count: int, flags: int, elements: int) -> None:
        """Execute it, and check that it has moved `elements` (`prefix` "": one)."""
        bench, size, mode = self.bench, self.size, self.bench.mode
        step = -size if flags & DF else size
        registers = pattern(mode)
        registers[Gpr.RCX] = count
        registers[Gpr.RSI] = self.source + AT
        registers[Gpr.RDI] = self.target + TO
        values = [0x1122334455667788 * (n + 1) + 0x99 * n & mask(size) for n in range(elements)]
        ram = base_of(mode) + OTHER
        bench.guest.write(ram, bytes(0x1000))
        for number, value in enumerate(values):
            place = AT + number * step
            bench.put(place, value, size)
            bench.guest.write(ram + place, value.to_bytes(size, "little"))
        effect = bench.execute(f"{prefix}{self.mnemonic}_{size}", registers, flags)
        accesses, changed = [], {}
        for number, value in enumerate(values):
            if self.mnemonic == "stos":
                value = registers[Gpr.RAX] & mask(size)
            elif self.source == DEVICE:
                accesses.append(bench.reads(AT + number * step, value, size))
            if self.mnemonic != "lods" and self.target == DEVICE:
                accesses.append(bench.writes(TO + number * step, value, size))
            if self.target == OTHER:
                there = bench.guest.memory(ram + TO + number * step, size)
                check.equal(int.from_bytes(there, "little"), value, f"element {number} in RAM")
        if self.mnemonic == "lods" and values:
            keep = 0 if size == 4 and mode is Mode.LONG64 else ~mask(size)
            changed[Gpr.RAX] = registers[Gpr.RAX] & keep | values[-1]
        if self.mnemonic != "stos":
            changed[Gpr.RSI] = registers[Gpr.RSI] + elements * step
        if self.mnemonic != "lods":
            changed[Gpr.RDI] = registers[Gpr.RDI] + elements * step
        if prefix:
            changed[Gpr.RCX] = count - elements
        what = f"{prefix}{self.move}, {count} times, {'down' if flags & DF else 'up'}"
        bench.verify(effect, what, accesses=accesses, registers=changed)


# NetBSD mem_assist 7 STOS, 8 LODS, 9 MOVS.


@requirement("L-DAT-7", "L-DAT-8", "L-MEM-6", "L-GM-4")
@modes(Mode.REAL16, Mode.PROT32)
@pytest.mark.parametrize("direction", ["up", "down"])
@pytest.mark.parametrize("size", [1, 2, 4])
@pytest.mark.parametrize("move", MOVES)
def test_one_element(vm: VirtualMachine, move: str, size: int, direction: str) -> None:
    """Without REP one element is moved, and the pointers move by its size, as DF says."""
    Strings(vm, move, size).run("", 7, DF if direction == "down" else 0, 1)


@requirement("L-DAT-7", "L-DAT-8", "L-MEM-6", "L-GM-4")
@modes(Mode.LONG64)
@pytest.mark.parametrize("direction", ["up", "down"])
@pytest.mark.parametrize("move", MOVES)
def test_one_element_of_eight_bytes(vm: VirtualMachine, move: str, direction: str) -> None:
    """With REX.W an element has eight bytes."""
    Strings(vm, move, 8).run("", 7, DF if direction == "down" else 0, 1)


@requirement("L-REP-2")
@modes(*TWO)
@pytest.mark.parametrize("prefix", ["rep", "repne"])
@pytest.mark.parametrize("move", MOVES)
def test_a_count_of_zero_does_nothing(vm: VirtualMachine, move: str, prefix: str) -> None:
    """REP with a count of 0 makes no access and changes no register but RIP."""
    # Seen at the assist, as hardware makes no exit then: the count is set to 0 at the exit.
    strings = Strings(vm, move, 4)
    bench = strings.bench
    guest = bench.guest
    label = f"{prefix}_{strings.mnemonic}_4"
    registers = pattern(vm.mode) | {
        Gpr.RCX: 3, Gpr.RSI: strings.source + AT, Gpr.RDI: strings.target + TO,
        Gpr.RIP: guest.symbol(label), Gpr.RFLAGS: 2,
    }  # fmt: skip
    guest.registers.gpr.update(registers)
    guest.next_exit()
    guest.vcpu.state.gprs[Gpr.RCX] = 0
    guest.vcpu.assist_mem()
    after = {gpr: int(guest.vcpu.state.gprs[gpr]) for gpr in registers}
    registers |= {Gpr.RCX: 0, Gpr.RIP: guest.symbol(f"{label}_end")}
    run = guest.run()
    check.equal(run.mmio, (), "accesses")
    for gpr in set(registers) - {Gpr.RFLAGS}:
        check.equal(after[gpr], registers[gpr], gpr.name)


@requirement("L-REP-2", "L-REP-3")
@modes(*TWO)
@pytest.mark.parametrize("count", [0, 1, 5])
@pytest.mark.parametrize("size", [1, 2, 4])
@pytest.mark.parametrize("move", MOVES)
def test_rep_moves_as_many_as_it_counts(
    vm: VirtualMachine, move: str, size: int, count: int
) -> None:
    """REP moves RCX elements, up and down, each one access of its size, in order."""
    strings = Strings(vm, move, size)
    for direction in (0, DF):
        for flags in FLAGS_BEFORE:
            strings.run("rep_", count, flags | direction, count)


@requirement("L-REP-2", "L-REP-3")
@modes(Mode.LONG64)
@pytest.mark.parametrize("move", MOVES)
def test_rep_moves_eight_bytes_each(vm: VirtualMachine, move: str) -> None:
    """REP with REX.W moves RCX elements of eight bytes."""
    Strings(vm, move, 8).run("rep_", 4, 0, 4)


@requirement("L-REP-3", "L-GM-2")
@modes(*EVERY)
def test_rep_goes_on_for_long(vm: VirtualMachine) -> None:
    """REP goes on until its count is 0, however often it exits."""
    Strings(vm, "stos", 1).run("rep_", 200, 0, 200)


@requirement("L-REP-5")
@modes(*TWO)
@pytest.mark.parametrize("zf", [0, 1])
@pytest.mark.parametrize("move", MOVES)
def test_repne_is_rep_for_moves(vm: VirtualMachine, move: str, zf: int) -> None:
    """F2 before MOVS, STOS, LODS is a REP: ZF does not end it (SDM 2 "REP": notes)."""
    Strings(vm, move, 2).run("repne_", 4, ZF * zf, 4)


# NetBSD mem_assist 17 CMPS.


def _compares(
    vm: VirtualMachine, size: int, pairs: tuple[tuple[int, int], ...], defined: int
) -> None:
    bench = Bench(vm, GUEST)
    for index, (left, right) in enumerate(pairs):
        bench.put(AT, left, size)
        bench.put(TO, right, size)
        before = pattern(vm.mode) | {Gpr.RSI: DEVICE + AT, Gpr.RDI: DEVICE + TO}
        wanted = compute("cmp", left, right, size)
        effect = bench.execute(f"cmps_{size}", before, FLAGS_BEFORE[index % 2])
        bench.verify(
            effect,
            f"cmps {left:#x}, {right:#x}",
            accesses=[bench.reads(AT, left, size), bench.reads(TO, right, size)],
            registers={Gpr.RSI: DEVICE + AT + size, Gpr.RDI: DEVICE + TO + size},
            flags=wanted.flags,
            undefined=STATUS & ~defined,
        )


@requirement("L-DAT-5", "L-DAT-8")
@modes(*EVERY)
@pytest.mark.parametrize("size", [1, 2, 4])
def test_cmps_tells_what_is_equal(vm: VirtualMachine, size: int) -> None:
    """CMPS reads both operands, and sets ZF where they are equal."""
    _compares(vm, size, operands(size), ZF)


@requirement("L-DAT-5")
@modes(*EVERY)
@pytest.mark.parametrize("size", [1, 2, 4])
def test_cmps_subtracts_the_second_from_the_first(vm: VirtualMachine, size: int) -> None:
    """CMPS sets the flags of [rSI] minus [ES:rDI]."""
    _compares(vm, size, operands(size), STATUS)


@requirement("L-DAT-5", "L-DEC-4")
@modes(Mode.LONG64)
def test_cmps_of_eight_bytes(vm: VirtualMachine) -> None:
    """CMPS with REX.W compares eight bytes."""
    _compares(vm, 8, operands(8), ZF)


@requirement("L-REP-4", "L-REP-6")
@modes(*TWO)
@pytest.mark.parametrize("prefix", ["repe", "repne"])
@pytest.mark.parametrize("stops", [1, 2, 4])
@pytest.mark.parametrize("size", [1, 4])
def test_repe_and_repne_cmps_end_by_zf(
    vm: VirtualMachine, size: int, stops: int, prefix: str
) -> None:
    """REPE CMPS ends after the first pair that differs, REPNE after the first that does not."""
    bench = Bench(vm, GUEST)
    for number in range(5):
        differs = (number == stops - 1) == (prefix == "repe")
        bench.put(AT + number * size, 0x41 + number, size)
        bench.put(TO + number * size, 0x41 + number + differs * 0x10, size)
    before = pattern(vm.mode) | {Gpr.RSI: DEVICE + AT, Gpr.RDI: DEVICE + TO, Gpr.RCX: 5}
    effect = bench.execute(f"{prefix}_cmps_{size}", before)
    check.equal(effect.stop, "after it", "ends")
    check.equal(len(effect.accesses), 2 * stops, "reads")
    check.equal(effect.after[Gpr.RCX], 5 - stops, "RCX")
    check.equal(effect.after[Gpr.RSI], DEVICE + AT + stops * size, "RSI")
    check.equal(effect.after[Gpr.RDI], DEVICE + TO + stops * size, "RDI")
    check.equal(bool(effect.flags & ZF), prefix == "repne", "ZF")


@requirement("L-REP-4")
@modes(Mode.LONG64)
def test_repe_cmps_ends_by_its_count(vm: VirtualMachine) -> None:
    """REPE CMPS of pairs that are all equal ends with RCX 0 and ZF 1."""
    bench = Bench(vm, GUEST)
    before = pattern(vm.mode) | {Gpr.RSI: DEVICE + AT, Gpr.RDI: DEVICE + TO, Gpr.RCX: 5}
    effect = bench.execute("repe_cmps_4", before)
    check.equal((effect.after[Gpr.RCX], bool(effect.flags & ZF)), (0, True), "RCX, ZF")


@requirement("L-REP-1")
@modes(*TWO)
@pytest.mark.parametrize("count", [0, 5])
@pytest.mark.parametrize("prefix", ["f3", "f2"])
@pytest.mark.parametrize("form", ["mov_store", "mov_load", "or_store"])
def test_rep_before_another_instruction_is_ignored(
    vm: VirtualMachine, form: str, prefix: str, count: int
) -> None:
    """F3 and F2 before what is no string instruction change nothing; it is executed once."""
    # DragonFly mem_assist 17, REP.
    bench = Bench(vm, GUEST)
    bench.put(AT, 0x01020304, 4)
    before = pattern(vm.mode) | {Gpr.RBX: DEVICE + AT, Gpr.RCX: count}
    old, edx = 0x01020304, before[Gpr.RDX] & mask(4)
    effect = bench.execute(f"{form}_{prefix}", before, 0)
    stored = edx | old if form == "or_store" else edx
    accesses = [] if form == "mov_store" else [bench.reads(AT, old, 4)]
    accesses += [] if form == "mov_load" else [bench.writes(AT, stored, 4)]
    bench.verify(
        effect,
        f"{prefix} {form}, rCX {count}",
        accesses=accesses,
        registers={Gpr.RDX: old} if form == "mov_load" else {},
        flags=compute("or", edx, old, 4).flags if form == "or_store" else 0,
    )


# ---- the size of addresses ----------------------------------------------------------


def _short_addresses(vm: VirtualMachine, above: int) -> tuple[int, ...]:
    bench = Bench(vm, GUEST)
    bench.put(AT, 0x11, 1)
    bench.put(AT + 1, 0x22, 1)
    before = pattern(vm.mode) | {
        Gpr.RSI: DEVICE + AT | above, Gpr.RDI: DEVICE + TO | above, Gpr.RCX: 2 | above,
    }  # fmt: skip
    effect = bench.execute("rep_movs_67", before)
    wanted = [
        access
        for number, value in enumerate((0x11, 0x22))
        for access in (bench.reads(AT + number, value, 1), bench.writes(TO + number, value, 1))
    ]
    check.equal(effect.stop, "after it", "ends")
    check.equal(effect.accesses, tuple(wanted), "accesses")
    return tuple(effect.after[gpr] for gpr in (Gpr.RSI, Gpr.RDI, Gpr.RCX))


@requirement("L-REP-2", "L-DAT-8", "L-DEC-5")
@modes(Mode.LONG64)
def test_short_addresses_count_by_ecx(vm: VirtualMachine) -> None:
    """With prefix 67 in 64-bit mode only ECX, ESI and EDI count."""
    after = _short_addresses(vm, 0x5_00000000)
    low = tuple(value & mask(4) for value in after)
    check.equal(low, (DEVICE + AT + 2, DEVICE + TO + 2, 0), "ESI, EDI, ECX")


@requirement("L-REP-3", "L-DAT-7")
@modes(Mode.LONG64)
def test_short_addresses_clear_the_upper_halves(vm: VirtualMachine) -> None:
    """With prefix 67 in 64-bit mode RSI, RDI and RCX are written as ESI, EDI, ECX: extended."""
    after = _short_addresses(vm, 0x5_00000000)
    check.equal(after, (DEVICE + AT + 2, DEVICE + TO + 2, 0), "RSI, RDI, RCX")


@requirement("L-REP-2", "L-REP-3", "L-DAT-8")
@modes(Mode.REAL16)
def test_16_bit_addresses_count_by_cx(vm: VirtualMachine) -> None:
    """With 16-bit addresses only CX, SI, DI count, and ECX, ESI, EDI keep their upper halves."""
    bench = Bench(vm, GUEST)
    before = pattern(vm.mode) | {Gpr.RDI: 0x7_0000 + DEVICE + TO, Gpr.RCX: 0x9_0002}
    effect = bench.execute("rep_stos_1", before)
    check.equal(effect.stop, "after it", "ends")
    check.equal(len(effect.accesses), 2, "writes")
    wanted = (0x7_0000 + DEVICE + TO + 2, 0x9_0000)
    check.equal((effect.after[Gpr.RDI], effect.after[Gpr.RCX]), wanted, "EDI, ECX")


@requirement("L-DAT-7")
@modes(Mode.REAL16)
@pytest.mark.parametrize("direction", ["up", "down"])
def test_index_wraps_in_its_size(vm: VirtualMachine, direction: str) -> None:
    """DI goes from 0xFFFF to 0 and back, and the rest of EDI stays as it is."""
    base = base_of(vm.mode)
    ends = [Mmio(base + 0xF000), Mmio(base + OTHER)]
    bench = Bench(vm, GUEST, also=ends)
    if direction == "up":
        first, flags, last = 0x3_FFFF, 0, 0x3_0000
        bench.guest.registers.seg[Segment.ES].base = base
    else:
        # ES begins where the device does, so that its offset 0 exits.
        first, flags, last = 0x3_0000, DF, 0x3_FFFF
        bench.guest.registers.seg[Segment.ES].base = base + OTHER
    effect = bench.execute("stos_1", {Gpr.RDI: first}, flags)
    check.equal(effect.stop, "after it", "ends")
    check.equal(effect.after[Gpr.RDI], last, "EDI")


# ---- segments -----------------------------------------------------------------------


def _fs_is_ram(vm: VirtualMachine, label: str) -> tuple[bytes, int]:
    """Run `label` with DS:rSI and FS:rSI different, and ES at the device: what was written."""
    bench = Bench(vm, GUEST)
    registers = bench.guest.registers
    base = base_of(vm.mode)
    registers.seg[Segment.FS].base = base + 0x800
    bench.guest.write(base + OTHER, b"\xd5" * 0x10)
    bench.guest.write(base + OTHER + 0x800, b"\xf5" * 0x10)
    before = {Gpr.RSI: OTHER, Gpr.RDI: DEVICE + TO, Gpr.RAX: 0xAA}
    effect = bench.execute(label, before)
    check.equal(effect.stop, "after it", "ends")
    [access] = effect.accesses
    return access.data, access.gpa - bench.gpa


@requirement("L-DAT-8", "L-DEC-2")
@modes(*EVERY)
@pytest.mark.parametrize(("segment", "value"), [("ds", 0xD5), ("fs", 0xF5)])
def test_override_is_for_the_source(vm: VirtualMachine, segment: str, value: int) -> None:
    """A segment override of MOVS is that of its source; the destination stays in ES."""
    data, offset = _fs_is_ram(vm, f"movs_{segment}")
    check.equal((data, offset), (bytes([value]), TO), "byte and place")


@requirement("L-DAT-8", "L-DEC-2")
@modes(*EVERY)
def test_last_override_counts(vm: VirtualMachine) -> None:
    """Of several segment overrides the last one holds."""
    data, offset = _fs_is_ram(vm, "movs_ds_fs")
    check.equal((data, offset), (b"\xf5", TO), "byte and place")


@requirement("L-DAT-8")
@modes(*EVERY)
def test_stos_ignores_an_override(vm: VirtualMachine) -> None:
    """STOS writes to ES whatever segment a prefix names."""
    data, offset = _fs_is_ram(vm, "stos_fs")
    check.equal((data, offset), (b"\xaa", TO), "byte and place")


@requirement("L-DAT-8", "L-DEC-13")
@modes(Mode.REAL16, Mode.PROT32, Mode.COMPAT32)
def test_base_of_ds_counts_for_movs(vm: VirtualMachine) -> None:
    """Outside 64-bit mode MOVS adds the base of DS, in compatibility mode too."""
    bench = Bench(vm, GUEST)
    base = base_of(vm.mode)
    bench.guest.registers.seg[Segment.DS].base = base + 0x800
    bench.guest.write(base + OTHER, b"\x11")
    bench.guest.write(base + OTHER + 0x800, b"\x22")
    effect = bench.execute("movs_1", {Gpr.RSI: OTHER, Gpr.RDI: DEVICE + TO})
    check.equal(effect.accesses, (bench.writes(TO, 0x22, 1),), "the device")


@requirement("L-DAT-8", "L-IO-10")
@modes(Mode.PROT32)
@pytest.mark.parametrize("kind", ["read-only", "code"])
def test_movs_to_a_segment_that_may_not_be_written(vm: VirtualMachine, kind: str) -> None:
    """MOVS from a device to a segment that may not be written stores nothing (SDM 3A 5.5): it
    is the processor that finds it, or the assist."""
    flags = {"read-only": 0xC09100, "code": 0xC09B00}[kind]
    bench = Bench(vm, GUEST)
    segments, ram = bench.guest.registers.seg, base_of(vm.mode) + OTHER
    segments[Segment.ES] = replace(segments[Segment.ES], flags=flags)
    bench.put(AT, 0x77, 1)
    bench.guest.write(ram + TO, b"\x11")
    effect = bench.execute("movs_1", {Gpr.RSI: DEVICE + AT, Gpr.RDI: OTHER + TO})
    check(effect.stop != AFTER, f"{kind}: it is not done")
    check.equal(bench.guest.memory(ram + TO, 1), b"\x11", f"{kind}: what is there")


@requirement("L-DAT-8")
@modes(Mode.LONG64)
@pytest.mark.parametrize("segment", [Segment.DS, Segment.ES])
def test_64_bit_mode_has_no_base_of_ds_and_es(vm: VirtualMachine, segment: Segment) -> None:
    """In 64-bit mode bases of DS and ES count as 0."""
    bench = Bench(vm, GUEST)
    bench.guest.registers.seg[segment].base = 0x800
    bench.put(AT, 0x77, 1)
    effect = bench.execute("movs_1", {Gpr.RSI: DEVICE + AT, Gpr.RDI: DEVICE + TO})
    accesses = (bench.reads(AT, 0x77, 1), bench.writes(TO, 0x77, 1))
    check.equal(effect.accesses, accesses, "the device")


# ---- the edges of pages -------------------------------------------------------------


@requirement("L-GM-2", "L-GM-4")
@modes(*EVERY)
@pytest.mark.parametrize("inside", [1, 2, 3])
def test_movs_into_ram_and_device(vm: VirtualMachine, inside: int) -> None:
    """Of a MOVS that ends in the device's page, RAM gets its part and the device the rest."""
    bench = Bench(vm, GUEST)
    base = base_of(vm.mode)
    bench.guest.write(base + OTHER, bytes.fromhex("11223344"))
    before = {Gpr.RSI: OTHER, Gpr.RDI: DEVICE - 4 + inside}
    effect = bench.execute("movs_4", before)
    in_ram = bench.guest.memory(base + DEVICE - 4 + inside, 4 - inside)
    check.equal(in_ram, bytes.fromhex("11223344")[: 4 - inside], "in RAM")
    to_device = b"".join(one.data for one in effect.accesses)
    check.equal(to_device, bytes.fromhex("11223344")[4 - inside :], "to the device")
    check.equal([one.gpa for one in effect.accesses][:1], [bench.gpa], "from its first byte")
    check.equal(effect.stop, "after it", "ends")


@requirement("L-GM-2")
@modes(Mode.REAL16, Mode.LONG64)
@pytest.mark.parametrize("inside", [1, 2, 3])
def test_movs_over_the_edge_of_two_ram_pages(vm: VirtualMachine, inside: int) -> None:
    """A MOVS from the device over the edge of two pages of RAM writes both."""
    bench = Bench(vm, GUEST)
    bench.put(AT, 0x44332211, 4)
    place = OTHER + 0x1000 - inside
    bench.execute("movs_4", {Gpr.RSI: DEVICE + AT, Gpr.RDI: place})
    there = bench.guest.memory(base_of(vm.mode) + place, 4)
    check.equal(there, bytes.fromhex("11223344"), "in RAM")


@requirement("L-MEM-7")
@modes(*EVERY)
@pytest.mark.parametrize("size", [2, 4])
def test_store_over_the_edge_of_ram_and_device(vm: VirtualMachine, size: int) -> None:
    """A MOV that begins in RAM and ends in the device's page writes each its part."""
    bench = Bench(vm, GUEST)
    before = {Gpr.RBX: DEVICE - 1, Gpr.RDX: 0x44332211}
    effect = bench.execute(f"mov_edge_{size}", before)
    check.equal(effect.stop, "after it", "ends")
    check.equal(bench.guest.memory(bench.gpa - 1, 1), b"\x11", "in RAM")
    data = bytes.fromhex("11223344")[1:size]
    written = [(one.gpa, one.data) for one in effect.accesses]
    check.equal(written, [(bench.gpa, data)], "to the device")


@requirement("L-MEM-7")
@modes(Mode.PROT32, Mode.LONG64)
def test_load_over_the_edge_of_two_devices(vm: VirtualMachine) -> None:
    """A MOV of four bytes that two devices share gets from each what it has."""
    other = Mmio(base_of(vm.mode) + DEVICE + 0x1000, answer=b"\x33\x44")
    bench = Bench(vm, GUEST, also=[other])
    bench.put(0xFFE, 0x2211, 2)
    effect = bench.execute("mov_load_edge", {Gpr.RBX: DEVICE + 0xFFE})
    check.equal(effect.after[Gpr.RDX], 0x44332211, "EDX")


@requirement("L-REP-3", "A-EXIT-3")
@modes(*EVERY)
def test_rep_movs_runs_on_in_ram(vm: VirtualMachine) -> None:
    """A REP MOVS that comes from RAM to the device and ends there moves every byte once."""
    bench = Bench(vm, GUEST)
    base = base_of(vm.mode)
    text = bytes(range(1, 33))
    bench.guest.write(base + OTHER, text)
    gprs = bench.guest.registers.gpr
    gprs |= {Gpr.RSI: OTHER, Gpr.RDI: DEVICE - 16, Gpr.RCX: 32}
    gprs[Gpr.RIP] = bench.guest.symbol("rep_movs_1")
    run = bench.guest.run()
    check.equal(run.reason, Stop.HALTED, "ends")
    check.equal(run.memory(base + DEVICE - 16, 16), text[:16], "in RAM")
    check.equal(b"".join(one.data for one in run.mmio), text[16:], "to the device")
