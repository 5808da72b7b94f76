# SPDX-License-Identifier: BSD-2-Clause
"""Control registers: what each bit may be, what it does, what a write of it flushes.

SDM 3A 2.5 (CR0 to CR4), 4.1 (paging modes), 4.4.1 (PDPTEs of PAE), 4.6 (access rights), 4.10
(TLB), 10.8.5 (long mode); SDM 2 "MOV - control registers", "LMSW", "SMSW", "CLTS", "INVLPG".
NVMM lets the guest write them; the caller sees the result and no exit.
"""

from __future__ import annotations

import pytest
from insn_bench import DONE, Bench

from nvmmconf.suite import (
    Cr,
    ExitReason,
    Gpr,
    Mode,
    Msr,
    PreparedGuest,
    Stop,
    VirtualMachine,
    check,
    modes,
    requirement,
)

PE, MP, EM, TS, ET, NE, WP, AM = 1, 2, 4, 8, 0x10, 0x20, 1 << 16, 1 << 18
NW, CD, PG = 1 << 29, 1 << 30, 1 << 31
LME, LMA = 1 << 8, 1 << 10
SMEP, SMAP = 1 << 20, 1 << 21

ACCESS = {
    "put_cr0": "mov cr0, {{ ax }}",
    "get_cr0": "mov {{ ax }}, cr0",
    "put_cr2": "mov cr2, {{ ax }}",
    "get_cr2": "mov {{ ax }}, cr2",
    "put_cr3": "mov cr3, {{ ax }}",
    "get_cr3": "mov {{ ax }}, cr3",
    "put_cr4": "mov cr4, {{ ax }}",
    "get_cr4": "mov {{ ax }}, cr4",
    "put_msw": "lmsw ax",
    "get_msw": "smsw eax",
    "clear_ts": "clts",
    "cpuid": "cpuid",
}
EVERYWHERE = modes(Mode.REAL16, Mode.PROT32, Mode.LONG64)
PROTECTED = modes(Mode.PROT32, Mode.LONG64)
LONG = modes(Mode.LONG64)


def _bench(vm: VirtualMachine, **more: str) -> Bench:
    """A bench with the accesses, whose operands are as wide as the mode has them."""
    wide = "rax" if vm.mode is Mode.LONG64 else "eax"
    code = {name: text.replace("{{ ax }}", wide) for name, text in ACCESS.items()}
    return Bench(vm, code | more)


def _hide_from_user(bench: Bench) -> None:
    """Make the guest's own pages, which `Stubs` has made user pages, the supervisor's again."""
    directory = bench.guest.image.linear("page_directory")
    bench.guest.write(directory, (0xE3).to_bytes(8, "little"))


def _get(bench: Bench, register: str) -> int:
    effect = bench.execute(f"get_{register}")
    check.equal((effect.end, effect.exits), (DONE, ()), f"read of {register}")
    return effect.gpr[Gpr.RAX]


def _put(bench: Bench, register: str, value: int, end: str = DONE) -> None:
    effect = bench.execute(f"put_{register}", {Gpr.RAX: value})
    check.equal((effect.end, effect.exits), (end, ()), f"{register} := {value:#x}")


def _offers(bench: Bench, leaf: int, register: int, bit: int) -> bool:
    if bench.cpuid(leaf & 0x80000000)[0] < leaf:
        return False
    return bool(bench.cpuid(leaf)[register] >> bit & 1)


# ---- CR0 ----


@requirement("K-INK-8", "A-REG-10")
@EVERYWHERE
@pytest.mark.parametrize("bits", [MP, EM, TS, WP, AM, CD, CD | NW, MP | EM | TS | WP | AM])
def test_cr0_bit_is_the_guests(vm: VirtualMachine, bits: int) -> None:
    """A CR0 bit that the guest sets reads back, is in getstate, and can be cleared; no exit."""
    bench = _bench(vm)
    before = _get(bench, "cr0")
    _put(bench, "cr0", before | bits)
    check.equal(_get(bench, "cr0"), before | bits, "CR0")
    check.equal(bench.guest.state().cr[Cr.CR0], before | bits, "CR0, getstate")
    _put(bench, "cr0", before)
    check.equal(_get(bench, "cr0"), before, "CR0, cleared")


