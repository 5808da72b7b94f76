# SPDX-License-Identifier: BSD-2-Clause
"""XCR0 and the XSAVE family: SDM 1 chapter 13, SDM 2D "XSETBV"; leaf 0xD of CPUID.

What XCR0 may have is the capability's xcr0_mask; a target whose mask is 0, or whose CPUID
shows no XSAVE, has none of this, and then each case looks at that.
"""

from __future__ import annotations

import pytest
from insn_bench import CR4_OSXSAVE, DONE, Bench

from nvmmconf.suite import (
    Capability,
    Cr,
    ExitReason,
    Gpr,
    Mode,
    StateFlag,
    Vcpu,
    VirtualMachine,
    check,
    modes,
    requirement,
)

X87, SSE, AVX = 1, 2, 4
HEADER = 64
LEGACY = 512
AREA = 0x6000
"""Where XSAVE's area is."""
FILL = 0xA5
OFFSET_XMM = 160

CODE = {
    "xsetbv": "xsetbv",
    "xgetbv": "xgetbv",
    "cpuid": "cpuid",
    "xsave": "xsave [{{ bx }}]",
    "xrstor": "xrstor [{{ bx }}]",
    "xsaveopt": "xsaveopt [{{ bx }}]",
    "fxsave": "fxsave [{{ bx }}]",
    "ldmxcsr": "ldmxcsr [{{ bx }}]",
    "stmxcsr": "stmxcsr [{{ bx }}]",
}
DIRTY = 0xDEADBEEF_00000000
End = tuple[str, tuple[ExitReason | int, ...]]
"""How an instruction ended, and its exits."""
UNDEFINED = "#UD"


def _bench(vm: VirtualMachine, *, user: bool = False) -> Bench:
    """A bench with CR4.OSXSAVE, where XCR0 can have anything."""
    bench = Bench(vm, CODE, user=user)
    if vm.target.capability.xcr0_mask:
        bench.set_cr4(CR4_OSXSAVE)
    return bench


def _has_xsave(bench: Bench) -> bool:
    has = bool(bench.cpuid(1)[2] >> 26 & 1)
    check(has or bench.cpuid(0xD)[0] == 0, "without XSAVE no leaf 0xD")
    return has


def _xsetbv(bench: Bench, value: int, index: int = 0, upper: int = 0) -> End:
    effect = bench.execute(
        "xsetbv",
        {Gpr.RCX: index, Gpr.RAX: upper | value & 0xFFFFFFFF, Gpr.RDX: upper | value >> 32},
    )
    return effect.end, effect.exits


def _xcr0(bench: Bench) -> int:
    effect = bench.execute("xgetbv", {Gpr.RCX: 0, Gpr.RAX: DIRTY, Gpr.RDX: DIRTY})
    check.equal((effect.end, effect.exits), (DONE, ()), "XGETBV")
    check.equal((effect.gpr[Gpr.RAX] | effect.gpr[Gpr.RDX]) >> 32, 0, "bits 63:32")
    return effect.edx_eax


# ---- XSETBV ----


@requirement("K-INK-1")
@modes(Mode.REAL16, Mode.PROT32, Mode.LONG64)
@pytest.mark.parametrize("value", [X87, X87 | SSE, X87 | SSE | AVX])
def test_xsetbv_of_what_the_mask_has(vm: VirtualMachine, value: int) -> None:
    """XSETBV of bits that xcr0_mask has is done without exit; XGETBV and getstate show it."""
    bench = _bench(vm)
    if not _has_xsave(bench):
        return
    if value & ~vm.target.capability.xcr0_mask:
        fault = "#GP" if vm.mode is Mode.REAL16 else "#GP(0)"
        check.equal(_xsetbv(bench, value), (fault, ()), "XSETBV of what the mask has not")
        return
    check.equal(_xsetbv(bench, value), (DONE, ()), "XSETBV")
    check.equal(_xcr0(bench), value, "XGETBV")
    check.equal(bench.guest.state().cr[Cr.XCR0], value, "getstate")
    check.equal(_xsetbv(bench, X87), (DONE, ()), "XSETBV of 1")
    check.equal(_xcr0(bench), X87, "XGETBV after it")


INVALID = [0, SSE, AVX, AVX | X87, 0x8, 0x18 | X87, 0xE0 | X87, 1 << 9 | X87, 1 << 32 | X87]


