# SPDX-License-Identifier: BSD-2-Clause
"""Segment registers: what a load takes from the descriptor, what the hidden part is good for.

SDM 3A 3.4 (segments, descriptors), 3.5 (LDT, system descriptors), 5.3 to 5.8 (limits, types,
privilege), 2.4 (GDTR, LDTR, IDTR, TR); SDM 2 "LAR", "LSL", "VERR"; APM 2 4.5 to 4.8.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
from insn_bench import DONE, Bench

from nvmmconf.suite import (
    Gpr,
    Mode,
    Segment,
    SegmentRegister,
    VirtualMachine,
    check,
    modes,
    requirement,
)
from nvmmconf.suite.stubs import GDT

LEGACY = modes(Mode.PROT32, Mode.COMPAT32)
PROTECTED = modes(Mode.PROT32, Mode.COMPAT32, Mode.LONG64)

NEW = 0x60
"""The selector of the first descriptor that a case makes."""
LDT_AT = 0x5800
ZF = 0x40


@dataclass(frozen=True)
class Descriptor:
    """A descriptor of eight bytes; `limit` is the field of 20 bits."""

    type: int
    base: int = 0
    limit: int = 0xFFFFF
    s: int = 1
    dpl: int = 0
    p: int = 1
    avl: int = 0
    l: int = 0  # noqa: E741 (the SDM's name)
    db: int = 0
    g: int = 0

    @property
    def flags(self) -> int:
        """The attributes, where the second doubleword has them."""
        high = self.type << 8 | self.s << 12 | self.dpl << 13 | self.p << 15
        return high | self.avl << 20 | self.l << 21 | self.db << 22 | self.g << 23

    @property
    def bytes_limit(self) -> int:
        """The limit in bytes."""
        return self.limit << 12 | 0xFFF if self.g else self.limit

    @property
    def data(self) -> bytes:
        """As memory has it."""
        low = self.base << 16 & 0xFFFF0000 | self.limit & 0xFFFF
        high = self.flags | self.base & 0xFF000000 | self.base >> 16 & 0xFF | self.limit & 0xF0000
        return (high << 32 | low).to_bytes(8, "little")

    def register(self, selector: int) -> SegmentRegister:
        """The register that it is loaded into; the processor marks it accessed."""
        flags = self.flags | (0x100 if self.s else 0)
        return SegmentRegister(selector, self.base, self.bytes_limit, flags)


READ_WRITE = Descriptor(2, base=0x12345678, limit=0x4321)


def _bench(
    vm: VirtualMachine, code: dict[str, str], *descriptors: Descriptor, user: bool = False
) -> Bench:
    """A bench with these descriptors from selector NEW on."""
    bench = Bench(vm, code, user=user)
    bench.stubs.registers.seg[Segment.GDT].limit = 0x1FF
    for index, one in enumerate(descriptors):
        bench.guest.write(GDT + NEW + 8 * index, one.data)
    return bench


# ---- loads ----

LOADED = {
    "read-only": Descriptor(0, base=0x1000, limit=0x10),
    "read-write": Descriptor(2, base=0xFEDCBA98, limit=0xFEDCB),
    "expand-down": Descriptor(4, limit=0x1234),
    "expand-down-writable": Descriptor(6, limit=0x1234, db=1),
    "code-readable": Descriptor(10, base=0x8000, limit=0xFFFF),
    "conforming-readable": Descriptor(14, db=1),
    "dpl-1": Descriptor(2, dpl=1),
    "dpl-3": Descriptor(2, dpl=3),
    "available": Descriptor(2, avl=1),
    "big": Descriptor(2, db=1),
    "granular": Descriptor(2, limit=0x12345, g=1),
    "granular-0": Descriptor(2, limit=0, g=1, db=1),
    "accessed": Descriptor(3, limit=0),
}


@requirement("A-REG-3", "A-REG-10", "K-SET-1")
@PROTECTED
@pytest.mark.parametrize("name", LOADED)
def test_load_takes_the_descriptor(vm: VirtualMachine, name: str) -> None:
    """MOV to FS takes base, limit and all attributes from the descriptor, and marks it accessed."""
    one = LOADED[name]
    bench = _bench(vm, {"load": "mov fs, eax"}, one)
    check.equal(bench.execute("load", {Gpr.RAX: NEW}).end, DONE, "MOV")
    got = bench.guest.state().seg[Segment.FS]
    wanted = one.register(NEW)
    check.equal(got.selector, wanted.selector, "selector")
    check.equal(got.base, wanted.base, "base")
    check.equal(got.limit, wanted.limit, "limit")
    check.equal(got.flags, wanted.flags, "attributes")
    check.equal(bench.guest.memory(GDT + NEW, 8), replace(one, type=one.type | 1).data, "GDT")


@requirement("A-REG-3", "A-REG-10")
@PROTECTED
@pytest.mark.parametrize("segment", [Segment.DS, Segment.ES, Segment.FS, Segment.GS, Segment.SS])
def test_load_changes_one_register(vm: VirtualMachine, segment: Segment) -> None:
    """A load changes the register that it names, and no other."""
    one = Descriptor(2, limit=0xABCDE, avl=1, g=1, db=1)
    bench = _bench(vm, {"load": f"mov {segment.name.lower()}, eax"}, one)
    before = bench.guest.state().seg
    check.equal(bench.execute("load", {Gpr.RAX: NEW}).end, DONE, "MOV")
    after = bench.guest.state().seg
    for other in Segment:
        wanted = one.register(NEW) if other is segment else before[other]
        check.equal(after[other], wanted, other.name)


@requirement("A-REG-3", "A-REG-10")
@modes(Mode.REAL16)
@pytest.mark.parametrize("segment", [Segment.DS, Segment.ES, Segment.FS, Segment.GS, Segment.SS])
def test_load_in_real_mode(vm: VirtualMachine, segment: Segment) -> None:
    """In real mode a load makes the base 16 times the selector, and leaves limit and access."""
    bench = _bench(vm, {"load": f"mov {segment.name.lower()}, ax"})
    before = bench.stubs.registers.seg[segment]
    for selector in (0x1234, 0xFFFF, 0):
        check.equal(bench.execute("load", {Gpr.RAX: selector}).end, DONE, "MOV")
        got = bench.guest.state().seg[segment]
        check.equal(got, replace(before, selector=selector, base=selector << 4), "register")


@requirement("K-SET-11", "A-REG-3", "K-SET-1")
@PROTECTED
@pytest.mark.parametrize("user", [False, True])
@pytest.mark.parametrize("selector", [0, 3])
def test_null_selector(vm: VirtualMachine, selector: int, user: bool) -> None:
    """A null selector loads without fault and makes the register absent, whatever CPL; the
    state can be fetched and set again, and the register stays null (BH-86)."""
    code = {"load": "mov ds, eax\nmov es, eax\nmov fs, eax\nmov gs, eax", "go_on": "nop"}
    bench = _bench(vm, code, user=user)
    check.equal(bench.execute("load", {Gpr.RAX: selector}).end, DONE, "MOV")
    for _ in range(2):
        for segment in (Segment.DS, Segment.ES, Segment.FS, Segment.GS):
            got = bench.guest.registers.seg[segment]  # which are set again
            check.equal(got.selector, selector, f"{segment.name} selector")
            check.equal(got.flags >> 15 & 1, 0, f"{segment.name} P")
        check.equal(bench.execute("go_on").end, DONE, "NOP")


@requirement("K-SET-11", "K-SET-1")
@LEGACY
@pytest.mark.parametrize("how", ["loaded", "set"])
def test_access_by_null_selector(vm: VirtualMachine, how: str) -> None:
    """Outside 64-bit mode an access by a null register raises #GP(0), set by whom it may be."""
    bench = _bench(vm, {"load": "mov fs, eax", "read": "mov eax, fs:[0x5000]"})
    if how == "loaded":
        bench.execute("load", {Gpr.RAX: 0})
    else:
        bench.stubs.registers.seg[Segment.FS] = SegmentRegister(0, 0, 0, 0)
    check.equal(bench.execute("read").end, "#GP(0)", "MOV")


