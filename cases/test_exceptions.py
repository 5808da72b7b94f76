# SPDX-License-Identifier: BSD-2-Clause
"""Exceptions that a guest raises itself: SDM 3A chapter 6 (6.15 vector by vector, 6.13 the error
codes), SDM 3B 17.3.1.1 (RF).  NVMM leaves them to the guest: userland sees none of them."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from nvmmconf.suite import (
    Cr,
    ExitReason,
    Gpr,
    Mode,
    Msr,
    Segment,
    Stubs,
    VirtualMachine,
    check,
    modes,
    requirement,
)

RF, AC = 1 << 16, 1 << 18
DE, BP, OF, BR, UD, NM, TS, NP, SS, GP, PF, MF, AC_VECTOR = (
    0,
    3,
    4,
    5,
    6,
    7,
    10,
    11,
    12,
    13,
    14,
    16,
    17,
)


@dataclass(frozen=True)
class Fault:
    """Instructions whose last, at `insn`, raises an exception."""

    vector: int
    code: str
    error: int | None = None
    pushed: int = 0
    """Words on the stack at `insn`."""

    def check(self, stubs: Stubs) -> None:
        """Run them; what is delivered is this, before the instruction, and nobody else sees it."""
        stubs.top -= self.pushed * stubs.mode.bits // 8
        frame = stubs.take()
        check.equal(frame.vector, self.vector, "vector")
        wanted = None if stubs.mode is Mode.REAL16 else self.error
        check.equal(frame.error, wanted, "error code")
        check.equal(frame.ip, stubs.symbol("insn"), "return address")
        if stubs.mode is not Mode.REAL16:  # which pushes 16 bits
            check.equal(frame.flags & RF, RF, "RF of a fault")
        check.equal(stubs.exits(), [ExitReason.HALTED], "exits")


def _bytes(*code: int) -> str:
    return "insn:\n    .byte " + ", ".join(map(hex, code)) + "\n"


EVERYWHERE = {
    "div-byte": Fault(DE, "    xor ecx, ecx\ninsn:\n    div cl\n"),
    "div-word": Fault(DE, "    xor ecx, ecx\ninsn:\n    div cx\n"),
    "div-dword": Fault(DE, "    xor ecx, ecx\ninsn:\n    div ecx\n"),
    "div-too-big": Fault(DE, "    mov edx, 5\n    mov ecx, 5\ninsn:\n    div ecx\n"),
    "idiv-too-big": Fault(
        DE, "    mov eax, 1 << 31\n    mov edx, -1\n    mov ecx, -1\ninsn:\n    idiv ecx\n"
    ),
    "ud2": Fault(UD, _bytes(0x0F, 0x0B)),
    "ud1": Fault(UD, _bytes(0x0F, 0xB9, 0xC0)),
    "lock-register": Fault(UD, _bytes(0xF0, 0x00, 0xC0)),
    "lea-register": Fault(UD, _bytes(0x8D, 0xC0)),
    "mov-to-cs": Fault(UD, _bytes(0x8E, 0xC8)),
    "nm-by-ts": Fault(
        NM, "    mov {{ wide }}ax, cr0\n    or al, 8\n    mov cr0, {{ wide }}ax\ninsn:\n    fnop\n"
    ),
    "nm-by-em": Fault(
        NM, "    mov {{ wide }}ax, cr0\n    or al, 4\n    mov cr0, {{ wide }}ax\ninsn:\n    fnop\n"
    ),
    "nm-by-wait": Fault(
        NM,
        "    mov {{ wide }}ax, cr0\n    or al, 10\n    mov cr0, {{ wide }}ax\ninsn:\n    fwait\n",
    ),
    "too-long": Fault(GP, _bytes(*[0x3E] * 15, 0x90), 0),
    "cr4-reserved": Fault(
        GP, "    mov {{ wide }}ax, cr4\n    or eax, 1 << 31\ninsn:\n    mov cr4, {{ wide }}ax\n", 0
    ),
}


@requirement("K-INK-12")
@modes(Mode.REAL16, Mode.PROT32, Mode.LONG64)
@pytest.mark.parametrize("name", EVERYWHERE)
def test_instruction_faults(vm: VirtualMachine, name: str) -> None:
    """A faulting instruction enters the handler of its exception, with RIP on it and RF pushed
    set, and without an exit."""
    fault = EVERYWHERE[name]
    fault.check(Stubs(vm, fault.code))


FORBIDDEN = {
    "vmcall": _bytes(0x0F, 0x01, 0xC1),
    "vmlaunch": _bytes(0x0F, 0x01, 0xC2),
    "vmxoff": _bytes(0x0F, 0x01, 0xC4),
    "vmrun": _bytes(0x0F, 0x01, 0xD8),
    "vmmcall": _bytes(0x0F, 0x01, 0xD9),
    "vmload": _bytes(0x0F, 0x01, 0xDA),
    "stgi": _bytes(0x0F, 0x01, 0xDC),
    "clgi": _bytes(0x0F, 0x01, 0xDD),
    "skinit": _bytes(0x0F, 0x01, 0xDE),
    "invlpga": _bytes(0x0F, 0x01, 0xDF),
    "rdtscp": _bytes(0x0F, 0x01, 0xF9),
    "rdpmc": _bytes(0x0F, 0x33),
    "rsm": _bytes(0x0F, 0xAA),
}


@requirement("K-INK-3", "K-INK-4", "K-INK-5")
@modes(Mode.LONG64)
@pytest.mark.parametrize("name", FORBIDDEN)
def test_hidden_instruction_is_undefined(vm: VirtualMachine, name: str) -> None:
    """An instruction that CPUID does not show raises #UD, and never an exit (BH-94)."""
    Fault(UD, FORBIDDEN[name]).check(Stubs(vm, FORBIDDEN[name]))


