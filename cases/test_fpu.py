# SPDX-License-Identifier: BSD-2-Clause
"""The FPU's and SSE's state, to the guest and back; EM, TS and MP; flags by PUSHF and IRET.

SDM 1 8.1 (x87), 10.2.3 (MXCSR), 10.5 (FXSAVE); SDM 2 "FXSAVE", "FXRSTOR", "FNSAVE", "FNSTENV",
"LDMXCSR", "XSAVE", "POPF", "IRET"; SDM 3A 2.5, table 2-2 (EM, MP, TS).  NVMM keeps the image of
FXSAVE: an abridged tag byte, MXCSR and its mask, ST0 to ST7 in the order of the stack.
"""

from __future__ import annotations

import pytest
from insn_bench import DONE, FAULTS, Bench

from nvmmconf.nvmm import get_bytes, put_bytes
from nvmmconf.suite import (
    Capability,
    Cr,
    ExitReason,
    Gpr,
    Mode,
    PreparedGuest,
    StateFlag,
    VirtualMachine,
    check,
    modes,
    requirement,
)

PROTECTED = modes(Mode.PROT32, Mode.LONG64)
LONG = modes(Mode.LONG64)
IMAGE = 0x5000
"""Where the guest has its image, aligned; below is what surrounds it."""

MP, EM, TS, NE = 2, 4, 8, 0x20
OSFXSR = 1 << 9

GO = """
go:
    {{ insn }}
again:
    hlt
    jmp     again
"""

ST = slice(32, 160)
XMM = slice(160, 416)


def _pattern(salt: int) -> bytes:
    """A whole image: all registers different, the x87 ones valid numbers."""
    image = bytearray(512)
    for index in range(8):
        mantissa = 1 << 63 | (0x123456789ABCDE0 + index + salt)
        image[32 + 16 * index : 40 + 16 * index] = mantissa.to_bytes(8, "little")
        image[40 + 16 * index : 42 + 16 * index] = (0x3FFF + index).to_bytes(2, "little")
    for index in range(16):
        value = bytes((17 * index + n + salt) & 0xFF for n in range(16))
        image[160 + 16 * index : 176 + 16 * index] = value
    return bytes(image)


def _image(
    capability: Capability,
    salt: int = 0,
    *,
    control: int = 0x37F,
    status: int = 0,
    tags: int = 0xFF,
    mxcsr: int = 0x1F80,
) -> bytes:
    image = bytearray(_pattern(salt))
    image[0:2] = control.to_bytes(2, "little")
    image[2:4] = status.to_bytes(2, "little")
    image[4] = tags
    image[24:28] = (mxcsr & capability.mxcsr_mask).to_bytes(4, "little")
    image[28:32] = capability.mxcsr_mask.to_bytes(4, "little")
    return bytes(image)


def _set(guest: PreparedGuest, image: bytes) -> None:
    guest.vcpu.getstate(StateFlag.FPU)
    put_bytes(guest.vcpu.state.fpu, image)
    guest.vcpu.setstate(StateFlag.FPU)


def _fetch(guest: PreparedGuest) -> bytes:
    guest.vcpu.getstate(StateFlag.FPU)
    return get_bytes(guest.vcpu.state.fpu, 512)


def _compare(got: bytes, wanted: bytes, mode: Mode) -> None:
    """The parts of an image that hold what they are set to, by name."""
    for name, place in (("FCW", slice(0, 2)), ("FSW", slice(2, 4)), ("tags", slice(4, 5))):
        check.equal(got[place].hex(), wanted[place].hex(), name)
    check.equal(got[24:28].hex(), wanted[24:28].hex(), "MXCSR")
    for index in range(8):
        at = 32 + 16 * index
        check.equal(got[at : at + 10].hex(), wanted[at : at + 10].hex(), f"ST{index}")
    for index in range(16 if mode is Mode.LONG64 else 8):
        at = 160 + 16 * index
        check.equal(got[at : at + 16].hex(), wanted[at : at + 16].hex(), f"XMM{index}")


def _halt(guest: PreparedGuest) -> None:
    check.equal(guest.next_exit().reason, ExitReason.HALTED, "exit")


