# SPDX-License-Identifier: BSD-2-Clause
"""Who may use x87, MMX and SSE, and when; what CPUID says of instructions.

What the instructions do is held against the host: test_cpu_native.py.
"""

import ctypes

import pytest
from cpu_machine import Cpu, Exit, assemble, library

UD, NM, GP, PF, MF = 6, 7, 13, 14, 16
MP, EM, TS, NE = 0x2, 0x4, 0x8, 0x20
OSFXSR, UMIP, OSXSAVE = 0x200, 0x800, 0x40000

CODE, DATA = 0x8000, 0x10000
PENDING = 0x8081  # IE, unmasked: ES and B


@pytest.fixture
def cpu():
    return Cpu()


def prepare(cpu, source, *, cr0=0, cr4=OSFXSR | OSXSAVE, user=False):
    """64-bit code that ends in CPUID, with `rbx` at a page of its own."""
    cpu.long_mode(f"{source}; cpuid", user=user)
    cpu.set(cr0=cpu["cr0"] | cr0, cr4=cpu["cr4"] | cr4, rbx=DATA, xcr0=3, fcw=0x37F, mxcsr=0x1F80)
    return cpu


def outcome(cpu):
    """None if the code came to its end, else the exception's vector."""
    return None if cpu.run() is Exit.CPUID else cpu.vector()


X87, NOWAIT, WAIT, MMX = "fld1", "fnstcw [rbx]", "fwait", "paddb mm0,mm1"
SSE_MOVE, STATE = "movaps xmm0,xmm1", "fxsave [rbx]"
XSAVES = "xsave [rbx]"


@pytest.mark.parametrize(
    ("source", "cr0", "vector"),
    [
        (X87, 0, None),
        (X87, TS, NM),
        (X87, EM, NM),
        (X87, MP, None),
        (NOWAIT, TS, NM),
        (NOWAIT, EM, NM),
        (WAIT, TS, None),
        (WAIT, MP, None),
        (WAIT, EM, None),
        (WAIT, TS | MP, NM),
        (MMX, TS, NM),
        (MMX, EM, UD),
        (MMX, EM | TS, UD),
        ("emms", EM, UD),
        (SSE_MOVE, TS, NM),
        (SSE_MOVE, EM, UD),
        ("ldmxcsr [rbx]", EM, UD),
        (STATE, TS, NM),
        (STATE, EM, NM),
        (XSAVES, TS, NM),
        (XSAVES, EM, None),
        ("movnti [rbx],eax", TS | EM, None),
        ("sfence; lfence; mfence", TS | EM, None),
    ],
)
def test_cr0_says_who_may(cpu, source, cr0, vector):
    assert outcome(prepare(cpu, source, cr0=cr0)) == vector


@pytest.mark.parametrize(
    ("source", "cr4", "vector"),
    [
        (SSE_MOVE, 0, UD),
        (SSE_MOVE, OSFXSR, None),
        ("ldmxcsr [rbx]", 0, UD),
        ("movq2dq xmm0,mm0", 0, UD),
        (MMX, 0, None),
        (STATE, 0, None),
        (XSAVES, OSFXSR, UD),
        ("xor ecx,ecx; xgetbv", OSFXSR, UD),
        ("xor ecx,ecx; xgetbv", OSXSAVE, None),
        ("mov ecx,2; xgetbv", OSXSAVE, GP),
    ],
)
def test_cr4_says_what_is_enabled(cpu, source, cr4, vector):
    assert outcome(prepare(cpu, source, cr4=cr4)) == vector


@pytest.mark.parametrize("source", [X87, MMX, WAIT, "fldcw [rbx]", "fldenv [rbx]", "fnop", "emms"])
def test_a_pending_exception_is_mf_at_the_next_that_waits(cpu, source):
    prepare(cpu, source, cr0=NE)
    cpu.set(fcw=0x37E, fsw=PENDING)
    assert outcome(cpu) == MF
    assert cpu.frame(error=False)["rip"] == CODE
    assert cpu["fsw"] == PENDING


@pytest.mark.parametrize(
    "source",
    ["fnstcw [rbx]", "fnstsw ax", "fnclex", "fninit", "fnsave [rbx]", "fnstenv [rbx]", STATE],
)
def test_control_instructions_do_not_wait(cpu, source):
    prepare(cpu, source, cr0=NE)
    cpu.set(fcw=0x37E, fsw=PENDING)
    assert outcome(cpu) is None


def test_without_ne_nobody_listens_to_a_pending_exception(cpu):
    prepare(cpu, "fnop")
    cpu.set(fcw=0x37E, fsw=PENDING, cr0=cpu["cr0"] & ~NE)
    assert outcome(cpu) is None