@requirement("K-INK-9", "K-INK-8")
@PROTECTED
def test_et_is_always_one(vm: VirtualMachine) -> None:
    """CR0.ET is hardwired to 1: a write of 0 is ignored (SDM 3A 2.5, BH-77)."""
    bench = _bench(vm)
    before = _get(bench, "cr0")
    _put(bench, "cr0", before & ~ET)
    check.equal(_get(bench, "cr0") & ET, ET, "ET")
    check.equal(bench.guest.state().cr[Cr.CR0] & ET, ET, "ET, getstate")


@requirement("K-INK-8")
@PROTECTED
def test_ne_is_the_guests(vm: VirtualMachine) -> None:
    """CR0.NE may be 0: a guest of the old kind takes x87 errors by an interrupt."""
    bench = _bench(vm)
    before = _get(bench, "cr0")
    for value in (before & ~NE, before | NE):
        _put(bench, "cr0", value)
        check.equal(_get(bench, "cr0") & NE, value & NE, "NE")


@requirement("K-INK-8")
@EVERYWHERE
def test_reserved_bits_of_cr0(vm: VirtualMachine) -> None:
    """Reserved bits of CR0 below 32 do not stick: ignored, or the write is #GP(0)."""
    bench = _bench(vm)
    before = _get(bench, "cr0")
    for bit in (6, 15, 17, 28):
        effect = bench.execute("put_cr0", {Gpr.RAX: before | 1 << bit})
        check(effect.end == DONE or effect.end[:3] == "#GP", f"bit {bit}: {effect.end}")
        check.equal(_get(bench, "cr0"), before, "CR0")


@requirement("K-INK-8")
@modes(Mode.PROT32, Mode.COMPAT32)
@pytest.mark.parametrize(("set_bits", "clear_bits"), [(NW, CD), (PG, PE)])
def test_combinations_of_cr0(vm: VirtualMachine, set_bits: int, clear_bits: int) -> None:
    """NW without CD, and PG without PE, are #GP(0), and CR0 is as before (SDM 2 "MOV")."""
    bench = _bench(vm)
    before = _get(bench, "cr0")
    _put(bench, "cr0", before & ~clear_bits | set_bits, "#GP(0)")
    check.equal(_get(bench, "cr0"), before, "CR0")


@requirement("K-SET-5", "K-SET-6", "A-REG-4")
@EVERYWHERE
@pytest.mark.parametrize("bits", [MP, EM, TS, WP, AM, CD, CD | NW, NE])
def test_cr0_that_the_caller_sets(vm: VirtualMachine, bits: int) -> None:
    """A CR0 bit that the caller sets is what the guest reads, and getstate; NE may be forced on."""
    bench = _bench(vm)
    cr = bench.stubs.registers.cr
    cr[Cr.CR0] |= bits
    wanted = cr[Cr.CR0]
    got = _get(bench, "cr0")
    check(got in (wanted, wanted | NE), f"CR0 {got:#x} is {wanted:#x}, but for NE")
    check.equal(bench.guest.state().cr[Cr.CR0], got, "CR0, getstate")


# ---- LMSW, SMSW, CLTS ----


@requirement("K-INK-8")
@EVERYWHERE
def test_lmsw(vm: VirtualMachine) -> None:
    """LMSW sets MP, EM and TS as told, leaves the rest, and cannot clear PE; no exit (BH-77)."""
    bench = _bench(vm)
    before = _get(bench, "cr0")
    for bits in (MP, EM, TS, MP | TS, MP | EM | TS, 0):
        for first in (before, before | MP | EM | TS):
            _put(bench, "cr0", first)
            _put(bench, "msw", bits)
            wanted = first & ~(MP | EM | TS) | bits
            check.equal(_get(bench, "cr0"), wanted, f"CR0 after LMSW of {bits:#x}")


