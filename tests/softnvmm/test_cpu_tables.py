# SPDX-License-Identifier: BSD-2-Clause
"""Rules that are tables, held against a statement of them of their own in Python."""

import itertools

import pytest
from cpu_machine import EXCP, Cpu, Exit, assemble

PF, GP, DF, NP = 14, 13, 8, 11
PAGE, CODE = 0x40000, 0x8000
WP, SMEP, SMAP, AC = 1 << 16, 1 << 20, 1 << 21, 1 << 18
LEVELS, ACCESSES = (0, 3), ("read", "write", "fetch")


# --- paging: SDM 3A 4.6.1 and 4.7 ---


def page_fault(*, level, access, write, user, nx, wp, smep, smap, ac):
    """The error code of an access to a present page, or None."""
    wrong = False
    if level == 3 and not user:
        wrong = True
    elif access == "fetch":
        wrong = nx or (level == 0 and user and smep)
    elif level == 0 and user and smap and not ac:
        wrong = True
    elif access == "write" and not write:
        wrong = level == 3 or wp
    if not wrong:
        return None
    return 1 | (access == "write") << 1 | (level == 3) << 2 | (access == "fetch") << 4


CODES = {"read": "mov al, [rbx]; hlt", "write": "mov [rbx], al; hlt", "fetch": "jmp rbx"}


@pytest.mark.parametrize("access", ACCESSES)
@pytest.mark.parametrize("level", LEVELS)
def test_every_right_of_a_page_under_every_control(level, access):
    cpu = Cpu()
    program = assemble(CODES[access].replace("hlt", "int 0x80"), 64, CODE)
    for write, user, nx, wp, smep, smap, ac in itertools.product((0, 1), repeat=7):
        cpu.long_mode("nop", user=level == 3)
        cpu.write(CODE, program)
        cpu.write(PAGE, b"\xcd\x80")
        cpu.gate(0x80, cpu.HANDLERS + 0x80, attr=0xEE00)
        for page in range(512):  # the rest is the supervisor's but for the program
            cpu.pte(page << 12, page << 12 | 3)
        cpu.pte(CODE, CODE | (7 if level == 3 else 3))
        cpu.pte(PAGE, PAGE | 1 | write << 1 | user << 2 | nx << 63)
        cpu["cr0"] = 0x80000031 | wp * WP
        cpu["cr4"] = 0x20 | smep * SMEP | smap * SMAP
        cpu["rflags"] = 2 | ac * AC
        cpu["rbx"] = PAGE
        assert cpu.run(100) is Exit.HLT
        expected = page_fault(
            level=level, access=access, write=write, user=user, nx=nx, wp=wp, smep=smep,
            smap=smap, ac=ac,
        )  # fmt: skip
        rights = f"{write=} {user=} {nx=} {wp=} {smep=} {smap=} {ac=}"
        if expected is None:
            assert cpu.vector() == 0x80, rights
        else:
            assert cpu.vector() == PF, rights
            assert cpu.frame(error=True)["error"] == expected, rights
            assert cpu["cr2"] == PAGE
        touched = cpu.read(cpu.PT + 8 * (PAGE >> 12), 1) >> 5 & 3
        assert touched == (0 if expected is not None else 3 if access == "write" else 1), rights


def test_the_rights_of_all_levels_are_combined():
    cpu = Cpu()
    for upper, lower in itertools.product((1, 3, 5, 7), repeat=2):
        for level, access in itertools.product(LEVELS, ("read", "write")):
            cpu.long_mode(CODES[access].replace("hlt", "int 0x80"), user=level == 3)
            cpu.gate(0x80, cpu.HANDLERS + 0x80, attr=0xEE00)
            cpu.put(cpu.PD + 8, 0x180000 | upper, 8)
            cpu.put(0x180000, PAGE | lower, 8)
            cpu["rbx"] = 0x200000
            assert cpu.run(100) is Exit.HLT
            both = upper & lower
            expected = page_fault(
                level=level, access=access, write=both >> 1 & 1, user=both >> 2 & 1,
                nx=0, wp=1, smep=0, smap=0, ac=0,
            )  # fmt: skip
            assert cpu.vector() == (0x80 if expected is None else PF), (upper, lower, level)


# --- segment limits: SDM 3A 3.4.5.1, 6.3 ---


def allowed(kind, limit, big, offset, size):
    """Whether `size` bytes at `offset` are inside a data segment."""
    last = offset + size - 1
    if kind & 4:
        return offset > limit and last <= (0xFFFFFFFF if big else 0xFFFF)
    return last <= limit