# ---- the whole image ----


@requirement("K-SET-16", "A-REG-6")
@PROTECTED
def test_guest_finds_what_the_caller_has_set(vm: VirtualMachine, capability: Capability) -> None:
    """FXSAVE stores, register by register, what the caller has set (BH-74)."""
    guest = vm.prepare_code(GO, insn=f"fxsave [{IMAGE:#x}]")
    image = _image(capability)
    _set(guest, image)
    _halt(guest)
    _compare(guest.memory(IMAGE, 512), image, vm.mode)


@requirement("K-SET-16", "A-REG-6", "A-REG-10")
@PROTECTED
def test_caller_finds_what_the_guest_has_set(vm: VirtualMachine, capability: Capability) -> None:
    """getstate tells, register by register, what FXRSTOR has loaded."""
    guest = vm.prepare_code(GO, insn=f"fxrstor [{IMAGE:#x}]")
    image = _image(capability, 0x40, mxcsr=0x1FA5, tags=0x5A, control=0x27F)
    guest.write(IMAGE, image)
    _halt(guest)
    _compare(_fetch(guest), image, vm.mode)


@requirement("K-SET-16", "A-REG-13", "A-SYNC-5")
@PROTECTED
def test_fpu_state_outlives_exits(vm: VirtualMachine, capability: Capability) -> None:
    """After many exits the guest has its registers as before (BH-74)."""
    code = f"fxrstor [{IMAGE:#x}]\nmov ecx, 30\nmore: out 0x99, al\ndec ecx\njnz more\n"
    guest = vm.prepare_code(code + f"fxsave [{IMAGE + 0x200:#x}]\n" + GO, insn="nop")
    image = _image(capability, 0x21, status=5 << 11, mxcsr=0x1F9F)
    guest.write(IMAGE, image)
    run = guest.run()
    check.equal(len(run.ports), 0, "accesses that the case answers")
    _compare(guest.memory(IMAGE + 0x200, 512), image, vm.mode)


@requirement("K-SET-16", "A-REG-6")
@LONG
@pytest.mark.parametrize("tags", [0, 1, 0x80, 0x55, 0xAA, 0xFF])
def test_tags_that_were_set(vm: VirtualMachine, capability: Capability, tags: int) -> None:
    """The abridged tag byte has a one for each register that is not empty: FNSTENV's two bits say
    valid, or empty, and getstate gives the byte back (BH-90)."""
    guest = vm.prepare_code(GO, insn=f"fnstenv [{IMAGE:#x}]")
    _set(guest, _image(capability, tags=tags))
    _halt(guest)
    word = int.from_bytes(guest.memory(IMAGE + 8, 2), "little")
    for index in range(8):
        wanted = 0 if tags >> index & 1 else 3
        check.equal(word >> 2 * index & 3, wanted, f"tag of register {index}")
    check.equal(_fetch(guest)[4], tags, "tags, getstate")


@requirement("K-SET-16", "A-REG-6", "A-REG-10")
@LONG
@pytest.mark.parametrize("top", range(8))
def test_top_of_stack(vm: VirtualMachine, capability: Capability, top: int) -> None:
    """TOP is in the status word, and registers are told from ST0 on, whatever TOP is."""
    guest = vm.prepare_code(GO, insn=f"fnstsw ax\nfstp tbyte ptr [{IMAGE:#x}]")
    image = _image(capability, top, status=top << 11)
    _set(guest, image)
    _halt(guest)
    after = _fetch(guest)
    guest.vcpu.getstate(StateFlag.GPRS)
    check.equal(guest.vcpu.state.gprs[Gpr.RAX] & 0xFFFF, top << 11, "FNSTSW")
    check.equal(guest.memory(IMAGE, 10), image[32:42], "ST0")
    check.equal(int.from_bytes(after[2:4], "little"), (top + 1 & 7) << 11, "TOP after a pop")
    check.equal(after[4], 0xFF & ~(1 << top), "tags after a pop")
    check.equal(after[32:42], image[48:58], "ST0 after a pop")