@requirement("K-INK-8")
@modes(Mode.REAL16)
def test_lmsw_enters_protected_mode(vm: VirtualMachine) -> None:
    """LMSW may set PE: the guest is in protected mode (BH-77)."""
    run = vm.run_code("""
        mov     ax, 0x11
        lmsw    ax
        smsw    ax
        hlt
    """)
    check.equal(run.reason, Stop.HALTED, "end")
    check.equal(run.registers.gpr[Gpr.RAX] & 1, PE, "PE, SMSW")
    check.equal(run.registers.cr[Cr.CR0] & 1, PE, "PE, getstate")


@requirement("K-INK-8")
@EVERYWHERE
def test_clts(vm: VirtualMachine) -> None:
    """CLTS clears TS and nothing else, without exit (BH-77)."""
    bench = _bench(vm)
    before = _get(bench, "cr0")
    _put(bench, "cr0", before | TS | MP)
    effect = bench.execute("clear_ts")
    check.equal((effect.end, effect.exits), (DONE, ()), "CLTS")
    check.equal(_get(bench, "cr0"), before | MP, "CR0")


@requirement("K-INK-8")
@EVERYWHERE
def test_smsw(vm: VirtualMachine) -> None:
    """SMSW reads CR0, its lower 16 bits at least."""
    bench = _bench(vm)
    _put(bench, "cr0", _get(bench, "cr0") | TS)
    check.equal(_get(bench, "msw") & 0xFFFF, _get(bench, "cr0") & 0xFFFF, "SMSW")


# ---- CR2, CR3 ----


@requirement("A-REG-4", "A-REG-10")
@EVERYWHERE
def test_cr2_is_the_guests(vm: VirtualMachine) -> None:
    """CR2 takes any value, from the guest and from the caller, as wide as the mode has it."""
    bench = _bench(vm)
    mask = 0xFFFF_FFFF_FFFF_FFFF if vm.mode is Mode.LONG64 else 0xFFFF_FFFF
    for value in (0x12345678, 0x8123456789ABCDEF & mask, 0):
        _put(bench, "cr2", value)
        check.equal(bench.guest.state().cr[Cr.CR2], value, "CR2, getstate")
        bench.stubs.registers.cr[Cr.CR2] = value ^ 0x5555
        check.equal(_get(bench, "cr2"), value ^ 0x5555, "CR2, that the caller has set")


@requirement("A-REG-4", "A-REG-10")
@modes(Mode.REAL16, Mode.PROT32)
def test_cr3_is_the_guests(vm: VirtualMachine) -> None:
    """Without paging CR3 takes any address, from the guest and from the caller."""
    bench = _bench(vm)
    for value in (0x12345000, 0xFFFFF018, 0):
        _put(bench, "cr3", value)
        check.equal(_get(bench, "cr3"), value, "CR3")
        check.equal(bench.guest.state().cr[Cr.CR3], value, "CR3, getstate")
        bench.stubs.registers.cr[Cr.CR3] = value ^ 0xFF000
        check.equal(_get(bench, "cr3"), value ^ 0xFF000, "CR3, that the caller has set")


@requirement("A-REG-4")
@LONG
@pytest.mark.parametrize("bit", [52, 62])
def test_cr3_beyond_physical_addresses(vm: VirtualMachine, bit: int) -> None:
    """A CR3 with bits above the physical address width is #GP(0) (SDM 2 "MOV")."""
    bench = _bench(vm)
    before = _get(bench, "cr3")
    _put(bench, "cr3", before | 1 << bit, "#GP(0)")
    check.equal(_get(bench, "cr3"), before, "CR3")


# ---- CR4 ----

CR4_BITS = {  # bit: leaf, register (EAX to EDX), bit of CPUID that offers it
    "vme": (0, (1, 3, 1)),
    "pvi": (1, (1, 3, 1)),
    "tsd": (2, (1, 3, 4)),
    "de": (3, (1, 3, 2)),
    "pse": (4, (1, 3, 3)),
    "mce": (6, (1, 3, 7)),
    "pge": (7, (1, 3, 13)),
    "pce": (8, None),
    "osfxsr": (9, (1, 3, 24)),
    "umip": (11, (7, 2, 2)),
    "la57": (12, (7, 2, 16)),
    "vmxe": (13, (1, 2, 5)),
    "smxe": (14, (1, 2, 6)),
    "fsgsbase": (16, (7, 1, 0)),
    "pcide": (17, (1, 2, 17)),
    "osxsave": (18, (1, 2, 26)),
    "smep": (20, (7, 1, 7)),
    "smap": (21, (7, 1, 20)),
    "pke": (22, (7, 2, 3)),
    "cet": (23, (7, 2, 7)),
    "pks": (24, (7, 2, 31)),
}
RESERVED = [15, 19, 26, 31]