def test_an_unmasked_exception_comes_at_the_next_instruction(cpu):
    prepare(cpu, "fld1; fxch st(3); nop; fnop", cr0=NE)
    cpu["fcw"] = 0x37E
    assert outcome(cpu) == MF
    length = len(assemble("fld1; fxch st(3); nop", 64))
    assert cpu.frame(error=False)["rip"] == CODE + length
    assert cpu["fsw"] & 0x80C1 == 0x80C1  # B, ES, SF, IE


@pytest.mark.parametrize("at", range(16))
@pytest.mark.parametrize(
    ("source", "align"),
    [
        ("movaps xmm0,[rbx]", 16),
        ("movups xmm0,[rbx]", 1),
        ("movdqu [rbx],xmm0", 1),
        ("movntps [rbx],xmm0", 16),
        ("pxor xmm0,[rbx]", 16),
        ("pxor mm0,[rbx]", 1),
        ("fxsave [rbx]", 16),
        ("fnsave [rbx]", 1),
    ],
)
def test_alignment_is_gp(cpu, source, align, at):
    prepare(cpu, source)
    cpu["rbx"] = DATA + at
    assert outcome(cpu) == (GP if at % align else None)


@pytest.mark.parametrize("bit", range(32))
def test_reserved_bits_of_mxcsr_are_gp(cpu, bit):
    prepare(cpu, "ldmxcsr [rbx]")
    cpu.put(DATA, 1 << bit, 4)
    assert outcome(cpu) == (None if bit < 16 else GP)
    assert cpu["mxcsr"] == (1 << bit if bit < 16 else 0x1F80)


@pytest.mark.parametrize(
    ("offset", "value", "vector"),
    [
        (512, 3, None),
        (512, 4, GP),  # XSTATE_BV: not in XCR0
        (512, 1 << 63, GP),
        (520, 1 << 63, GP),  # XCOMP_BV: the compacted form is not here
        (528, 1, GP),
        (24, 0x10000, GP),
    ],
)
def test_xrstor_checks_its_header(cpu, offset, value, vector):
    prepare(cpu, "mov eax,-1; xor edx,edx; xrstor [rbx]")
    cpu.put(DATA + offset, value, 8)
    assert outcome(cpu) == vector


def test_xrstor_initializes_what_the_header_lacks(cpu):
    prepare(cpu, "mov eax,3; xor edx,edx; xrstor [rbx]")
    cpu.set(fcw=0x27F, fsw=0x3800, ftw=0x55, st0=7, xmm0=9)
    cpu.put(DATA + 24, 0x1FA0, 4)
    assert outcome(cpu) is None
    assert (cpu["fcw"], cpu["fsw"], cpu["ftw"], cpu["st0"]) == (0x37F, 0, 0, 0)
    assert (cpu["xmm0"], cpu["mxcsr"]) == (0, 0x1FA0)


def test_xsave_writes_what_is_asked_for_and_enabled(cpu):
    prepare(cpu, "mov eax,-1; mov edx,-1; xsave [rbx]")
    cpu.set(xmm0=0x1234)
    cpu.put(DATA + 512, 0xFF00, 8)
    assert outcome(cpu) is None
    assert cpu.read(DATA + 160, 8) == 0x1234
    assert cpu.read(DATA + 512, 8) & ~1 == 0xFF02
    prepare(cpu, "mov eax,1; xor edx,edx; xsave [rbx]")
    cpu.write(DATA, bytes(576))
    cpu.set(xmm0=0x1234)
    assert outcome(cpu) is None
    assert cpu.read(DATA + 160, 8) == 0


@pytest.mark.parametrize("rcx", [0, 1])
def test_xgetbv_gives_xcr0_and_what_is_in_use(cpu, rcx):
    prepare(cpu, f"mov ecx,{rcx}; xgetbv")
    cpu.set(rax=~0 & 0xFFFFFFFFFFFFFFFF, rdx=1 << 40, xmm0=1)
    assert outcome(cpu) is None
    assert (cpu["rax"], cpu["rdx"]) == ((3, 0) if rcx == 0 else (2, 0))


def test_x87_keeps_the_address_of_its_last_instruction(cpu):
    prepare(cpu, "nop; fld dword ptr [rbx+8]; fnstsw ax")
    assert outcome(cpu) is None
    assert (cpu["fip"], cpu["fdp"], cpu["fop"]) == (CODE + 1, DATA + 8, 0x143)


@pytest.mark.parametrize("source", ["fnsave [rbx]", "fxsave [rbx]", "fstp tbyte ptr [rbx]"])
def test_a_store_that_faults_changes_nothing(cpu, source):
    prepare(cpu, source)
    cpu["rbx"] = DATA + 0xFF0
    if source != "fxsave [rbx]":
        cpu["rbx"] = DATA + 0xFFF
    cpu.pte(DATA + 0x1000, 0)
    cpu.set(ftw=0xFF, fsw=0x1800)
    assert outcome(cpu) == PF
    assert cpu["cr2"] == DATA + 0x1000
    assert (cpu["ftw"], cpu["fsw"], cpu.read(DATA + 0xFFF, 1)) == (0xFF, 0x1800, 0)