@requirement("K-INK-2")
@modes(Mode.LONG64)
@pytest.mark.parametrize("value", [*INVALID, 1 << 62 | X87, 1 << 63 | X87])
def test_xsetbv_of_what_makes_no_sense(vm: VirtualMachine, value: int) -> None:
    """XSETBV without x87, with AVX but not SSE, or outside the mask is #GP(0) (BH-73)."""
    bench = _bench(vm)
    if not _has_xsave(bench):
        return
    check.equal(_xsetbv(bench, X87 | SSE), (DONE, ()), "XSETBV of 3")
    check.equal(_xsetbv(bench, value), ("#GP(0)", ()), f"XSETBV of {value:#x}")
    check.equal(_xcr0(bench), X87 | SSE, "XCR0")


@requirement("K-INK-2")
@modes(Mode.PROT32, Mode.LONG64)
@pytest.mark.parametrize("index", [1, 2, 0x80000000, 0xFFFFFFFF])
def test_xsetbv_of_other_registers(vm: VirtualMachine, index: int) -> None:
    """There is XCR0 only: XSETBV with another number in ECX is #GP(0)."""
    bench = _bench(vm)
    if not _has_xsave(bench):
        return
    check.equal(_xsetbv(bench, X87, index), ("#GP(0)", ()), "XSETBV")
    check.equal(_xcr0(bench), X87, "XCR0")


@requirement("K-INK-1", "K-INK-2")
@modes(Mode.LONG64)
def test_xsetbv_looks_at_ecx(vm: VirtualMachine) -> None:
    """XSETBV's index is ECX, and its value EDX:EAX, whatever is above (BH-63)."""
    bench = _bench(vm)
    if not _has_xsave(bench):
        return
    check.equal(_xsetbv(bench, X87 | SSE, DIRTY, DIRTY), (DONE, ()), "XSETBV")
    check.equal(_xcr0(bench), X87 | SSE, "XCR0")


@requirement("K-INK-1")
@modes(Mode.LONG64)
def test_xsetbv_takes_no_upper_half(vm: VirtualMachine) -> None:
    """XSETBV's value is EDX:EAX: bits 63:32 of RAX and RDX are not looked at."""
    bench = _bench(vm)
    if not _has_xsave(bench):
        return
    check.equal(_xsetbv(bench, X87 | SSE, 0, DIRTY), (DONE, ()), "XSETBV")
    check.equal(_xcr0(bench), X87 | SSE, "XCR0")


@requirement("K-INK-2")
@modes(Mode.PROT32, Mode.LONG64)
@pytest.mark.parametrize("value", [0, X87, X87 | SSE])
def test_xsetbv_is_for_cpl_0(vm: VirtualMachine, value: int) -> None:
    """XSETBV at CPL 3 is #GP(0), and changes nothing (BH-73)."""
    bench = _bench(vm, user=True)
    if not _has_xsave(bench):
        return
    check.equal(_xsetbv(bench, value), ("#GP(0)", ()), "XSETBV")
    check.equal(_xcr0(bench), X87, "XCR0, read at CPL 3")


@requirement("K-INK-2", "K-CPUID-6")
@modes(Mode.REAL16, Mode.LONG64)
@pytest.mark.parametrize("insn", ["xsetbv", "xgetbv", "xsave", "xrstor"])
def test_without_osxsave_all_is_undefined(vm: VirtualMachine, insn: str) -> None:
    """With CR4.OSXSAVE clear XSETBV, XGETBV, XSAVE and XRSTOR are #UD, and no exit."""
    effect = Bench(vm, CODE).execute(insn, {Gpr.RAX: 1, Gpr.RBX: AREA})
    assert (effect.end, effect.exits) == (UNDEFINED, ())


@requirement("K-INK-1", "K-CPUID-12")
@modes(Mode.PROT32, Mode.LONG64)
@pytest.mark.parametrize("index", [1, 2, 0xFFFFFFFF])
def test_xgetbv_of_other_registers(vm: VirtualMachine, index: int) -> None:
    """XGETBV of 1 works where leaf 0xD.1 offers it, within XCR0; of others it is #GP(0)."""
    bench = _bench(vm)
    if not _has_xsave(bench):
        return
    effect = bench.execute("xgetbv", {Gpr.RCX: index})
    offered = index == 1 and bench.cpuid(0xD, 1)[0] >> 2 & 1
    if offered:
        check.equal(effect.end, DONE, "XGETBV")
        check.equal(effect.edx_eax & ~_xcr0(bench), 0, "in use, but not in XCR0")
    elif index == 1:
        check(effect.end in (DONE, "#GP(0)"), f"XGETBV of 1, which CPUID hides: {effect.end}")
    else:
        check.equal(effect.end, "#GP(0)", "XGETBV")