# ---- limits ----


@dataclass(frozen=True)
class Reach:
    """An access of `size` bytes at `offset`, within the limit or not."""

    descriptor: Descriptor
    offset: int
    size: int
    good: bool


SMALL, PAGES = Descriptor(3, base=0x4000, limit=0xFF), Descriptor(3, base=0x4000, limit=0, g=1)
DOWN = Descriptor(7, base=0x4000, limit=0xFFF)
REACHES = {
    "first-byte": Reach(SMALL, 0, 1, True),
    "last-byte": Reach(SMALL, 0xFF, 1, True),
    "one-too-far": Reach(SMALL, 0x100, 1, False),
    "last-dword": Reach(SMALL, 0xFC, 4, True),
    "dword-half-out": Reach(SMALL, 0xFD, 4, False),
    "offset-wraps": Reach(SMALL, 0xFFFFFFFE, 4, False),
    "last-byte-of-page": Reach(PAGES, 0xFFF, 1, True),
    "behind-page": Reach(PAGES, 0x1000, 1, False),
    "dword-half-behind-page": Reach(PAGES, 0xFFE, 4, False),
    "below-expand-down": Reach(DOWN, 0xFFF, 1, False),
    "zero-of-expand-down": Reach(DOWN, 0, 4, False),
    "first-of-expand-down": Reach(DOWN, 0x1000, 4, True),
    "last-of-expand-down": Reach(DOWN, 0xFFFC, 4, True),
    "dword-over-64k": Reach(DOWN, 0xFFFE, 4, False),
    "big-expand-down": Reach(replace(DOWN, db=1), 0x10000, 4, True),
    "below-big-expand-down": Reach(replace(DOWN, db=1), 0xFFD, 4, False),
}


