# SPDX-License-Identifier: BSD-2-Clause
"""16- and 32-bit code: addresses, stacks and transfers that 64-bit mode does not have."""

import itertools

import pytest
from cpu_machine import Cpu, Exit, assemble

REGS = {"bx": 0x1100, "bp": 0x2200, "si": 0x0033, "di": 0x0044}
# SDM 2A, table 2-1: registers and whether the stack segment is the default.
FORMS16 = [
    (("bx", "si"), False),
    (("bx", "di"), False),
    (("bp", "si"), True),
    (("bp", "di"), True),
    (("si",), False),
    (("di",), False),
    (("bp",), True),
    (("bx",), False),
]


@pytest.fixture
def cpu():
    return Cpu()


def load(cpu, code, *, bits=16):
    cpu.real_mode("nop")
    if bits == 32:
        cpu.set(cr0=0x11)
        cpu.segment("cs", 0x18, 0xB, 0, db=1)
        for seg in ("ds", "es", "ss"):
            cpu.segment(seg, 0x10, 0x3, 0, db=1)
        cpu["gdtr.base"], cpu["gdtr.limit"] = cpu.GDT, 0xFF
    cpu.write(0x7C00, code)


@pytest.mark.parametrize(("mod", "rm"), list(itertools.product(range(3), range(8))))
def test_every_16_bit_address_form(cpu, mod, rm):
    registers, stack = FORMS16[rm]
    if mod == 0 and rm == 6:
        registers, stack = (), False
    disp = {0: 0x1234 if not registers else 0, 1: -3, 2: 0xF0F0}[mod]
    size = {0: 0 if registers else 2, 1: 1, 2: 2}[mod]
    want = (sum(REGS[r] for r in registers) + disp) & 0xFFFF
    tail = (disp & 0xFFFF).to_bytes(2, "little")[:size]
    modrm = bytes([mod << 6 | rm])
    # LEA AX; MOV AL from the default segment; the same from ES.
    load(cpu, b"\x8d" + modrm + tail + b"\x8b\xd0\x8a" + modrm + tail + b"\xf4")
    for register, name in (("bx", "rbx"), ("bp", "rbp"), ("si", "rsi"), ("di", "rdi")):
        cpu[name] = 0xABCD0000 | REGS[register]
    cpu["ss.base"], cpu["ds.base"] = 0x100000, 0x200000
    cpu.put(0x100000 + want, 0x51, 1)
    cpu.put(0x200000 + want, 0xD5, 1)
    assert cpu.run() is Exit.HLT
    assert cpu["rdx"] & 0xFFFF == want
    assert cpu["rax"] & 0xFF == (0x51 if stack else 0xD5)


@pytest.mark.parametrize(
    ("base", "stack"), [("eax", 0), ("ecx", 0), ("ebx", 0), ("esi", 0), ("ebp", 1), ("esp", 1)]
)
def test_32_bit_addresses_in_16_bit_code(cpu, base, stack):
    load(cpu, assemble(f"lea edx,[{base}+edi*4+0x10]; mov al,[{base}+edi*4+0x10]; hlt", 16))
    cpu["r" + base[1:]] = 0x1000
    cpu["rdi"] = 0x21
    cpu["ss.base"], cpu["ds.base"] = 0x100000, 0x200000
    cpu.put(0x101094, 0x51, 1)
    cpu.put(0x201094, 0xD5, 1)
    assert cpu.run() is Exit.HLT
    assert cpu["rdx"] == 0x1094
    assert cpu["rax"] & 0xFF == (0x51 if stack else 0xD5)


def test_an_override_replaces_the_default_segment(cpu):
    load(cpu, assemble("mov al,es:[bp]; mov ah,fs:[bx]; hlt", 16))
    cpu["es.base"], cpu["fs.base"] = 0x100000, 0x200000
    cpu.set(rbp=0x10, rbx=0x20)
    cpu.put(0x100010, 0x11, 1)
    cpu.put(0x200020, 0x22, 1)
    assert cpu.run() is Exit.HLT
    assert cpu["rax"] & 0xFFFF == 0x2211


@pytest.mark.parametrize(("bits", "size"), [(16, 2), (16, 4), (32, 4), (32, 2)])
def test_pusha_and_popa(cpu, bits, size):
    names = ["rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi"]
    prefix = b"" if (bits == 16) == (size == 2) else b"\x66"
    load(cpu, prefix + b"\x60\xf4" + prefix + b"\x61\xf4", bits=bits)
    values = [0x11110001 * (i + 1) for i in range(8)]
    values[4] = 0x6000
    for name, value in zip(names, values, strict=True):
        cpu[name] = value
    assert cpu.run() is Exit.HLT
    assert cpu["rsp"] == 0x6000 - 8 * size
    pushed = [cpu.read(0x6000 - size * (i + 1), size) for i in range(8)]
    assert pushed == [value & (1 << 8 * size) - 1 for value in values]
    for name in names:
        if name != "rsp":
            cpu[name] = 0
    cpu.advance()
    assert cpu.run() is Exit.HLT
    assert [cpu[name] for name in names] == [
        value if name == "rsp" else value & (1 << 8 * size) - 1
        for name, value in zip(names, values, strict=True)
    ]