@requirement("K-INK-13", "K-INK-1")
@modes(Mode.LONG64)
def test_trap_follows_xsetbv(vm: VirtualMachine) -> None:
    """With TF set, #DB follows XSETBV as it follows any instruction (SDM 3A 18.3.1.4)."""
    bench = _bench(vm)
    if not _has_xsave(bench):
        return
    effect = bench.execute("xsetbv", {Gpr.RAX: X87, Gpr.RCX: 0, Gpr.RDX: 0}, flags=0x100)
    assert effect.frame is not None
    assert (effect.frame.vector, effect.frame.ip) == (1, bench.guest.symbol("xsetbv_after"))


# ---- XCR0 and the caller ----


@requirement("K-SET-7")
@modes(Mode.LONG64)
@pytest.mark.parametrize("value", [0, X87, SSE, X87 | SSE, AVX, 7, 0xFF, 1 << 63, (1 << 64) - 1])
def test_callers_xcr0_is_made_valid(vm: VirtualMachine, value: int) -> None:
    """XCR0 that the caller sets reads back as (value AND xcr0_mask) OR 1, and is so (BH-74)."""
    bench = _bench(vm)
    if not _has_xsave(bench):
        return
    bench.stubs.registers.cr[Cr.XCR0] = value
    wanted = value & vm.target.capability.xcr0_mask | X87
    if wanted & AVX:
        wanted |= SSE
    check.equal(_xcr0(bench), wanted, "XGETBV")
    check.equal(bench.guest.state().cr[Cr.XCR0], wanted, "getstate")


@requirement("K-RST-6", "K-CAP-8")
def test_xcr0_after_reset(vcpu: Vcpu, capability: Capability) -> None:
    """XCR0 is 1 after creation; the mask, where there is one, has x87."""
    vcpu.getstate(StateFlag.CRS)
    check.equal(int(vcpu.state.crs[Cr.XCR0]), X87, "XCR0")
    check(capability.xcr0_mask == 0 or capability.xcr0_mask & X87, "x87 in xcr0_mask")


# ---- leaf 0xD ----


@requirement("K-CPUID-11")
@modes(Mode.REAL16, Mode.LONG64)
def test_leaf_d_tells_the_mask_and_the_largest_area(vm: VirtualMachine) -> None:
    """Leaf 0xD: EDX:EAX is xcr0_mask, ECX the size for all of it, header included (BH-60)."""
    bench = _bench(vm)
    if not _has_xsave(bench):
        return
    eax, ebx, ecx, edx = bench.cpuid(0xD)
    mask = vm.target.capability.xcr0_mask
    check.equal(edx << 32 | eax, mask, "EDX:EAX")
    if mask & ~(X87 | SSE):
        check(ecx > LEGACY + HEADER, f"{ecx} bytes for XCR0 {mask:#x}")
    else:
        check.equal(ecx, LEGACY + HEADER, "ECX")
    check(ebx <= ecx, f"{ebx} bytes now are not more than {ecx}")


@requirement("K-CPUID-11")
@modes(Mode.LONG64)
def test_leaf_d_follows_xcr0(vm: VirtualMachine) -> None:
    """Leaf 0xD's EBX is the size for what XCR0 has now: 576 with SSE."""
    bench = _bench(vm)
    if not _has_xsave(bench):
        return
    sizes = []
    for value in (X87, X87 | SSE, X87):
        check.equal(_xsetbv(bench, value), (DONE, ()), f"XSETBV of {value}")
        sizes.append(bench.cpuid(0xD)[1])
    check.equal(sizes[1], LEGACY + HEADER, "EBX with SSE")
    check.equal(sizes[0], sizes[2], "EBX with x87 alone, before and after")
    check(sizes[0] <= sizes[1], "x87 alone needs no more")


@requirement("K-CPUID-11")
@modes(Mode.LONG64)
def test_leaf_d_with_x87_alone_has_room_for_the_header(vm: VirtualMachine) -> None:
    """The size for x87 alone includes the header, which XSAVE writes at 512 (SDM 1 13.4)."""
    bench = _bench(vm)
    if not _has_xsave(bench):
        return
    check.equal(bench.cpuid(0xD)[1], LEGACY + HEADER, "EBX with x87 alone")