REAL = {
    "aam-0": Fault(DE, "insn:\n    aam 0\n"),
    "bound": Fault(
        BR,
        "    mov dword ptr [0x8000], 0x00020001\n    mov ax, 3\ninsn:\n    bound ax, [0x8000]\n",
    ),
    "data-limit": Fault(GP, "    mov bx, 0xFFFF\ninsn:\n    mov ax, [bx]\n"),
    "stack-limit": Fault(SS, "    mov bp, 0xFFFF\ninsn:\n    mov ax, [bp]\n"),
    "lldt": Fault(UD, _bytes(0x0F, 0x00, 0xD0)),
    "pg-without-pe": Fault(GP, "    mov eax, cr0\n    or eax, 1 << 31\ninsn:\n    mov cr0, eax\n"),
    "movaps-without-osfxsr": Fault(UD, "insn:\n    movaps xmm0, xmm1\n"),
}


@requirement("K-INK-12")
@modes(Mode.REAL16)
@pytest.mark.parametrize("name", REAL)
def test_instruction_faults_in_real_mode(vm: VirtualMachine, name: str) -> None:
    """In real mode a limit of 64 KiB, and what is not there without protection, faults."""
    fault = REAL[name]
    fault.check(Stubs(vm, fault.code))


def _load(register: str, selector: int) -> str:
    return f"    mov eax, {selector:#x}\ninsn:\n    mov {register}, eax\n"