def test_the_stack_pointer_wraps_at_16_bits_and_keeps_its_upper_half(cpu):
    load(cpu, assemble("push 0x1234; hlt", 16))
    cpu["rsp"] = 0xABCD0000
    assert cpu.run() is Exit.HLT
    assert cpu["rsp"] == 0xABCDFFFE
    assert cpu.read(0xFFFE, 2) == 0x1234


def test_far_call_and_far_return(cpu):
    load(cpu, bytes.fromhex("9a10000003f4"))
    cpu.write(0x3010, assemble("mov dx,cs; retf 4", 16))
    cpu["rsp"] = 0x6000
    assert cpu.run() is Exit.HLT
    assert (cpu["cs.selector"], cpu["rip"], cpu["rdx"]) == (0, 0x7C05, 0x300)
    assert cpu["rsp"] == 0x6004
    assert [cpu.read(0x5FFC, 2), cpu.read(0x5FFE, 2)] == [0x7C05, 0]


def test_far_pointers_load_a_segment(cpu):
    load(cpu, assemble("les bx,[si]; lss sp,[di]; hlt", 16))
    cpu.set(rsi=0x500, rdi=0x510)
    cpu.put(0x500, 0x12345678, 4)
    cpu.put(0x510, 0x0200ABC0, 4)
    assert cpu.run() is Exit.HLT
    assert (cpu["rbx"], cpu["es.selector"], cpu["es.base"]) == (0x5678, 0x1234, 0x12340)
    assert (cpu["rsp"] & 0xFFFF, cpu["ss.base"]) == (0xABC0, 0x2000)


@pytest.mark.parametrize(
    ("source", "rcx", "taken", "after"),
    [
        ("loop there", 0xABCD0001, False, 0xABCD0000),
        ("loop there", 0xABCD0000, True, 0xABCDFFFF),
        ("jcxz there", 0xABCD0000, True, 0xABCD0000),
        ("jecxz there", 0xABCD0000, False, 0xABCD0000),
        (".byte 0x67; loop there", 0x10000, True, 0xFFFF),
    ],
)
def test_loops_count_by_the_address_size(cpu, source, rcx, taken, after):
    load(cpu, assemble(f"{source}; hlt; there: nop; hlt", 16))
    cpu["rcx"] = rcx
    assert cpu.run() is Exit.HLT
    assert (cpu["rip"] == 0x7C00 + len(assemble(f"{source}; hlt; there: nop", 16))) is taken
    assert cpu["rcx"] == after


@pytest.mark.parametrize("df", [False, True])
def test_string_offsets_wrap_at_16_bits(cpu, df):
    load(cpu, assemble("rep movsb; hlt", 16))
    at = 1 if df else 0xFFFE
    cpu.set(rcx=4, rsi=0x600, rdi=0xABCD0000 | at, rflags=0x402 if df else 2)
    cpu["es.base"] = 0x100000
    cpu.write(0x5F0, bytes(range(32)))
    assert cpu.run() is Exit.HLT
    step = -1 if df else 1
    assert cpu["rdi"] == 0xABCD0000 | (at + 4 * step) & 0xFFFF
    got = [cpu.read(0x100000 + ((at + i * step) & 0xFFFF), 1) for i in range(4)]
    assert got == [0x10 + i * step for i in range(4)]


def test_32_bit_code_has_no_rex(cpu):
    load(cpu, assemble("inc eax; dec ecx; mov edx,0x12345678; push edx; pop ebx; hlt", 32), bits=32)
    cpu.set(rax=0xFFFFFFFF, rcx=0)
    assert cpu.run() is Exit.HLT
    assert (cpu["rax"], cpu["rcx"], cpu["rbx"]) == (0, 0xFFFFFFFF, 0x12345678)


def test_expand_down_segments_are_checked_from_their_limit(cpu):
    for off, fits in ((0x0FFF, False), (0x1000, True), (0xFFFF, True)):
        load(cpu, assemble("mov al,[ebx]; hlt", 32), bits=32)
        cpu.segment("ds", 0x10, 0x7, 0, limit=0x0FFF, db=0)
        cpu["rbx"] = off
        cpu["idtr.limit"] = 0
        assert cpu.run() is (Exit.HLT if fits else Exit.SHUTDOWN), hex(off)


@pytest.mark.parametrize(("prefix", "base"), [("", 0x345678), ("data32 ", 0x12345678)])
def test_lgdt_takes_24_bits_of_base_for_a_16_bit_operand(cpu, prefix, base):
    load(cpu, assemble(f".byte {'0x66,' if prefix else ''}0x0f,0x01,0x16,0x00,0x05; hlt", 16))
    cpu.put(0x500, 0x12345678_ABCD, 6)
    assert cpu.run() is Exit.HLT
    assert (cpu["gdtr.limit"], cpu["gdtr.base"]) == (0xABCD, base)
