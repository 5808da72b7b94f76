# SPDX-License-Identifier: BSD-2-Clause
"""Instructions by themselves: length, LOCK, decimal numbers, BOUND, questions about selectors."""

import pytest
from cpu_machine import Cpu, Exit, assemble
from cpu_scene import DB, DE, GP, IF, UD, real, real_vector


@pytest.fixture
def cpu():
    return Cpu()


# --- limits of an instruction ---


def test_fifteen_bytes_are_allowed_and_sixteen_are_not(cpu):
    real(cpu, ".rept 14; .byte 0x3e; .endr; nop; hlt")
    assert cpu.run() is Exit.HLT
    assert cpu["rip"] == 0x7C0F
    real(cpu, ".rept 15; .byte 0x3e; .endr; nop; hlt")
    cpu["rsp"] = 0x7000
    assert real_vector(cpu) == GP


@pytest.mark.parametrize(
    ("code", "allowed"),
    [
        ("f0 01 07", True),  # LOCK ADD [bx],ax
        ("f0 03 07", False),  # LOCK ADD ax,[bx]
        ("f0 01 c0", False),  # LOCK ADD ax,ax
        ("f0 39 07", False),  # LOCK CMP
        ("f0 87 07", True),  # LOCK XCHG
        ("f0 89 07", False),  # LOCK MOV
        ("f0 ff 07", True),  # LOCK INC
        ("f0 ff 37", False),  # LOCK PUSH
        ("f0 f7 1f", True),  # LOCK NEG
        ("f0 f7 27", False),  # LOCK MUL
        ("f0 0f ab 07", True),  # LOCK BTS
        ("f0 0f a3 07", False),  # LOCK BT
        ("f0 0f ba 37 01", True),  # LOCK BTR imm
        ("f0 0f ba 27 01", False),  # LOCK BT imm
        ("f0 0f c7 0f", True),  # LOCK CMPXCHG8B
        ("f0 a4", False),  # LOCK MOVSB
    ],
)
def test_lock_is_ud_where_it_is_not_allowed(cpu, code, allowed):
    real(cpu, "nop")
    cpu.write(0x7C00, bytes.fromhex(code) + b"\xf4")
    cpu["rbx"] = 0x500
    assert cpu.run() is Exit.HLT
    assert (cpu["cs.base"] == 0) == allowed
    assert allowed or cpu["rip"] == UD


# --- decimal, BOUND, questions about selectors ---

AF, CF, ZF = 0x10, 1, 0x40


def bcd(n):
    return n % 10 | n // 10 % 10 << 4


@pytest.mark.parametrize(("op", "adjust"), [("add", "daa"), ("sub", "das")])
def test_daa_and_das_make_a_decimal_result(cpu, op, adjust):
    real(cpu, f"{op} al,bl; {adjust}; hlt")
    for a in range(0, 100, 3):
        for b in range(100):
            cpu.set(rip=0x7C00, rax=bcd(a), rbx=bcd(b), rflags=2)
            assert cpu.run() is Exit.HLT
            want = a + b if op == "add" else a - b
            assert cpu["rax"] == bcd(want % 100), (a, b)
            assert cpu["rflags"] & CF == int(not 0 <= want < 100), (a, b)


@pytest.mark.parametrize(
    ("source", "ax", "flags", "want", "flags_after"),
    [
        ("aaa", 0x000F, 0, 0x0105, AF | CF),
        ("aaa", 0x0009, 0, 0x0009, 0),
        ("aaa", 0x0132, AF, 0x0208, AF | CF),
        ("aaa", 0x00FA, 0, 0x0200, AF | CF),  # the carry out of AL goes to AH too
        ("aas", 0x020B, 0, 0x0105, AF | CF),
        ("aas", 0x0239, 0, 0x0209, 0),
        ("aas", 0x0003, AF, 0xFE0D, AF | CF),
    ],
)
def test_ascii_adjustments(cpu, source, ax, flags, want, flags_after):
    real(cpu, f"{source}; hlt")
    cpu.set(rax=ax, rflags=flags | 2)
    assert cpu.run() is Exit.HLT
    assert cpu["rax"] == want
    assert cpu["rflags"] & (AF | CF) == flags_after