@requirement("K-INK-7", "A-REG-10")
@LONG
@pytest.mark.parametrize("name", CR4_BITS)
def test_cr4_bit_follows_cpuid(vm: VirtualMachine, name: str) -> None:
    """A bit of CR4 can be set and read back where CPUID offers what it is for; where not it is
    reserved, and #GP(0) (BH-76)."""
    bench = _bench(vm)
    _hide_from_user(bench)
    bit, feature = CR4_BITS[name]
    before = _get(bench, "cr4")
    if name == "la57" and _offers(bench, *(feature or (0, 0, 0))):
        _put(bench, "cr4", before | 1 << bit, "#GP(0)")  # not while in long mode
    elif feature is None or _offers(bench, *feature):
        _put(bench, "cr4", before | 1 << bit)
        check.equal(_get(bench, "cr4"), before | 1 << bit, "CR4")
        check.equal(bench.guest.state().cr[Cr.CR4], before | 1 << bit, "CR4, getstate")
        _put(bench, "cr4", before)
    else:
        _put(bench, "cr4", before | 1 << bit, "#GP(0)")
    check.equal(_get(bench, "cr4"), before, "CR4 afterwards")


@requirement("K-INK-7")
@EVERYWHERE
@pytest.mark.parametrize("bit", RESERVED)
def test_reserved_bits_of_cr4(vm: VirtualMachine, bit: int) -> None:
    """A reserved bit of CR4 is #GP(0), and CR4 is as before."""
    bench = _bench(vm)
    before = _get(bench, "cr4")
    end = "#GP" if vm.mode is Mode.REAL16 else "#GP(0)"
    _put(bench, "cr4", before | 1 << bit, end)
    check.equal(_get(bench, "cr4"), before, "CR4")


@requirement("K-SET-3", "K-SET-4", "A-REG-4")
@EVERYWHERE
@pytest.mark.parametrize("bits", [0x4, 0x8, 0x10, 0x80, 0x100, 0x20 | 0x10 | 0x8])
def test_cr4_that_the_caller_sets(vm: VirtualMachine, bits: int) -> None:
    """CR4 bits that the caller sets are what the guest reads, and VMXE is not among them."""
    bench = _bench(vm)
    bench.set_cr4(bits)
    wanted = bench.stubs.registers.cr[Cr.CR4]
    check.equal(_get(bench, "cr4"), wanted, "CR4")
    check.equal(bench.guest.state().cr[Cr.CR4], wanted, "CR4, getstate")


# ---- modes ----


@requirement("K-INK-8", "K-MSR-8")
@modes(Mode.PROT32)
def test_long_mode_is_entered_and_left(vm: VirtualMachine) -> None:
    """With EFER.LME and CR4.PAE, PG makes LMA 1; clearing PG makes it 0 (BH-88)."""
    guest = vm.prepare_code("""
        mov     eax, 0x620
        mov     cr4, eax
        mov     eax, 0x8000
        mov     cr3, eax
        mov     ecx, 0xC0000080
        mov     eax, 0x100
        xor     edx, edx
        wrmsr
        mov     ebx, cr0
        mov     eax, ebx
        or      eax, 0x80000000
        mov     cr0, eax
        rdmsr
        mov     esi, eax
        hlt
        mov     cr0, ebx
        rdmsr
        mov     edi, eax
        hlt
    """)
    _map_long(guest)
    run = guest.run()
    check.equal(run.registers.gpr[Gpr.RSI] & (LME | LMA), LME | LMA, "EFER in long mode")
    check.equal(run.state.msr[Msr.EFER] & (LME | LMA), LME | LMA, "EFER, getstate")
    check.equal(run.state.cr[Cr.CR0] & PG, PG, "PG, getstate")
    run = run.resume()
    check.equal(run.registers.gpr[Gpr.RDI] & (LME | LMA), LME, "EFER without paging")
    check.equal(run.state.msr[Msr.EFER] & (LME | LMA), LME, "EFER without paging, getstate")
    check.equal(run.reasons(), [ExitReason.HALTED] * 2, "exits")