PROTECTED = {
    "ds-beyond-gdt": Fault(GP, _load("ds", 0x1230), 0x1230),
    "ds-beyond-gdt-rpl": Fault(GP, _load("ds", 0x1233), 0x1230),
    "ds-of-system-segment": Fault(GP, _load("ds", 0x30), 0x30),
    "es-absent": Fault(NP, _load("es", 0x40), 0x40),
    "fs-absent": Fault(NP, _load("fs", 0x40), 0x40),
    "ss-absent": Fault(SS, _load("ss", 0x40), 0x40),
    "ss-read-only": Fault(GP, _load("ss", 0x50), 0x50),
    "ss-other-level": Fault(GP, _load("ss", 0x2B), 0x28),
    "ss-code": Fault(GP, _load("ss", 0x08), 0x08),
    "lldt-of-data": Fault(GP, "    mov eax, 0x10\ninsn:\n    lldt ax\n", 0x10),
    "ltr-null": Fault(GP, "    xor eax, eax\ninsn:\n    ltr ax\n", 0),
    "ltr-busy": Fault(GP, "    mov eax, 0x30\ninsn:\n    ltr ax\n", 0x30),
    "far-to-data": Fault(GP, "    push 0x10\n    push 0\ninsn:\n    {{ retf }}\n", 0x10, pushed=2),
    "far-to-absent": Fault(
        NP, "    push 0x48\n    push 0\ninsn:\n    {{ retf }}\n", 0x48, pushed=2
    ),
    "far-to-null": Fault(GP, "    push 0\n    push 0\ninsn:\n    {{ retf }}\n", 0, pushed=2),
    "efer-reserved": Fault(
        GP,
        "    mov ecx, 0xC0000080\n    rdmsr\n    or eax, 1 << 1\ninsn:\n    wrmsr\n",
        0,
    ),
}


@requirement("K-INK-12")
@modes(Mode.PROT32, Mode.LONG64)
@pytest.mark.parametrize("name", PROTECTED)
def test_selector_faults(vm: VirtualMachine, name: str) -> None:
    """A selector that may not be loaded raises #GP, #NP or #SS with that selector."""
    fault = PROTECTED[name]
    retf = "retfq" if vm.mode is Mode.LONG64 else "retf"
    fault.check(Stubs(vm, fault.code.replace("{{ retf }}", retf)))


LEGACY = {
    "aam-0": Fault(DE, "insn:\n    aam 0\n"),
    "bound": Fault(
        BR,
        "    mov dword ptr [0x5000], 1\n    mov dword ptr [0x5004], 2\n"
        "    mov eax, 3\ninsn:\n    bound eax, [0x5000]\n",
    ),
    "null-ds": Fault(GP, "    xor eax, eax\n    mov ds, eax\ninsn:\n    mov eax, [0x5000]\n", 0),
    "ss-null": Fault(GP, _load("ss", 0), 0),
    "read-only": Fault(GP, "    mov eax, 0x50\n    mov ds, eax\ninsn:\n    mov [0x5000], eax\n", 0),
    "code-written": Fault(GP, "insn:\n    mov cs:[0x5000], eax\n", 0),
}


@requirement("K-INK-12")
@modes(Mode.PROT32)
@pytest.mark.parametrize("name", LEGACY)
def test_instruction_faults_outside_64_bit_mode(vm: VirtualMachine, name: str) -> None:
    """Outside 64-bit mode segments are protected, and BOUND and AAM are there to fault."""
    fault = LEGACY[name]
    fault.check(Stubs(vm, fault.code))


LONG = {
    "noncanonical-read": Fault(GP, "    mov rax, 1 << 47\ninsn:\n    mov rax, [rax]\n", 0),
    "noncanonical-jump": Fault(GP, "    mov rax, 1 << 47\ninsn:\n    jmp rax\n", 0),
    "noncanonical-msr": Fault(
        GP,
        "    mov ecx, 0xC0000100\n    xor eax, eax\n    mov edx, 1 << 31\ninsn:\n    wrmsr\n",
        0,
    ),
    "cr0-upper-half": Fault(GP, "    mov rax, 1 << 32 | 0x80000031\ninsn:\n    mov cr0, rax\n", 0),
    "cr0-without-pe": Fault(GP, "    mov rax, 0x80000030\ninsn:\n    mov cr0, rax\n", 0),
    "cr0-nw-without-cd": Fault(
        GP, "    mov rax, cr0\n    or rax, 1 << 29\ninsn:\n    mov cr0, rax\n", 0
    ),
    "cr4-without-pae": Fault(
        GP, "    mov rax, cr4\n    and rax, ~0x20\ninsn:\n    mov cr4, rax\n", 0
    ),
    "push-es": Fault(UD, _bytes(0x06)),
    "daa": Fault(UD, _bytes(0x27)),
    "into": Fault(UD, _bytes(0xCE)),
    "far-jump-direct": Fault(UD, _bytes(0xEA, 0, 0, 0, 0, 8, 0)),
    "movaps-unaligned": Fault(GP, "    mov eax, 0x5001\ninsn:\n    movaps xmm0, [rax]\n", 0),
    "nested-task-iret": Fault(
        GP, "    pushfq\n    or dword ptr [rsp], 1 << 14\n    popfq\ninsn:\n    iretq\n", 0
    ),
}