@requirement("A-REG-3", "K-SET-1")
@LEGACY
@pytest.mark.parametrize("name", REACHES)
def test_limit(vm: VirtualMachine, name: str) -> None:
    """An access beyond the limit is #GP(0), the last one within is not, whoever has set it."""
    reach = REACHES[name]
    register = {1: "al", 4: "eax"}[reach.size]
    code = {"load": "mov fs, ecx", "read": f"mov {register}, fs:[ebx]"}
    bench = _bench(vm, code, reach.descriptor)
    linear = reach.descriptor.base + reach.offset & 0xFFFFFFFF
    if reach.good:
        bench.guest.write(linear, b"\x11\x22\x33\x44")
    for how in ("the guest", "the caller"):
        if how == "the guest":
            check.equal(bench.execute("load", {Gpr.RCX: NEW}).end, DONE, "MOV to FS")
        else:
            bench.stubs.registers.seg[Segment.FS] = reach.descriptor.register(NEW)
        effect = bench.execute("read", {Gpr.RBX: reach.offset, Gpr.RAX: 0})
        check.equal(effect.end, DONE if reach.good else "#GP(0)", f"MOV, FS set by {how}")
        if reach.good:
            wanted = 0x44332211 & (1 << 8 * reach.size) - 1
            check.equal(effect.gpr[Gpr.RAX], wanted, f"read, FS set by {how}")


@requirement("A-REG-3", "K-SET-1")
@modes(Mode.LONG64)
def test_64_bit_mode_has_no_limits(vm: VirtualMachine) -> None:
    """In 64-bit mode limits, and the bases of all but FS and GS, count for nothing."""
    code = {f"by_{s}": f"mov eax, {s}:[rbx]" for s in ("ds", "es", "fs", "gs")}
    bench = _bench(vm, code)
    bench.guest.write(0x5000, b"\x11\x22\x33\x44")
    bench.guest.write(0x5800, b"\x55\x66\x77\x88")
    for segment in (Segment.DS, Segment.ES, Segment.FS, Segment.GS):
        bench.stubs.registers.seg[segment] = SegmentRegister(0x10, 0x800, 0, 0x9300)
    for name, wanted in (("ds", 0x44332211), ("es", 0x44332211)):
        check.equal(bench.execute(f"by_{name}", {Gpr.RBX: 0x5000}).gpr[Gpr.RAX], wanted, name)
    for name, wanted in (("fs", 0x88776655), ("gs", 0x88776655)):
        check.equal(bench.execute(f"by_{name}", {Gpr.RBX: 0x5000}).gpr[Gpr.RAX], wanted, name)