def _map_long(guest: PreparedGuest) -> None:
    """Tables at 8000h: 4 levels, 2 MiB pages, the first 2 MiB as they are."""
    guest.write(0x8000, (0x9000 | 7).to_bytes(8, "little"))
    guest.write(0x9000, (0xA000 | 7).to_bytes(8, "little"))
    guest.write(0xA000, (0x87).to_bytes(8, "little"))


@requirement("K-INK-8")
@modes(Mode.PROT32)
@pytest.mark.parametrize("cache", [0, CD])
def test_leaving_long_mode_with_other_bits(vm: VirtualMachine, cache: int) -> None:
    """One write may clear PG and change CD too: the guest goes on outside long mode."""
    guest = vm.prepare_code(
        """
        mov     eax, 0x620
        mov     cr4, eax
        mov     eax, 0x8000
        mov     cr3, eax
        mov     ecx, 0xC0000080
        mov     eax, 0x100
        xor     edx, edx
        wrmsr
        mov     ebx, cr0
        mov     eax, ebx
        or      eax, 0x80000000
        mov     cr0, eax
        or      ebx, {{ cache }}
        mov     cr0, ebx
        rdmsr
        hlt
        """,
        cache=cache,
    )
    _map_long(guest)
    run = guest.run()
    check.equal(run.outcome.reason, Stop.HALTED, "end")
    check.equal(run.registers.gpr[Gpr.RAX] & LMA, 0, "LMA")


@requirement("K-INK-8")
@modes(Mode.PROT32)
@pytest.mark.parametrize("pae", [False, True])
def test_paging_needs_pae_for_long_mode(vm: VirtualMachine, pae: bool) -> None:
    """With EFER.LME, PG without CR4.PAE is #GP(0) (SDM 3A 10.8.5)."""
    bench = _bench(vm)
    _map_long(bench.guest)
    bench.stubs.registers.msr[Msr.EFER] = LME
    bench.stubs.registers.cr[Cr.CR3] = 0x8000
    if pae:
        bench.set_cr4(0x20)
        effect = bench.execute("put_cr0", {Gpr.RAX: PG | NE | ET | PE})
        check.equal(effect.gpr[Gpr.RAX], PG | NE | ET | PE, "RAX")
        check.equal(bench.guest.state().cr[Cr.CR0] & PG, PG, "PG")
    else:
        _put(bench, "cr0", PG | NE | ET | PE, "#GP(0)")


@requirement("K-INK-8")
@modes(Mode.COMPAT32, Mode.LONG64)
def test_pae_cannot_be_cleared_in_long_mode(vm: VirtualMachine) -> None:
    """Clearing CR4.PAE in long mode is #GP(0), and CR4 is as before (SDM 2 "MOV")."""
    bench = _bench(vm)
    before = _get(bench, "cr4")
    _put(bench, "cr4", before & ~0x20, "#GP(0)")
    check.equal(_get(bench, "cr4"), before, "CR4")


@requirement("K-INK-8")
@modes(Mode.LONG64)
def test_paging_stays_on_in_64_bit_mode(vm: VirtualMachine) -> None:
    """Clearing CR0.PG in 64-bit mode is #GP(0) (SDM 2 "MOV")."""
    bench = _bench(vm)
    before = _get(bench, "cr0")
    _put(bench, "cr0", before & ~PG, "#GP(0)")
    check.equal(_get(bench, "cr0"), before, "CR0")


# ---- PAE's page-directory pointers ----

TABLES = (0x8000, 0xB000)
"""Two PAE hierarchies: pointers here, a directory in the next page."""
WINDOW = 0x40005000
"""A linear address: the first hierarchy has 5000h there, the second 7000h."""