@requirement("K-SET-16", "A-REG-6")
@LONG
@pytest.mark.parametrize("status", [0, 0x01, 0x3F, 0x41, 0x4700, 0x0500])
def test_status_word(vm: VirtualMachine, capability: Capability, status: int) -> None:
    """Exceptions, SF and condition codes of the status word that was set are the guest's."""
    guest = vm.prepare_code(GO, insn="fnstsw ax")
    _set(guest, _image(capability, status=status))
    _halt(guest)
    guest.vcpu.getstate(StateFlag.GPRS)
    check.equal(guest.vcpu.state.gprs[Gpr.RAX] & 0xFFFF, status, "FNSTSW")
    check.equal(int.from_bytes(_fetch(guest)[2:4], "little"), status, "FSW, getstate")


@requirement("K-SET-16", "A-REG-6")
@LONG
@pytest.mark.parametrize("control", [0x037F, 0x007F, 0x027F, 0x0F7F, 0x0340])
def test_control_word(vm: VirtualMachine, capability: Capability, control: int) -> None:
    """Masks, precision and rounding of the control word that was set are the guest's, and back."""
    guest = vm.prepare_code(GO, insn=f"fnstcw [{IMAGE:#x}]\nfldcw [{IMAGE + 2:#x}]")
    _set(guest, _image(capability, control=control))
    guest.write(IMAGE + 2, (control ^ 0xC00).to_bytes(2, "little"))
    _halt(guest)
    check.equal(int.from_bytes(guest.memory(IMAGE, 2), "little"), control, "FNSTCW")
    check.equal(int.from_bytes(_fetch(guest)[0:2], "little"), control ^ 0xC00, "FCW, getstate")


@requirement("K-SET-16", "A-REG-6")
@LONG
def test_fninit(vm: VirtualMachine, capability: Capability) -> None:
    """FNINIT: FCW 37Fh, FSW 0, all registers empty, in the guest and in getstate."""
    guest = vm.prepare_code(GO, insn=f"fninit\nfnstenv [{IMAGE:#x}]")
    _set(guest, _image(capability, status=0x4700, control=0x40))
    _halt(guest)
    words = [int.from_bytes(guest.memory(IMAGE + at, 2), "little") for at in (0, 4, 8)]
    check.equal(words, [0x37F, 0, 0xFFFF], "FCW, FSW, tags")
    after = _fetch(guest)
    check.equal((after[0:2], after[2:4], after[4]), (b"\x7f\x03", b"\0\0", 0), "getstate")


@requirement("K-SET-16", "A-REG-6")
@LONG
@pytest.mark.parametrize("index", [0, 3, 7, 8, 15])
def test_xmm_register_in_instructions(
    vm: VirtualMachine, capability: Capability, index: int
) -> None:
    """Both halves of an XMM register are what instructions work with, and what they leave."""
    other = 15 - index
    insn = f"movaps [{IMAGE:#x}], xmm{index}\nmovaps xmm{other}, [{IMAGE + 16:#x}]"
    guest = vm.prepare_code(GO, insn=insn)
    image = _image(capability)
    _set(guest, image)
    guest.write(IMAGE + 16, b"fedcba9876543210")
    _halt(guest)
    at = 160 + 16 * index
    check.equal(guest.memory(IMAGE, 16), image[at : at + 16], f"XMM{index}")
    wanted = bytearray(image[XMM])
    wanted[16 * other : 16 * other + 16] = b"fedcba9876543210"
    check.equal(_fetch(guest)[XMM], bytes(wanted), "all of them, getstate")


# ---- MXCSR ----


@requirement("K-SET-14", "A-REG-6")
@PROTECTED
@pytest.mark.parametrize("value", [0x1F80, 0, 0x9F80, 0x7FBF, 0xFFBF])
def test_mxcsr(vm: VirtualMachine, capability: Capability, value: int) -> None:
    """STMXCSR stores what the caller has set, and getstate tells what LDMXCSR has loaded."""
    guest = vm.prepare_code(GO, insn=f"stmxcsr [{IMAGE:#x}]\nldmxcsr [{IMAGE + 4:#x}]")
    _set(guest, _image(capability, mxcsr=value))
    guest.write(IMAGE + 4, (value ^ 0x8000).to_bytes(4, "little"))
    _halt(guest)
    check.equal(int.from_bytes(guest.memory(IMAGE, 4), "little"), value, "STMXCSR")
    check.equal(int.from_bytes(_fetch(guest)[24:28], "little"), value ^ 0x8000, "MXCSR, getstate")