RIGHTS = {
    "write-read-only": (1, "mov fs:[ebx], eax", False),
    "read-read-only": (1, "mov eax, fs:[ebx]", True),
    "write-expand-down-read-only": (5, "mov fs:[ebx], eax", False),
    "write-code": (11, "mov fs:[ebx], eax", False),
    "read-code": (11, "mov eax, fs:[ebx]", True),
    "read-conforming": (15, "mov eax, fs:[ebx]", True),
}


@requirement("A-REG-3", "K-SET-1")
@LEGACY
@pytest.mark.parametrize("name", RIGHTS)
def test_type_of_a_segment_that_was_set(vm: VirtualMachine, name: str) -> None:
    """The type that the caller has set decides what the guest may do."""
    kind, insn, good = RIGHTS[name]
    bench = _bench(vm, {"access": insn})
    limit = 0x100 if kind == 5 else 0xFFFF
    bench.stubs.registers.seg[Segment.FS] = Descriptor(kind, limit=limit).register(NEW)
    effect = bench.execute("access", {Gpr.RBX: 0x5000})
    check.equal(effect.end, DONE if good else "#GP(0)", insn)


@requirement("A-REG-3", "K-SET-1")
@LEGACY
def test_execute_only_code(vm: VirtualMachine) -> None:
    """Code that was set without the right to read executes, and its data are #GP(0)."""
    bench = _bench(vm, {"access": "mov eax, cs:[ebx]", "nothing": "nop"})
    cs = bench.stubs.registers.seg[Segment.CS]
    bench.set_segment(Segment.CS, replace(cs, flags=cs.flags & ~0x200))
    check.equal(bench.execute("nothing").end, DONE, "NOP")
    check.equal(bench.execute("access", {Gpr.RBX: 0x5000}).end, "#GP(0)", "MOV")


# ---- privilege ----

PRIVILEGED = {"privileged": "cli", "selector": "mov eax, cs"}


@requirement("K-SET-9", "A-REG-12")
@PROTECTED
@pytest.mark.parametrize("conforming", [False, True])
def test_privilege_that_was_set(vm: VirtualMachine, conforming: bool) -> None:
    """CPL is SS.DPL: with 3 CLI is #GP(0), also in conforming code of DPL 0 (BH-85)."""
    bench = _bench(vm, PRIVILEGED, user=True)
    if conforming:
        cs = bench.stubs.registers.seg[Segment.CS]
        flags = cs.flags & ~0x6000 | 0x400
        bench.set_segment(Segment.CS, replace(cs, selector=NEW | 3, flags=flags))
    check.equal(bench.execute("privileged").end, "#GP(0)", "CLI")
    check.equal(bench.execute("selector").gpr[Gpr.RAX] & 3, 3, "RPL of CS")


@requirement("K-SET-9", "A-REG-12")
@PROTECTED
def test_conforming_code_keeps_the_level(vm: VirtualMachine) -> None:
    """A far return within CPL 3 to conforming code of DPL 0 stays at CPL 3 (BH-85)."""
    long = vm.mode is Mode.LONG64
    retf = "retfq" if long else "retf"
    go = f"push {NEW | 3}\npush offset inside\n{retf}\ninside: in al, 0x99\nlast: rdmsr"
    code = Descriptor(14, db=not long, l=long, g=1)
    bench = _bench(vm, {"go": go}, code, user=True)
    effect = bench.execute("go", flags=0x3000)  # IOPL 3: the IN exits
    check.equal(effect.end.split(" ")[0], "#GP(0)", "RDMSR")
    if effect.frame is not None:
        check.equal(effect.frame.ip, bench.guest.symbol("last"), "RIP pushed")
        check.equal(effect.frame.cs, NEW | 3, "CS pushed")