def _pae_guest(vm: VirtualMachine, code: str) -> PreparedGuest:
    guest = vm.prepare_code(code)
    for number, at in enumerate(TABLES):
        guest.write(at, (at + 0x1000 | 1).to_bytes(8, "little"))
        guest.write(at + 8, (at + 0x2000 | 1).to_bytes(8, "little"))
        guest.write(at + 0x1000, (0x87).to_bytes(8, "little"))
        guest.write(at + 0x2000, (0x87 if not number else 0xE007).to_bytes(8, "little"))
    guest.write(0xE000 + 8 * 5, (0x7007).to_bytes(8, "little"))  # the second: 5000h is at 7000h
    guest.write(0x5000, b"\x11\x11\x11\x11")
    guest.write(0x7000, b"\x22\x22\x22\x22")
    return guest


PAE_ON = f"""
    mov     eax, 0x20
    mov     cr4, eax
    mov     eax, {TABLES[0]:#x}
    mov     cr3, eax
    mov     eax, cr0
    or      eax, 0x80000000
    mov     cr0, eax
    mov     eax, [{WINDOW:#x}]
    hlt
"""


@requirement("A-REG-4", "K-INK-12")
@modes(Mode.PROT32)
def test_pae_guest_changes_cr3(vm: VirtualMachine) -> None:
    """MOV to CR3 loads the page-directory pointers of PAE paging anew."""
    guest = _pae_guest(
        vm, PAE_ON + f"mov ebx, {TABLES[1]:#x}\nmov cr3, ebx\nmov eax, [{WINDOW:#x}]\nhlt"
    )
    run = guest.run()
    check.equal(run.registers.gpr[Gpr.RAX], 0x11111111, "by the first tables")
    run = run.resume()
    check.equal(run.registers.gpr[Gpr.RAX], 0x22222222, "by the second tables")


@requirement("A-REG-4", "A-REG-8")
@modes(Mode.PROT32)
def test_pae_guest_whose_cr3_the_caller_changes(vm: VirtualMachine) -> None:
    """A PAE guest whose CR3 the caller sets goes on with the new tables' pointers (BH-87)."""
    guest = _pae_guest(vm, PAE_ON + f"mov eax, [{WINDOW:#x}]\nhlt")
    check.equal(guest.run().registers.gpr[Gpr.RAX], 0x11111111, "by the first tables")
    guest.registers.cr[Cr.CR3] = TABLES[1]
    check.equal(guest.run().registers.gpr[Gpr.RAX], 0x22222222, "by the second tables")


@requirement("A-REG-4", "A-REG-8")
@modes(Mode.PROT32)
def test_pae_guest_that_the_caller_begins(vm: VirtualMachine) -> None:
    """A guest that the caller enters with PAE paging on has the pointers that CR3 names (BH-87)."""
    guest = _pae_guest(vm, f"mov eax, [{WINDOW:#x}]\nhlt")
    cr = guest.registers.cr
    cr[Cr.CR0], cr[Cr.CR3], cr[Cr.CR4] = PG | NE | ET | PE, TABLES[0], 0x620
    check.equal(guest.run().registers.gpr[Gpr.RAX], 0x11111111, "by the tables")


# ---- rights and TLB ----

USER_PAGE, OTHER = 0x600000, 0x5000
"""Linear, made for the case by an entry of the page directory; and a page of RAM."""


def _table(bench: Bench, entry: int) -> None:
    """Map USER_PAGE, 4 KiB: by `entry`."""
    directory = bench.guest.image.linear("page_directory")
    bench.guest.write(directory + 8 * (USER_PAGE >> 21), (0x1E000 | 7).to_bytes(8, "little"))
    bench.guest.write(0x1E000, entry.to_bytes(8, "little"))


TOUCH = {
    "read": "mov eax, [rbx]",
    "write": "mov [rbx], eax",
    "jump": "jmp rbx",
    "flush_one": "invlpg [rbx]",
    "flush_all": "mov rcx, cr3\nmov cr3, rcx",
    "flush_global": "mov rcx, cr4\nxor rcx, 0x80\nmov cr4, rcx\nxor rcx, 0x80\nmov cr4, rcx",
    "remap": "mov dword ptr [0x1E000], edx",
}