@requirement("K-SET-14", "A-REG-6")
@PROTECTED
def test_mxcsr_mask(vm: VirtualMachine, capability: Capability) -> None:
    """FXSAVE's MXCSR_MASK is the capability's: bits outside are #GP(0) for LDMXCSR, those inside
    load (BH-101)."""
    bench = Bench(vm, {"save": f"fxsave [{IMAGE:#x}]", "load": f"ldmxcsr [{IMAGE + 0x200:#x}]"})
    check.equal(bench.execute("save").end, DONE, "FXSAVE")
    mask = int.from_bytes(bench.guest.memory(IMAGE + 28, 4), "little")
    check.equal(mask, capability.mxcsr_mask, "MXCSR_MASK")
    for bit in (*range(17), 31):
        bench.guest.write(IMAGE + 0x200, (1 << bit).to_bytes(4, "little"))
        end = DONE if mask >> bit & 1 else "#GP(0)"
        check.equal(bench.execute("load").end, end, f"LDMXCSR of bit {bit}")


# ---- EM, MP, TS ----

KINDS = {"x87": "fnop", "wait": "fwait", "sse": "movaps xmm0, xmm1", "save": "fxsave [0x5000]"}


def _ends(kind: str, em: bool, mp: bool, ts: bool, osfxsr: bool) -> int | None:
    """The exception of SDM 3A table 2-2 and of each instruction's page; None where it executes."""
    if kind == "wait":
        return 7 if mp and ts else None
    if kind == "sse":
        return 6 if em or not osfxsr else 7 if ts else None
    return 7 if em or ts else None


@requirement("K-INK-12", "A-REG-4")
@PROTECTED
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("by_guest", [False, True])
def test_em_mp_ts(vm: VirtualMachine, kind: str, by_guest: bool) -> None:
    """EM, MP, TS and CR4.OSFXSR decide on #NM, #UD or execution, whoever has set them."""
    wide = "rax" if vm.mode is Mode.LONG64 else "eax"
    code = {"put_cr0": f"mov cr0, {wide}", "try_it": KINDS[kind]}
    bench = Bench(vm, code)
    cr = bench.stubs.registers.cr
    before = cr[Cr.CR0] & ~(MP | EM | TS)
    for bits in range(16):
        em, mp, ts, osfxsr = (bool(bits >> n & 1) for n in range(4))
        bench.set_cr4(OSFXSR if osfxsr else 0, 0 if osfxsr else OSFXSR)
        value = before | em * EM | mp * MP | ts * TS
        if by_guest:
            check.equal(bench.execute("put_cr0", {Gpr.RAX: value}).end, DONE, "MOV to CR0")
        else:
            bench.stubs.registers.cr[Cr.CR0] = value
        vector = _ends(kind, em, mp, ts, osfxsr)
        wanted = DONE if vector is None else FAULTS[vector]
        words = f"EM={em:d} MP={mp:d} TS={ts:d} OSFXSR={osfxsr:d}"
        check.equal(bench.execute("try_it").end, wanted, words)


# ---- XSAVE ----