@requirement("K-SET-9", "A-REG-12", "A-SYNC-4")
@PROTECTED
def test_privilege_outlives_an_exit(vm: VirtualMachine) -> None:
    """After an exit, and all state fetched and set again, the guest is at CPL 3 as before."""
    code = {"go": "in al, 0x99\nmov eax, cs\nfinal: rdmsr"}
    bench = Bench(vm, code, user=True)
    effect = bench.execute("go", flags=0x3000)
    check.equal(effect.end.split(" ")[0], "#GP(0)", "RDMSR")
    check.equal(effect.frame.ip if effect.frame else None, bench.guest.symbol("final"), "RIP")
    check.equal(effect.gpr[Gpr.RAX] & 3, 3, "RPL of CS")


# ---- LDT, TR, tables ----


@requirement("A-REG-3")
@PROTECTED
@pytest.mark.parametrize("how", ["loaded", "set"])
def test_ldt(vm: VirtualMachine, how: str) -> None:
    """Selectors with TI=1 name the LDT's descriptors, whether LLDT or the caller has set it."""
    table = Descriptor(2, base=LDT_AT, limit=0x17, s=0)
    code = {"lldt": "lldt ax", "load": "mov fs, eax", "sldt": "sldt eax"}
    bench = _bench(vm, code, table)
    one = Descriptor(2, base=0x1234, limit=0x56)
    bench.guest.write(LDT_AT + 0x10, one.data)
    if how == "loaded":
        check.equal(bench.execute("lldt", {Gpr.RAX: NEW}).end, DONE, "LLDT")
    else:
        bench.stubs.registers.seg[Segment.LDT] = table.register(NEW)
    check.equal(bench.execute("load", {Gpr.RAX: 0x14}).end, DONE, "MOV")
    state = bench.guest.state()
    check.equal(state.seg[Segment.LDT], table.register(NEW), "LDTR")
    check.equal(state.seg[Segment.FS], one.register(0x14), "FS")
    check.equal(bench.execute("sldt").gpr[Gpr.RAX], NEW, "SLDT")
    check.equal(bench.execute("load", {Gpr.RAX: 0x1C}).end, "#GP(0x1c)", "MOV beyond the LDT")


@requirement("A-REG-3", "K-SET-11")
@PROTECTED
def test_null_ldt(vm: VirtualMachine) -> None:
    """With a null LDTR a selector with TI=1 is #GP(selector); the LDTR stays null (BH-86)."""
    bench = _bench(vm, {"lldt": "lldt ax", "load": "mov fs, eax"})
    check.equal(bench.execute("lldt", {Gpr.RAX: 0}).end, DONE, "LLDT")
    check.equal(bench.execute("load", {Gpr.RAX: 4}).end, "#GP(0x4)", "MOV")
    ldt = bench.guest.state().seg[Segment.LDT]
    check.equal((ldt.selector, ldt.flags >> 15 & 1), (0, 0), "LDTR: selector, P")


@requirement("A-REG-3", "A-REG-10")
@PROTECTED
def test_task_register(vm: VirtualMachine) -> None:
    """LTR loads TR and marks the TSS busy, there and in memory; STR tells the selector."""
    task = Descriptor(9, base=0xA000, limit=0x67, s=0)
    bench = _bench(vm, {"ltr": "ltr ax", "str_": "str eax"}, task)
    check.equal(bench.execute("ltr", {Gpr.RAX: NEW}).end, DONE, "LTR")
    check.equal(bench.guest.state().seg[Segment.TR], replace(task, type=11).register(NEW), "TR")
    check.equal(bench.guest.memory(GDT + NEW, 8), replace(task, type=11).data, "GDT")
    check.equal(bench.execute("str_").gpr[Gpr.RAX], NEW, "STR")


@requirement("A-REG-3")
@PROTECTED
def test_task_register_that_was_set(vm: VirtualMachine) -> None:
    """STR tells the selector that the caller has set, and the TSS's stack is used."""
    bench = _bench(vm, {"str_": "str eax", "fault": "ud2"}, user=True)
    tr = bench.stubs.registers.seg[Segment.TR]
    bench.stubs.registers.seg[Segment.TR] = replace(tr, selector=0x38)
    check.equal(bench.execute("str_").gpr[Gpr.RAX] & 0xFFFF, 0x38, "STR")
    check.equal(bench.execute("fault").end, "#UD", "UD2, on the TSS's stack")