@requirement("K-INK-12")
@modes(Mode.LONG64)
@pytest.mark.parametrize("name", LONG)
def test_instruction_faults_in_64_bit_mode(vm: VirtualMachine, name: str) -> None:
    """64-bit mode has addresses that are not canonical, and instructions that are not there."""
    fault = LONG[name]
    fault.check(Stubs(vm, fault.code))


PRIVILEGED = {
    "hlt": "insn:\n    hlt\n",
    "cli": "insn:\n    cli\n",
    "sti": "insn:\n    sti\n",
    "in": "insn:\n    in al, 0x60\n",
    "out": "insn:\n    out 0x60, al\n",
    "clts": "insn:\n    clts\n",
    "wbinvd": "insn:\n    wbinvd\n",
    "invlpg": "insn:\n    invlpg [0x5000]\n",
    "lgdt": "insn:\n    lgdt [0x5000]\n",
    "ltr": "insn:\n    ltr ax\n",
    "rdmsr": "    mov ecx, 0xC0000080\ninsn:\n    rdmsr\n",
    "wrmsr": "    mov ecx, 0xC0000080\ninsn:\n    wrmsr\n",
    "mov-from-cr0": "insn:\n    mov {{ wide }}ax, cr0\n",
    "mov-to-cr3": "insn:\n    mov cr3, {{ wide }}ax\n",
    "mov-from-dr7": "insn:\n    mov {{ wide }}ax, dr7\n",
    "invd": "insn:\n    invd\n",
}


@requirement("K-INK-12")
@modes(Mode.LONG64)
@pytest.mark.parametrize("name", PRIVILEGED)
def test_privileged_instruction_faults_at_cpl_3(vm: VirtualMachine, name: str) -> None:
    """A privileged instruction at CPL 3 raises #GP(0), before any exit that it has at CPL 0."""
    Fault(GP, PRIVILEGED[name], 0).check(Stubs(vm, PRIVILEGED[name], user=True))


@requirement("K-SET-9", "K-INK-12")
@modes(Mode.PROT32, Mode.LONG64)
@pytest.mark.parametrize("name", ["hlt", "cli", "clts", "rdmsr", "mov-from-cr0"])
def test_conforming_code_keeps_the_callers_level(vm: VirtualMachine, name: str) -> None:
    """The privilege level is SS.DPL, not CS.DPL: in conforming code of DPL 0, at level 3, a
    privileged instruction raises #GP(0) (BH-85)."""
    stubs = Stubs(vm, PRIVILEGED[name], user=True)
    code = stubs.registers.seg[Segment.CS]
    code.flags = code.flags & ~0x6F00 | 0x0F00  # conforming, DPL 0
    Fault(GP, PRIVILEGED[name], 0).check(stubs)


@requirement("K-INK-12")
@modes(Mode.PROT32, Mode.LONG64)
@pytest.mark.parametrize("vector", [0x0D, 0x20, 0x80, 0xFF])
def test_int_at_cpl_3_needs_its_gate(vm: VirtualMachine, vector: int) -> None:
    """INT n at CPL 3 through a gate of DPL 0 raises #GP with the gate's error code."""
    code = f"insn:\n    int {vector}\n"
    Fault(GP, code, vector * 8 + 2).check(Stubs(vm, code, user=True))


@requirement("K-INK-12")
@modes(Mode.PROT32, Mode.COMPAT32, Mode.LONG64)
def test_alignment_check(vm: VirtualMachine) -> None:
    """With CR0.AM and RFLAGS.AC a misaligned access at CPL 3 raises #AC(0)."""
    code = "insn:\n    mov eax, [0x5001]\n"
    stubs = Stubs(vm, code, user=True)
    stubs.registers.cr[Cr.CR0] |= 1 << 18
    stubs.registers.gpr[Gpr.RFLAGS] |= AC
    Fault(AC_VECTOR, code, 0).check(stubs)