@requirement("K-SET-7", "K-SET-16")
@PROTECTED
def test_xsave_where_it_is_offered(vm: VirtualMachine, capability: Capability) -> None:
    """Where CPUID offers XSAVE, it stores with OSXSAVE what FXSAVE does, and XGETBV gives XCR0;
    without OSXSAVE both are #UD."""
    code = {"cpuid": "cpuid", "xgetbv": "xgetbv", "save": f"xsave [{IMAGE:#x}]"}
    bench = Bench(vm, code)
    bench.set_cr4(0, 1 << 18)
    check.equal(bench.execute("xgetbv", {Gpr.RCX: 0}).end, "#UD", "XGETBV without OSXSAVE")
    if bench.cpuid(1)[2] >> 26 & 1:
        bench.set_cr4(1 << 18)
        bench.stubs.registers.cr[Cr.XCR0] = 3
        effect = bench.execute("xgetbv", {Gpr.RCX: 0})
        check.equal((effect.end, effect.edx_eax), (DONE, 3 & capability.xcr0_mask), "XGETBV")
        bench.stubs.registers.fpu.xmm[3] = 0x0123456789ABCDEF << 64 | 0xFEDCBA9876543210
        check.equal(bench.execute("save", {Gpr.RAX: 3, Gpr.RDX: 0}).end, DONE, "XSAVE")
        stored = bench.guest.memory(IMAGE + 160 + 48, 16)
        check.equal(stored.hex(), "1032547698badcfeefcdab8967452301", "XMM3")


# ---- flags ----

USER_FLAGS = {
    "CF": 1,
    "PF": 4,
    "AF": 0x10,
    "ZF": 0x40,
    "SF": 0x80,
    "DF": 0x400,
    "OF": 0x800,
    "NT": 0x4000,
    "ID": 1 << 21,
}
IOPL, IF = 0x3000, 0x200


def _flags_bench(vm: VirtualMachine, *, user: bool = False) -> Bench:
    wide, end = ("rax", "q") if vm.mode is Mode.LONG64 else ("eax", "d")
    code = {
        "pop_flags": f"push {wide}\npopf{end}",
        "push_flags": f"pushf{end}\npop {wide}",
    }
    return Bench(vm, code, user=user)


@requirement("K-INK-12", "A-REG-2", "A-REG-10")
@modes(Mode.REAL16, Mode.PROT32, Mode.LONG64)
@pytest.mark.parametrize("flag", USER_FLAGS)
def test_flag_by_popf(vm: VirtualMachine, flag: str) -> None:
    """POPF sets a flag and nothing else, getstate tells it, and PUSHF pushes it."""
    bench = _flags_bench(vm)
    bit = USER_FLAGS[flag]
    effect = bench.execute("pop_flags", {Gpr.RAX: bit})
    check.equal(effect.end, DONE, "POPF")
    check.equal(effect.gpr[Gpr.RFLAGS], bit | 2, "RFLAGS, getstate")
    effect = bench.execute("push_flags", flags=bit)
    check.equal(effect.gpr[Gpr.RAX], bit | 2, "PUSHF of what the caller has set")


@requirement("K-INK-12", "A-REG-2")
@PROTECTED
def test_popf_at_cpl_3(vm: VirtualMachine) -> None:
    """At CPL 3 POPF leaves IOPL, and IF where IOPL is below 3, without fault."""
    bench = _flags_bench(vm, user=True)
    effect = bench.execute("pop_flags", {Gpr.RAX: IOPL | IF | 1})
    check.equal((effect.end, effect.frame), (DONE, None), "POPF")
    effect = bench.execute("push_flags", flags=IF)
    check.equal(effect.gpr[Gpr.RAX], IF | 2, "PUSHF")


@requirement("K-INK-12", "A-REG-2")
@modes(Mode.REAL16, Mode.PROT32, Mode.LONG64)
def test_iret_takes_flags(vm: VirtualMachine) -> None:
    """IRET loads RIP and the flags; reserved bits stay as they are."""
    iret = {
        Mode.REAL16: "push bx\npush cs\npush cx\niret",
        Mode.PROT32: "push ebx\npush cs\npush ecx\niretd",
        Mode.LONG64: "mov rdx, rsp\npush 0x10\npush rdx\npush rbx\npush 0x08\npush rcx\niretq",
    }[vm.mode]
    bench = Bench(vm, {"go": f"{iret}\nnop\nbeyond: nop"})
    flags = 0x8D7
    effect = bench.execute("go", {Gpr.RBX: flags | 0x8028, Gpr.RCX: bench.guest.symbol("beyond")})
    check.equal(effect.end, DONE, "IRET")
    check.equal(effect.gpr[Gpr.RFLAGS], flags, "RFLAGS")