@requirement("A-REG-3", "A-REG-10")
@modes(Mode.REAL16, Mode.PROT32, Mode.LONG64)
@pytest.mark.parametrize("table", [Segment.GDT, Segment.IDT])
def test_table_registers(vm: VirtualMachine, table: Segment) -> None:
    """LGDT and LIDT take limit and base whole, and SGDT and SIDT store what was set."""
    letter = "g" if table is Segment.GDT else "i"
    at = "[ebx]" if vm.mode is not Mode.LONG64 else "[rbx]"
    o32 = ".byte 0x66\n" if vm.mode is Mode.REAL16 else ""
    bench = Bench(vm, {"load": f"{o32}l{letter}dt {at}", "store": f"{o32}s{letter}dt {at}"})
    width = 8 if vm.mode is Mode.LONG64 else 4
    shift = 0x20000 if vm.mode is Mode.REAL16 else 0
    base = 0xFFFF80009ABCDEF0 if width == 8 else 0x9ABCDEF0
    image = (0x1234).to_bytes(2, "little") + base.to_bytes(width, "little")
    bench.guest.write(shift + 0xF00, image)
    kept = bench.guest.state().seg[table]
    check.equal(bench.execute("load", {Gpr.RBX: 0xF00}).end, DONE, "load")
    got = bench.guest.state().seg[table]
    check.equal((got.base, got.limit), (base, 0x1234), "base, limit")
    bench.stubs.registers.seg[table] = replace(kept, base=base ^ 0x1111, limit=0x4321)
    check.equal(bench.execute("store", {Gpr.RBX: 0xF00}).end, DONE, "store")
    stored = bench.guest.memory(shift + 0xF00, 2 + width)
    wanted = (0x4321).to_bytes(2, "little") + (base ^ 0x1111).to_bytes(width, "little")
    check.equal(stored, wanted, "what was stored")


@requirement("A-REG-3")
@modes(Mode.REAL16)
@pytest.mark.parametrize("table", ["g", "i"])
def test_table_register_with_24_bits(vm: VirtualMachine, table: str) -> None:
    """LGDT and LIDT with 16-bit operands take 24 bits of the base (SDM 2 "LGDT")."""
    bench = Bench(vm, {"load": f".byte 0x0F, 0x01, {0x17 if table == 'g' else 0x1F:#x}"})  # [bx]
    bench.guest.write(0x20F00, bytes.fromhex("3412f0debc9a"))
    check.equal(bench.execute("load", {Gpr.RBX: 0xF00}).end, DONE, "load")
    got = bench.guest.state().seg[Segment.GDT if table == "g" else Segment.IDT]
    check.equal((got.base, got.limit), (0xBCDEF0, 0x1234), "base, limit")


# ---- LAR, LSL, VERR, VERW ----


@dataclass(frozen=True)
class Probe:
    """What the four instructions say of a descriptor at CPL 0."""

    descriptor: Descriptor
    lar: bool = True
    lsl: bool = True
    verr: bool = True
    verw: bool = True
    legacy: bool = False
    """The type is reserved in long mode."""


PROBES = {
    "data": Probe(Descriptor(3, base=0x12345678, limit=0xABCDE, avl=1, db=1)),
    "granular": Probe(Descriptor(2, limit=0x12345, g=1)),
    "read-only": Probe(Descriptor(0, limit=0x12), verw=False),
    "absent": Probe(Descriptor(2, p=0)),
    "code": Probe(Descriptor(10, dpl=3, db=1), verw=False),
    "execute-only": Probe(Descriptor(8), verr=False, verw=False),
    "conforming": Probe(Descriptor(14), verw=False),
    "tss": Probe(Descriptor(9, s=0, limit=0x67), verr=False, verw=False),
    "busy-tss": Probe(Descriptor(11, s=0, limit=0x67), verr=False, verw=False),
    "ldt": Probe(Descriptor(2, s=0, limit=0x67), verr=False, verw=False),
    "call-gate": Probe(Descriptor(12, s=0), lsl=False, verr=False, verw=False),
    "16-bit-tss": Probe(Descriptor(1, s=0), verr=False, verw=False, legacy=True),
    "task-gate": Probe(Descriptor(5, s=0), lsl=False, verr=False, verw=False, legacy=True),
    "interrupt-gate": Probe(Descriptor(14, s=0), False, False, False, False),
    "reserved": Probe(Descriptor(0, s=0), False, False, False, False),
}
QUESTIONS = {
    "ask_lar": "lar eax, ecx",
    "ask_lsl": "lsl eax, ecx",
    "ask_verr": "verr cx",
    "ask_verw": "verw cx",
}