@requirement("K-CPUID-12")
@modes(Mode.LONG64)
def test_extensions_of_xsave(vm: VirtualMachine) -> None:
    """Leaf 0xD.1 offers XSAVEOPT, XSAVEC and XGETBV of 1 at most, not XSAVES (BH-61)."""
    bench = _bench(vm)
    eax, *rest = bench.cpuid(0xD, 1)
    check.equal(eax & ~0x7, 0, "EAX")
    check.equal(rest, [0, 0, 0], "EBX, ECX, EDX")


@requirement("K-CPUID-12")
@modes(Mode.LONG64)
def test_xsavec_comes_with_a_leaf_that_describes_it(vm: VirtualMachine) -> None:
    """Where XSAVEC is offered it works, in an area of leaf 0xD.1's size (BH-61)."""
    bench = Bench(vm, CODE | {"xsavec": "xsavec [{{ bx }}]"})
    bench.set_cr4(CR4_OSXSAVE)
    if not bench.cpuid(0xD, 1)[0] >> 1 & 1:
        check(True, "XSAVEC is not offered")
        return
    effect = bench.execute("xsavec", {Gpr.RAX: 3, Gpr.RDX: 0, Gpr.RBX: AREA})
    check.equal(effect.end, DONE, "XSAVEC")


# ---- XSAVE, XRSTOR ----


@requirement("K-CPUID-11", "K-SET-16")
@modes(Mode.PROT32, Mode.LONG64)
@pytest.mark.parametrize("insn", ["xsave", "xsaveopt"])
@pytest.mark.parametrize("xcr0", [X87, X87 | SSE])
def test_xsave_stays_within_leaf_ds_size(vm: VirtualMachine, xcr0: int, insn: str) -> None:
    """XSAVE of all that XCR0 has writes no byte beyond the size that leaf 0xD tells (BH-60)."""
    bench = _bench(vm)
    if not _has_xsave(bench) or (insn == "xsaveopt" and not bench.cpuid(0xD, 1)[0] & 1):
        check(True, "it is not offered")
        return
    check.equal(_xsetbv(bench, xcr0), (DONE, ()), "XSETBV")
    bench.stubs.registers.fpu.xmm[0] = 0x1111222233334444_5555666677778888
    size = max(bench.cpuid(0xD)[1], LEGACY + HEADER)
    bench.guest.write(AREA, bytes(LEGACY + HEADER) + bytes([FILL]) * 1024)
    ones = {Gpr.RAX: 0xFFFFFFFF, Gpr.RDX: 0xFFFFFFFF, Gpr.RBX: AREA}
    effect = bench.execute(insn, ones)
    check.equal((effect.end, effect.exits), (DONE, ()), insn)
    beyond = bench.guest.memory(AREA + size, LEGACY + HEADER + 1024 - size)
    check.equal(set(beyond), {FILL}, "bytes beyond the area")
    header = bench.guest.memory(AREA + LEGACY, 8)
    check.equal(int.from_bytes(header, "little") & ~xcr0, 0, "XSTATE_BV beyond XCR0")
    xmm = int.from_bytes(bench.guest.memory(AREA + OFFSET_XMM, 16), "little")
    wanted = 0x1111222233334444_5555666677778888 if xcr0 & SSE else 0
    check.equal(xmm, wanted, "XMM0 in the area")


@requirement("K-SET-16")
@modes(Mode.LONG64)
def test_xrstor_brings_back_what_xsave_saved(vm: VirtualMachine) -> None:
    """XRSTOR loads XMM registers from the area, and init values for what XSTATE_BV has not."""
    bench = _bench(vm)
    if not _has_xsave(bench):
        return
    check.equal(_xsetbv(bench, X87 | SSE), (DONE, ()), "XSETBV")
    saved = [0x0101010101010101 * (n + 1) << 64 | n for n in range(16)]
    bench.stubs.registers.fpu.xmm = list(saved)
    both = {Gpr.RAX: 3, Gpr.RDX: 0, Gpr.RBX: AREA}
    check.equal(bench.execute("xsave", both).end, DONE, "XSAVE")
    bench.stubs.registers.fpu.xmm = [0xFF] * 16
    check.equal(bench.execute("xrstor", both).end, DONE, "XRSTOR")
    check.equal(bench.guest.state().fpu.xmm, saved, "XMM registers")
    bench.guest.write(AREA + LEGACY, bytes([X87]))
    check.equal(bench.execute("xrstor", both).end, DONE, "XRSTOR without SSE in XSTATE_BV")
    check.equal(bench.guest.state().fpu.xmm, [0] * 16, "XMM registers in their init state")