def protected(cpu, source):
    """32-bit protected mode, flat, an IDT whose handler n is a HLT at HANDLERS + n."""
    cpu.tables()
    for seg in ("es", "ss", "ds", "fs", "gs"):
        cpu.segment(seg, cpu.DS64, 3, 0, db=1)
    cpu.segment("cs", cpu.CS32, 0xB, 0, db=1)
    for vector in range(256):
        at = cpu.HANDLERS + vector
        low = (at & 0xFFFF) | cpu.CS32 << 16 | 0x8E00 << 32 | (at >> 16) << 48
        cpu.put(cpu.IDT + 8 * vector, low, 8)
    cpu.set(cr0=0x11, cr3=0, cr4=0, efer=0, rsp=cpu.STACK, rip=CODE, rflags=2)
    cpu["gdtr.base"], cpu["gdtr.limit"] = cpu.GDT, 0xFF
    cpu["idtr.base"], cpu["idtr.limit"] = cpu.IDT, 0x7FF
    cpu.write(CODE, assemble(source, 32, CODE))


LIMITS = (0, 1, 0xFFF, 0x1000, 0xFFFE, 0xFFFF, 0x10000, 0xFFFFF, 0x100FFF, 0xFFFFFFFF)
SIZES = {1: "mov al, {seg}:[ebx]", 2: "mov ax, {seg}:[ebx]", 4: "mov eax, {seg}:[ebx]"}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("big", [0, 1])
@pytest.mark.parametrize("kind", [3, 7], ids=["up", "down"])
def test_limits_of_data_segments(kind, big, size):
    cpu = Cpu()
    for limit in LIMITS:
        offsets = {limit + by for by in range(-4, 5)} | {0, 1, 0xFFFD, 0xFFFE, 0xFFFF, 0x10000}
        for offset in sorted(one for one in offsets if 0 <= one <= 0xFFFFFFFF - size):
            protected(cpu, SIZES[size].format(seg="fs") + "; hlt")
            # The base brings every offset into memory.
            cpu.segment("fs", 0x10, kind, 0, base=(PAGE - offset) & 0xFFFFFFFF, limit=limit, db=big)
            cpu["rbx"] = offset
            assert cpu.run(10) is Exit.HLT
            inside = allowed(kind, limit, big, offset, size)
            told = f"{limit=:#x} {offset=:#x}"
            assert (cpu["rip"] < cpu.HANDLERS) == inside, told
            if not inside:
                assert cpu["rip"] - cpu.HANDLERS == GP, told


@pytest.mark.parametrize("granular", [0, 1])
@pytest.mark.parametrize("field", [0, 1, 0x0F, 0xFF, 0xFFFFF])
def test_granularity_of_the_limit_in_a_descriptor(field, granular):
    cpu = Cpu()
    protected(cpu, "mov eax, 0x48; mov ds, eax; hlt")
    raw = (field & 0xFFFF) | 0x9300 << 32 | (field >> 16) << 48 | 1 << 54 | granular << 55
    cpu.put(cpu.GDT + 0x48, raw, 8)
    assert cpu.run(10) is Exit.HLT
    assert cpu["ds.limit"] == (field * 4096 + 4095 if granular else field)


# --- two exceptions: SDM 3A tables 7-4 and 7-5 ---

CONTRIBUTORY = {0, 10, 11, 12, 13}


def outcome(first, second):
    """The vector that is delivered, or None for a shutdown."""
    if first == DF:
        return None
    if first in CONTRIBUTORY and second in CONTRIBUTORY:
        return DF
    if first == PF and (second == PF or second in CONTRIBUTORY):
        return DF
    return second


HAS_ERROR = {8, 10, 11, 12, 13, 14, 17}
FIRSTS = [*range(2), *range(3, 9), *range(10, 15), 16, 17, 18, 19]


# Not with itself: the second one needs the gate that is broken.
PAIRS = [(first, second) for first in FIRSTS for second in (NP, PF, GP) if first != second]


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_an_exception_while_another_is_delivered(first, second):
    """The first one's gate is not present, or none; or its stack is not mapped."""
    cpu = Cpu()
    cpu.long_mode("nop")
    if second == PF:
        cpu.gate(first, cpu.HANDLERS + first, ist=1)
        cpu.put(cpu.TSS + 36, 0x70000, 8)
        cpu.pte(0x6F000, 0)
    else:
        cpu.gate(first, 0, attr=0x0E00 if second == NP else 0x8000)
    cpu["inject.type"], cpu["inject.vector"] = EXCP, first
    cpu["inject.has_error"] = first in HAS_ERROR
    stop = cpu.run(10)
    expected = outcome(first, second)
    if expected is None:
        assert stop is Exit.SHUTDOWN
    else:
        assert stop is Exit.HLT
        assert cpu.vector() == expected