@pytest.mark.parametrize(
    "source", ["fsin", "fadd st,st(1)", "addps xmm0,xmm1", "cvtsi2sd xmm0,eax"]
)
def test_arithmetic_is_counted_as_missing(cpu, source):
    prepare(cpu, source)
    assert outcome(cpu) == UD
    assert cpu["unimplemented"] == 1


# --- UMIP ---


@pytest.mark.parametrize("source", ["sgdt [rbx]", "sidt [rbx]", "sldt eax", "str eax", "smsw eax"])
@pytest.mark.parametrize("umip", [0, UMIP])
@pytest.mark.parametrize("user", [False, True])
def test_umip_hides_the_tables_from_programs(cpu, source, umip, user):
    prepare(cpu, source, cr4=umip, user=user)
    assert outcome(cpu) == (GP if umip and user else None)


# --- CPUID ---


def cpuid(leaf, subleaf=0, vendor=0):
    out = (ctypes.c_uint32 * 4)()
    library().driver_cpuid(vendor, leaf, subleaf, out)
    return list(out)


EAX, EBX, ECX, EDX = range(4)
BITS = {
    "cmpxchg8b [rbx]": (1, EDX, 8),
    "cmovz eax,ebx": (1, EDX, 15),
    "clflush [rbx]": (1, EDX, 19),
    "paddb mm0,mm1": (1, EDX, 23),
    "fxsave [rbx]": (1, EDX, 24),
    "cmpxchg16b [rbx]": (1, ECX, 13),
    "movbe eax,[rbx]": (1, ECX, 22),
    "popcnt eax,ebx": (1, ECX, 23),
    "xsave [rbx]": (1, ECX, 26),
    "andn eax,ebx,ecx": (7, EBX, 3),
    "pdep eax,ebx,ecx": (7, EBX, 8),
    "adcx eax,ebx": (7, EBX, 19),
    "clflushopt [rbx]": (7, EBX, 23),
    "lzcnt eax,ebx": (0x80000001, ECX, 5),
    "prefetchw [rbx]": (0x80000001, ECX, 8),
    "pshufw mm0,mm1,1": (0x80000001, EDX, 22),
    # not there: the bit is clear, the instruction #UD
    "fadd st,st(1)": (1, EDX, 0),
    "addps xmm0,xmm1": (1, EDX, 25),
    "addpd xmm0,xmm1": (1, EDX, 26),
    "addsubps xmm0,xmm1": (1, ECX, 0),
    "pshufb xmm0,xmm1": (1, ECX, 9),
    "pmulld xmm0,xmm1": (1, ECX, 19),
    "aesenc xmm0,xmm1": (1, ECX, 25),
    "vaddps ymm0,ymm1,ymm2": (1, ECX, 28),
    "rdrand eax": (1, ECX, 30),
    "rdseed eax": (7, EBX, 18),
    "sha1msg1 xmm0,xmm1": (7, EBX, 29),
    "clwb [rbx]": (7, EBX, 24),
    "rdtscp": (0x80000001, EDX, 27),
    "rdpid rax": (7, ECX, 22),
    "xsavec [rbx]": (0xD, EAX, 1),
}


@pytest.mark.parametrize("source", BITS)
def test_cpuid_says_what_is_there(cpu, source):
    leaf, register, bit = BITS[source]
    there = cpuid(leaf, 1 if leaf == 0xD else 0)[register] >> bit & 1
    assert outcome(prepare(cpu, source)) == (None if there else UD)


def test_cpuid_tells_the_size_of_the_xsave_area():
    assert cpuid(0xD) == [3, 576, 576, 0]
    assert cpuid(0)[EAX] >= 0xD


@pytest.mark.parametrize("prefix", ["0x66", "0xf2", "0xf3", "0xf0", "0x48"])
def test_no_prefix_before_vex(cpu, prefix):
    vex = ",".join(hex(byte) for byte in assemble("andn eax,ebx,ecx", 64))
    assert outcome(prepare(cpu, f".byte {prefix}; .byte {vex}")) == UD


def test_vex_is_ud_in_real_mode(cpu):
    vex = ",".join(hex(byte) for byte in assemble("andn eax,ebx,ecx", 64))
    cpu.real_mode(f".byte {vex}")
    cpu.put(4 * UD, 0x9000, 4)
    cpu.write(0x9000, b"\xf4")
    assert cpu.run() is Exit.HLT
    assert cpu["rip"] == 0x9000