@requirement("K-INK-2")
@modes(Mode.LONG64)
@pytest.mark.parametrize(
    ("offset", "byte"), [(0, AVX), (0, 0x80), (7, 0x80), (8, 1), (16, 1), (23, 1)]
)
def test_xrstor_refuses_a_bad_header(vm: VirtualMachine, offset: int, byte: int) -> None:
    """XRSTOR with XSTATE_BV outside XCR0, or reserved bytes set, is #GP(0) (SDM 1 13.8.1)."""
    bench = _bench(vm)
    if not _has_xsave(bench):
        return
    check.equal(_xsetbv(bench, X87 | SSE), (DONE, ()), "XSETBV")
    area = bytearray(LEGACY + HEADER)
    area[LEGACY + offset] |= byte
    bench.guest.write(AREA, bytes(area))
    effect = bench.execute("xrstor", {Gpr.RAX: 3, Gpr.RDX: 0, Gpr.RBX: AREA})
    check.equal((effect.end, effect.exits), ("#GP(0)", ()), "XRSTOR")


@requirement("K-INK-2")
@modes(Mode.LONG64)
@pytest.mark.parametrize("insn", ["xsave", "xrstor"])
def test_xsave_area_is_aligned(vm: VirtualMachine, insn: str) -> None:
    """XSAVE and XRSTOR of an area that is not 64-byte aligned are #GP(0)."""
    bench = _bench(vm)
    if not _has_xsave(bench):
        return
    effect = bench.execute(insn, {Gpr.RAX: 3, Gpr.RDX: 0, Gpr.RBX: AREA + 16})
    check.equal((effect.end, effect.exits), ("#GP(0)", ()), insn)


# ---- MXCSR ----


@requirement("K-CAP-9", "K-RST-10")
@modes(Mode.LONG64)
def test_fxsave_tells_the_capabilitys_mask(vm: VirtualMachine) -> None:
    """FXSAVE's MXCSR_MASK is the capability's mxcsr_mask (BH-101)."""
    bench = Bench(vm, CODE)
    effect = bench.execute("fxsave", {Gpr.RBX: AREA})
    check.equal((effect.end, effect.exits), (DONE, ()), "FXSAVE")
    mask = int.from_bytes(bench.guest.memory(AREA + 28, 4), "little")
    check.equal(mask or 0xFFBF, vm.target.capability.mxcsr_mask, "MXCSR_MASK")


@requirement("K-CAP-9")
@modes(Mode.LONG64)
@pytest.mark.parametrize("bit", range(0, 32, 3))
def test_mxcsr_bits_are_the_masks(vm: VirtualMachine, bit: int) -> None:
    """LDMXCSR of a bit that mxcsr_mask has is done, of another it is #GP(0) (BH-101)."""
    bench = Bench(vm, CODE)
    value = 0x1F80 | 1 << bit
    bench.guest.write(AREA, value.to_bytes(4, "little"))
    effect = bench.execute("ldmxcsr", {Gpr.RBX: AREA})
    if vm.target.capability.mxcsr_mask >> bit & 1:
        check.equal((effect.end, effect.exits), (DONE, ()), "LDMXCSR")
        check.equal(bench.execute("stmxcsr", {Gpr.RBX: AREA}).end, DONE, "STMXCSR")
        stored = int.from_bytes(bench.guest.memory(AREA, 4), "little")
        check.equal(stored, value, "MXCSR")
        check.equal(bench.guest.state().fpu.mxcsr, value, "MXCSR in getstate")
    else:
        check.equal((effect.end, effect.exits), ("#GP(0)", ()), "LDMXCSR")


@requirement("K-INK-1")
@modes(Mode.LONG64)
def test_guest_sets_xsave_up_by_itself(vm: VirtualMachine) -> None:
    """A guest that finds XSAVE sets CR4.OSXSAVE and XCR0 without any exit."""
    run = vm.run_code("""
        mov     eax, 1
        cpuid
        bt      ecx, 26
        jnc     done
        mov     rax, cr4
        bts     rax, 18
        mov     cr4, rax
        mov     eax, 0xD
        xor     ecx, ecx
        cpuid
        mov     esi, eax
        xor     ecx, ecx
        xsetbv
        xor     ecx, ecx
        xgetbv
        sub     esi, eax
    done:
        hlt
    """)
    assert run.rip == run.symbol("done") + 1
    assert run.registers.gpr[Gpr.RSI] == 0
    assert run.reasons() == [ExitReason.HALTED]