@requirement("K-INK-12", "A-REG-4")
@LONG
@pytest.mark.parametrize("wp", [False, True])
def test_write_protect(vm: VirtualMachine, wp: bool) -> None:
    """At CPL 0 a read-only page is writable unless CR0.WP is set, then it is #PF(3)."""
    bench = _bench(vm, **TOUCH)
    _table(bench, OTHER | 5)
    cr = bench.stubs.registers.cr
    cr[Cr.CR0] = cr[Cr.CR0] & ~WP | (WP if wp else 0)
    effect = bench.execute("write", {Gpr.RBX: USER_PAGE, Gpr.RAX: 0x77})
    check.equal(effect.end, "#PF(0x3)" if wp else DONE, "write")


@requirement("K-INK-12")
@LONG
@pytest.mark.parametrize(
    ("how", "entry"),
    [
        ("flush_one", OTHER | 7),
        ("flush_all", OTHER | 7),
        ("flush_global", OTHER | 7),
        ("flush_one", OTHER | 0x107),
        ("flush_global", OTHER | 0x107),
    ],
)
def test_flush(vm: VirtualMachine, how: str, entry: int) -> None:
    """After a page's entry has changed, INVLPG, MOV to CR3 (but for global pages) and a change of
    CR4.PGE make the processor use the new one."""
    bench = _bench(vm, **TOUCH)
    bench.guest.write(OTHER, b"\x11\0\0\0")
    bench.guest.write(0x4000, b"\x22\0\0\0")
    _table(bench, entry)
    bench.set_cr4(0x80)
    check.equal(bench.execute("read", {Gpr.RBX: USER_PAGE}).gpr[Gpr.RAX], 0x11, "before")
    new = entry & 0xFFF | 0x4000
    bench.execute("remap", {Gpr.RDX: new})
    check.equal(bench.execute(how, {Gpr.RBX: USER_PAGE}).end, DONE, how)
    check.equal(bench.execute("read", {Gpr.RBX: USER_PAGE}).gpr[Gpr.RAX], 0x22, "afterwards")


SUPERVISOR = {"smep": (SMEP, 7, "jump"), "smap": (SMAP, 20, "read")}


@requirement("K-INK-7", "K-INK-12")
@LONG
@pytest.mark.parametrize("name", SUPERVISOR)
def test_supervisor_protection(vm: VirtualMachine, name: str) -> None:
    """Where CPUID offers it, setting CR4.SMEP or SMAP forbids CPL 0 a user page that it has used
    just before (BH-76)."""
    bit, feature, touch = SUPERVISOR[name]
    bench = _bench(vm, **TOUCH)
    if not _offers(bench, 7, 1, feature):
        _put(bench, "cr4", _get(bench, "cr4") | bit, "#GP(0)")
        return
    _hide_from_user(bench)
    _table(bench, OTHER | 7)
    bench.guest.write(OTHER, b"\xf4")  # hlt
    effect = bench.execute(touch, {Gpr.RBX: USER_PAGE})
    check("#" not in effect.end, f"before: {effect.end}")
    _put(bench, "cr4", _get(bench, "cr4") | bit)
    effect = bench.execute(touch, {Gpr.RBX: USER_PAGE})
    check(effect.end.startswith("#PF"), f"with {name}: {effect.end}")
    if effect.frame is not None:
        check.equal((effect.frame.error or 0) & 0xF, 1, "error code but for the fetch")
    if name == "smap":
        effect = bench.execute(touch, {Gpr.RBX: USER_PAGE}, flags=1 << 18)
        check.equal(effect.end, DONE, "with RFLAGS.AC")


@requirement("K-INK-8")
@PROTECTED
def test_ts_and_clts_decide_on_x87(vm: VirtualMachine) -> None:
    """TS set by the guest makes x87 instructions #NM, cleared by CLTS they execute (BH-77)."""
    bench = _bench(vm, wait="fnop")
    _put(bench, "cr0", _get(bench, "cr0") | TS | MP)
    check.equal(bench.execute("wait").end, "#NM", "with TS")
    bench.execute("clear_ts")
    check.equal(bench.execute("wait").end, DONE, "after CLTS")