def test_aam_and_aad_are_inverse_and_aam_0_divides_by_zero(cpu):
    real(cpu, "aam; mov bx,ax; aad; hlt")
    for n in range(256):
        cpu.set(rip=0x7C00, rax=n)
        assert cpu.run() is Exit.HLT
        assert (cpu["rax"], cpu["rbx"]) == (n, n // 10 << 8 | n % 10)
    real(cpu, ".byte 0xd4, 0")
    assert real_vector(cpu) == DE


@pytest.mark.parametrize(("index", "inside"), [(-5, True), (-6, False), (7, True), (8, False)])
def test_bound_allows_both_limits(cpu, index, inside):
    real(cpu, "bound ax,[bx]; hlt")
    cpu.set(rax=index & 0xFFFF, rbx=0x500)
    cpu.put(0x500, 7 << 16 | -5 & 0xFFFF, 4)
    assert cpu.run() is Exit.HLT
    assert (cpu["cs.base"] == 0) is inside
    assert inside or cpu["rip"] == 5


@pytest.mark.parametrize(
    ("source", "selector", "user", "want"),
    [
        ("lar", 0x10, False, 0xCF9300),
        ("lar", 0x08, True, None),  # DPL 0 seen from CPL 3
        ("lar", 0x20, True, 0xCFF300),
        ("lar", 0x40, False, 0x8900),
        ("lar", 0x00, False, None),
        ("lar", 0xF8, False, None),
        ("lsl", 0x10, False, 0xFFFFFFFF),
        ("lsl", 0x38, False, 0xFFFF),
        ("lsl", 0x40, False, 0x67),
        ("lsl", 0x23, True, 0xFFFFFFFF),
        ("lsl", 0x13, False, None),  # RPL 3
    ],
)
def test_lar_and_lsl_answer_or_clear_zf(cpu, source, selector, user, want):
    cpu.long_mode(f"{source} eax,ebx; cpuid", user=user)
    cpu.set(rax=0x1234, rbx=selector)
    assert cpu.run() is Exit.CPUID
    assert cpu["rflags"] & ZF == (ZF if want is not None else 0)
    assert cpu["rax"] == (0x1234 if want is None else want)


@pytest.mark.parametrize(
    ("source", "selector", "yes"),
    [
        ("verr", 0x08, True),
        ("verw", 0x08, False),
        ("verr", 0x10, True),
        ("verw", 0x10, True),
        ("verr", 0x40, False),
        ("verw", 0x13, False),
    ],
)
def test_verr_and_verw(cpu, source, selector, yes):
    cpu.long_mode(f"{source} bx; cpuid")
    cpu["rbx"] = selector
    assert cpu.run() is Exit.CPUID
    assert (cpu["rflags"] & ZF != 0) is yes


def test_a_port_is_allowed_by_the_bitmap_of_the_tss(cpu):
    for port, allowed in ((0x10, True), (0x11, False)):
        cpu.long_mode("in al,dx", user=True)
        cpu["tr.limit"] = 0x6B
        cpu.put(cpu.TSS + 0x68, ~(1 << 0x10) & 0xFFFFFFFF, 4)
        cpu["rdx"] = port
        assert cpu.run() is (Exit.IO if allowed else Exit.HLT)
        assert allowed or cpu.vector() == GP


@pytest.mark.parametrize(
    ("port", "source", "limit", "allowed"),
    [
        (0x1F, "in ax,dx", 0x6C, True),
        (0x1F, "in ax,dx", 0x6B, False),
        (0x18, "in al,dx", 0x6C, True),
        (0x18, "in al,dx", 0x6B, False),
        (0x17, "in ax,dx", 0x6B, True),
    ],
)
def test_the_byte_behind_a_port_in_the_bitmap_is_within_the_tss(cpu, port, source, limit, allowed):
    """SDM 1 19.5.2: "the processor reads two bytes from the I/O permission bit map for every
    access to an I/O port"; the byte behind the map "must be within the segment limit"."""
    cpu.long_mode(source, user=True)
    cpu["tr.limit"] = limit
    cpu.put(cpu.TSS + 0x68, 0, 8)
    cpu["rdx"] = port
    assert cpu.run() is (Exit.IO if allowed else Exit.HLT)
    if not allowed:
        assert (cpu.vector(), cpu.frame(error=True)["error"]) == (GP, 0)


def test_sysenter_and_sysexit_in_protected_mode(cpu):
    cpu.long_mode("nop")
    cpu.set(cr0=0x11, efer=0, cr4=0)
    cpu.segment("cs", 0x18, 0xB, 0, db=1)
    cpu.segment("ss", 0x10, 0x3, 0, db=1)
    cpu.write(0x8000, assemble("sysenter", 32))
    cpu.set(rflags=IF | 2, sysenter_cs=0x08, sysenter_esp=0x5000, sysenter_eip=0x9000)
    cpu.write(0x9000, assemble("hlt; sysexit", 32))
    cpu.set(rcx=0x6000, rdx=0xA000)
    cpu.write(0xA000, assemble("cpuid", 32))
    assert cpu.run() is Exit.HLT
    assert (cpu["rip"], cpu["rsp"], cpu["rflags"]) == (0x9000, 0x5000, 2)
    assert (cpu["cs.selector"], cpu["ss.selector"], cpu["cs.db"]) == (8, 16, 1)
    cpu.advance()
    assert cpu.run() is Exit.CPUID
    assert (cpu["rip"], cpu["rsp"]) == (0xA000, 0x6000)
    assert (cpu["cs.selector"], cpu["ss.selector"], cpu["ss.dpl"]) == (0x1B, 0x23, 3)


def test_a_data_breakpoint_traps_between_two_iterations(cpu):
    cpu.long_mode("rep stosb; hlt")
    cpu.set(rcx=8, rdi=0x50000, dr1=0x50002, dr7=0x400 | 0x08 | 1 << 20)
    assert cpu.run() is Exit.HLT
    assert cpu.vector() == DB
    assert (cpu["rcx"], cpu["rdi"]) == (5, 0x50003)
    assert cpu.frame(error=False)["rip"] == 0x8000


def test_flags_that_do_not_exist_have_their_fixed_values(cpu):
    real(cpu, "hlt")
    cpu["rflags"] = 0xFFFF_FFFF_0000_8028
    assert cpu.run() is Exit.HLT
    assert cpu["rflags"] == 2