@requirement("K-INK-12")
@modes(Mode.PROT32, Mode.COMPAT32, Mode.LONG64)
def test_floating_point_error(vm: VirtualMachine) -> None:
    """With CR0.NE an unmasked x87 exception raises #MF at the next waiting instruction."""
    code = "    nop\ninsn:\n    fwait\n"
    stubs = Stubs(vm, code)
    stubs.registers.cr[Cr.CR0] |= 1 << 5
    stubs.registers.fpu.control = 0x37F & ~4
    stubs.registers.fpu.status = 0x80 | 4
    Fault(MF, code).check(stubs)


@requirement("K-INK-12")
@modes(Mode.PROT32)
@pytest.mark.parametrize("link", [0, 0x10, 0x1230])
def test_return_to_no_task(vm: VirtualMachine, link: int) -> None:
    """IRET with NT, and a link to what is no busy task, raises #TS with that selector."""
    code = "    pushf\n    or dword ptr [esp], 1 << 14\n    popf\ninsn:\n    iretd\n"
    stubs = Stubs(vm, code)
    stubs.guest.write(0xA000, link.to_bytes(2, "little"))
    Fault(TS, code, link).check(stubs)


@requirement("K-INK-12")
@modes(Mode.LONG64)
@pytest.mark.parametrize("insn", ["push rax", "call after", "mov rax, [rbp]"])
def test_noncanonical_stack(vm: VirtualMachine, insn: str) -> None:
    """A stack address that is not canonical raises #SS(0)."""
    code = f"    mov rsp, (1 << 47) + 64\n    mov rbp, rsp\ninsn:\n    {insn}\nafter:\n"
    stubs = Stubs(vm, code)
    stubs.gate(12, ist=1)
    stubs.top = 0x11000
    Fault(SS, code, 0).check(stubs)


# ---- page faults -------------------------------------------------------------

NX = 1 << 63
PAGES = {  # by 2 MiB: entry of the page directory, at linear address n << 21
    "absent": (1, 0),
    "read-only": (2, 0x0E5),
    "supervisor": (3, 0x0E3),
    "reserved": (4, 0x0E7 | 1 << 13),
    "no-execute": (5, 0x0E7 | NX),
}
PAGE_FAULTS = {
    "absent-read": ("absent", "mov eax, [{at}]", False, 0),
    "absent-write": ("absent", "mov [{at}], eax", False, 2),
    "absent-modify": ("absent", "add [{at}], eax", False, 2),
    "absent-jump": ("absent", "jump", False, 0x10),
    "absent-read-user": ("absent", "mov eax, [{at}]", True, 4),
    "absent-write-user": ("absent", "mov [{at}], eax", True, 6),
    "absent-jump-user": ("absent", "jump", True, 0x14),
    "read-only-write": ("read-only", "mov [{at}], eax", False, 3),
    "read-only-write-user": ("read-only", "mov [{at}], eax", True, 7),
    "supervisor-read-user": ("supervisor", "mov eax, [{at}]", True, 5),
    "supervisor-write-user": ("supervisor", "mov [{at}], eax", True, 7),
    "supervisor-jump-user": ("supervisor", "jump", True, 0x15),
    "reserved-read": ("reserved", "mov eax, [{at}]", False, 9),
    "reserved-write-user": ("reserved", "mov [{at}], eax", True, 0xF),
    "no-execute-jump": ("no-execute", "jump", False, 0x11),
    "no-execute-jump-user": ("no-execute", "jump", True, 0x15),
}