@requirement("A-REG-3")
@modes(Mode.PROT32, Mode.LONG64)
@pytest.mark.parametrize("name", PROBES)
def test_questions_about_descriptors(vm: VirtualMachine, name: str) -> None:
    """LAR, LSL, VERR and VERW answer from the descriptor, and leave all where it is no good."""
    probe = PROBES[name]
    known = vm.mode is Mode.PROT32 or not probe.legacy
    bench = _bench(vm, QUESTIONS, probe.descriptor)
    answers = {"lar": probe.descriptor.flags & 0xF0FF00, "lsl": probe.descriptor.bytes_limit}
    for question in ("lar", "lsl", "verr", "verw"):
        good = known and getattr(probe, question)
        flags = 0 if good else ZF
        effect = bench.execute(f"ask_{question}", {Gpr.RCX: NEW, Gpr.RAX: 0x5A5A5A5A}, flags=flags)
        check.equal(effect.end, DONE, question)
        check.equal(bool(effect.gpr[Gpr.RFLAGS] & ZF), good, f"ZF of {question}")
        if question in answers:
            got = effect.gpr[Gpr.RAX]
            if question == "lar" and good:
                got &= 0xFFF0FFFF  # undefined
            check.equal(got, answers[question] if good else 0x5A5A5A5A, question)


@requirement("A-REG-3", "K-SET-9")
@PROTECTED
@pytest.mark.parametrize("selector", [0, 0x10, NEW, NEW + 8, 0x1230])
def test_questions_at_cpl_3(vm: VirtualMachine, selector: int) -> None:
    """At CPL 3 they say no of a descriptor of DPL 0 that is not conforming code, of null, and
    of what lies beyond the table."""
    bench = _bench(vm, QUESTIONS, Descriptor(15), Descriptor(3, dpl=3), user=True)
    for question in QUESTIONS:
        effect = bench.execute(question, {Gpr.RCX: selector, Gpr.RAX: 0})
        check.equal(effect.end, DONE, question)
        good = selector == NEW + 8 or (selector == NEW and question != "ask_verw")
        check.equal(bool(effect.gpr[Gpr.RFLAGS] & ZF), good, f"ZF of {question}")


# ---- task switch ----


@requirement("K-INV-2", "A-REG-3")
@modes(Mode.PROT32)
def test_hardware_task_switch(vm: VirtualMachine) -> None:
    """A jump to a TSS goes on in that task, with its registers, and TR names it (SDM 3A 7.3)."""
    task = Descriptor(9, base=0xB000, limit=0x67, s=0)
    go = f".byte 0xEA, 0, 0, 0, 0, {NEW:#x}, 0\nthere: hlt"
    bench = _bench(vm, {"go": go}, task)
    tss = bytearray(0x68)
    values = {0x20: bench.guest.symbol("there"), 0x24: 2, 0x28: 0x1234ABCD, 0x38: 0x6000}
    values |= {0x48: 0x10, 0x4C: 0x08, 0x50: 0x10, 0x54: 0x10, 0x58: 0x10, 0x5C: 0x10}
    for at, value in values.items():
        tss[at : at + 4] = value.to_bytes(4, "little")
    bench.guest.write(0xB000, bytes(tss))
    bench.execute("go")
    registers = bench.guest.registers
    check.equal(registers.gpr[Gpr.RIP], bench.guest.symbol("there") + 1, "RIP")
    check.equal(registers.gpr[Gpr.RAX], 0x1234ABCD, "EAX")
    check.equal(registers.gpr[Gpr.RSP], 0x6000, "ESP")
    check.equal(registers.seg[Segment.TR], replace(task, type=11).register(NEW), "TR")