@requirement("K-INK-12")
@modes(Mode.LONG64)
@pytest.mark.parametrize("name", PAGE_FAULTS)
def test_page_fault(vm: VirtualMachine, name: str) -> None:
    """A page fault tells in its error code what was wrong, and in CR2 where."""
    page, template, user, error = PAGE_FAULTS[name]
    number, entry = PAGES[page]
    at = (number << 21) + 0x12345
    jump = template == "jump"
    insn = "jmp {{ ax }}" if jump else template.format(at="{{ bx }}")
    code = f"    mov eax, {at:#x}\n    mov ebx, eax\ninsn:\n    {insn}\n"
    stubs = Stubs(vm, code, user=user)
    registers = stubs.registers
    registers.cr[Cr.CR0] |= 1 << 16  # WP
    registers.msr[Msr.EFER] |= 1 << 11  # NXE
    table = stubs.guest.image.linear("page_directory")
    value = entry | (number << 21 if entry else 0)
    stubs.guest.write(table + 8 * number, value.to_bytes(8, "little"))
    frame = stubs.take()
    check.equal((frame.vector, frame.error), (PF, error), "event")
    check.equal(frame.ip, at if jump else stubs.symbol("insn"), "return address")
    check.equal(stubs.guest.state().cr[Cr.CR2], at, "CR2")
    check.equal(frame.flags & RF, RF, "RF of a fault")
    check.equal(stubs.exits(), [ExitReason.HALTED], "exits")


# ---- traps -------------------------------------------------------------------

TRAPS = {"int3": (3, "int3"), "int-3": (3, ".byte 0xCD, 3"), "int-0x42": (0x42, "int 0x42")}


@requirement("K-INK-12")
@modes(Mode.REAL16, Mode.PROT32, Mode.COMPAT32, Mode.LONG64)
@pytest.mark.parametrize("name", TRAPS)
def test_instruction_traps(vm: VirtualMachine, name: str) -> None:
    """INT3 and INT n return behind themselves, push no RF, and cause no exit."""
    vector, insn = TRAPS[name]
    stubs = Stubs(vm, f"    {insn}\nafter:\n")
    frame = stubs.take()
    check.equal((frame.vector, frame.error), (vector, None), "event")
    check.equal(frame.ip, stubs.symbol("after"), "return address")
    check.equal(frame.flags, 2, "flags")
    check.equal(stubs.exits(), [ExitReason.HALTED], "exits")


@requirement("K-INK-12")
@modes(Mode.REAL16, Mode.PROT32, Mode.COMPAT32)
@pytest.mark.parametrize("overflow", [False, True])
def test_into_traps_on_overflow(vm: VirtualMachine, overflow: bool) -> None:
    """INTO raises #OF, and returns behind itself, where OF is set; else it does nothing."""
    stubs = Stubs(vm, "    into\nafter:\n    int 0x42\n")
    stubs.registers.gpr[Gpr.RFLAGS] |= overflow << 11
    frame = stubs.take()
    assert frame.vector == (OF if overflow else 0x42)
    if overflow:
        assert frame.ip == stubs.symbol("after")


@requirement("K-INK-12")
def test_ud_is_delivered_without_an_exit(vm: VirtualMachine) -> None:
    """#UD goes to the guest's handler, and userland sees nothing but the guest's own output."""
    run = vm.boot("ud")
    assert run.console == "UK"
    assert run.status == 1
    assert run.reasons() == [ExitReason.IO] * 3


@requirement("K-INK-12")
@modes(Mode.REAL16, Mode.PROT32, Mode.LONG64)
def test_handlers_return_and_the_guest_goes_on(vm: VirtualMachine) -> None:
    """A guest that handles three exceptions in a row goes on after each, with all its registers."""
    run = vm.run_code(
        """
    IDT_SETUP
    mov     ebx, 0x12345678
    xor     ecx, ecx
    EXPECT_FAULT 0, first
    div     ecx
    FAIL    "no #DE"
first:
    EXPECT_FAULT 6, second
    ud2
    FAIL    "no #UD"
second:
    EXPECT_FAULT 3, third
    int3
    FAIL    "no #BP"
third:
    CHECK_EQ ebx, 0x12345678, "EBX"
    CHECK_EQ ecx, 0, "ECX"
    CHECK_MEM dword, {{ own }}[fault_count], 3, "exceptions"
    DONE
"""
    )
    assert run.done
