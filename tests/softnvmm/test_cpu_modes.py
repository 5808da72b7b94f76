# SPDX-License-Identifier: BSD-2-Clause
"""Reset, modes, segments, privileges and what control registers refuse: the words of the SDM."""

import pytest
from cpu_machine import CPUID_FOREIGN, CR8_WRITE, EXEC, Cpu, Exit, assemble
from cpu_scene import DE, GP, IF, NP, PF, RSVD, SS, UD, P, real, real_vector


@pytest.fixture
def cpu():
    return Cpu()


# --- reset ---


def test_reset_state_is_that_of_the_sdm(cpu):
    assert (cpu["cs.selector"], cpu["cs.base"], cpu["rip"]) == (0xF000, 0xFFFF0000, 0xFFF0)
    assert (cpu["rdx"], cpu["rflags"], cpu["cr0"]) == (0x600, 2, 0x60000010)
    assert (cpu["dr6"], cpu["dr7"], cpu["pat"]) == (0xFFFF0FF0, 0x400, 0x0007040600070406)
    assert cpu.run() is Exit.MEMORY
    assert (cpu["exit.memory.gpa"], cpu["exit.memory.access"]) == (0xFFFFFFF0, EXEC)
    assert cpu["exit.memory.inst_len"] == 0


# --- real mode ---


def test_int_n_goes_through_the_ivt_and_iret_comes_back(cpu):
    real(cpu, "sti; stc; int 0x21; hlt")
    cpu.put(4 * 0x21, 0x0500 << 16 | 0x10, 4)
    cpu.write(0x5010, assemble("pushf; pop dx; iret", 16))
    assert cpu.run() is Exit.HLT
    assert cpu["rip"] == 0x7C04
    assert cpu["rdx"] & 0xFFFF & (IF | 1) == 1  # IF cleared, CF kept
    assert cpu["rflags"] & (IF | 1) == IF | 1
    assert cpu["rsp"] & 0xFFFF == 0x7000


def test_int_n_pushes_flags_cs_and_the_next_ip(cpu):
    real(cpu, "stc; int 0x40")
    assert real_vector(cpu) == 0x40
    assert cpu["rsp"] == 0x7000 - 6
    assert [cpu.read(0x6FFA + at, 2) for at in (0, 2, 4)] == [0x7C03, 0, 0x0003]


@pytest.mark.parametrize(
    ("source", "vector"),
    [
        ("xor cx,cx; div cx", DE),
        ("nop; nop; ud2", UD),
        ("mov bx,0xffff; mov ax,[bx]", GP),
        ("mov bp,0xffff; mov ax,[bp]", SS),
        ("nop; nop; .byte 0xf0, 0x90", UD),
    ],
)
def test_faults_save_the_ip_of_the_instruction(cpu, source, vector):
    real(cpu, source)
    before = len(assemble(source.rpartition(";")[0], 16))
    assert real_vector(cpu) == vector
    assert cpu.read(0x6FFA, 2) == 0x7C00 + before
    assert cpu["rsp"] == 0x6FFA, "no error code in real mode"


def test_offsets_below_the_limit_do_not_fault(cpu):
    real(cpu, "mov bx,0xfffe; mov ax,[bx]; hlt")
    cpu.put(0xFFFE, 0xBEEF, 2)
    assert cpu.run() is Exit.HLT
    assert cpu["rax"] & 0xFFFF == 0xBEEF


def test_unreal_mode_is_a_big_hidden_limit(cpu):
    real(cpu, "mov eax,[ebx]; hlt")
    cpu["rbx"] = 0x12345
    cpu.put(0x12345, 0xCAFEF00D, 4)
    cpu["ds.limit"] = 0xFFFFFFFF
    assert cpu.run() is Exit.HLT
    assert cpu["rax"] == 0xCAFEF00D


def test_the_limit_of_the_idt_is_checked(cpu):
    real(cpu, "int 0x20; hlt")
    cpu["idtr.limit"] = 0x20 * 4 + 2  # one byte too small
    assert real_vector(cpu) == GP
    assert cpu.read(0x6FFA, 2) == 0x7C00


def test_without_an_idt_a_fault_is_a_triple_fault(cpu):
    real(cpu, "nop; ud2")
    cpu["idtr.limit"] = 0
    assert cpu.run() is Exit.SHUTDOWN


# --- modes ---

BOOT = """
    lgdt [gdtr]
    mov eax,cr0
    or al,1
    mov cr0,eax
    .byte 0x66,0xea
    .long protected
    .word 0x18
gdtr: .word 0xff
    .long 0x104000
.code32
protected:
    mov ax,0x10
    mov ds,ax
    mov ss,ax
    mov esp,0x18000
    push 0x11223344
    pop ebx
    mov eax,cr4
    or al,0x20
    mov cr4,eax
    mov eax,0x100000
    mov cr3,eax
    mov ecx,0xc0000080
    rdmsr
    or ah,1
    wrmsr
    mov eax,cr0
    or eax,0x80000000
    mov cr0,eax
    .byte 0xea
    .long long
    .word 0x08
.code64
long:
    mov rdi,0x1122334455667788
    hlt
"""


def test_from_real_mode_to_long_mode(cpu):
    cpu.real_mode(BOOT)
    cpu.tables()
    assert cpu.run() is Exit.HLT
    assert cpu["rdi"] == 0x1122334455667788
    assert cpu["rbx"] == 0x11223344
    assert (cpu["efer"], cpu["cs.l"], cpu["cs.selector"]) == (0x500, 1, 8)
    assert cpu["cr0"] & 0x80000001 == 0x80000001


BACK = """
    lgdt [gdtr]
    mov eax,cr0
    inc eax
    mov cr0,eax
    .byte 0xea
    .word protected, 0x30
gdtr: .word 0xff
    .long 0x104000
protected:
    mov bx,0x38
    mov es,bx
    mov bx,0x10
    mov ds,bx
    dec eax
    mov cr0,eax
    .byte 0xea
    .word again, 0
again:
    xor ax,ax
    mov ds,ax
    mov ebx,0x123456
    mov edx,[ebx]
    hlt
"""


def test_from_protected_mode_back_to_real_keeps_the_limits(cpu):
    cpu.real_mode(BACK)
    cpu.tables()
    cpu.put(0x123456, 0xFEEDFACE, 4)
    assert cpu.run() is Exit.HLT
    assert cpu["cr0"] & 1 == 0
    assert cpu["rdx"] == 0xFEEDFACE
    assert (cpu["ds.selector"], cpu["ds.base"], cpu["ds.limit"]) == (0, 0, 0xFFFFFFFF)
    assert (cpu["es.selector"], cpu["es.limit"]) == (0x38, 0xFFFF)


def test_protected_mode_checks_descriptors(cpu):
    cpu.long_mode("mov ax,0x0f8; mov ds,ax")
    assert cpu.run() is Exit.HLT
    assert cpu.vector() == GP
    assert cpu.frame(error=True)["error"] == 0xF8
    cpu.long_mode("mov ax,0x10; mov ds,ax")
    cpu.put(cpu.GDT + 0x10, 0x00CF13000000FFFF, 8)  # not present
    assert cpu.run() is Exit.HLT
    assert cpu.vector() == NP
    cpu.long_mode("mov ax,0x10; mov ss,ax")
    cpu.put(cpu.GDT + 0x10, 0x00CF13000000FFFF, 8)
    assert cpu.run() is Exit.HLT
    assert cpu.vector() == SS


def test_there_are_no_pages_of_512_gib(cpu):
    cpu.long_mode("mov al,[rbx]; hlt")
    cpu["rbx"] = 1 << 39
    cpu.put(cpu.PML4 + 8, 0x87, 8)
    assert cpu.run() is Exit.HLT
    assert cpu.vector() == PF
    assert cpu.frame(error=True)["error"] == P | RSVD


def test_loading_a_segment_sets_its_accessed_bit(cpu):
    cpu.long_mode("mov ax,0x10; mov ds,ax; hlt")
    cpu.put(cpu.GDT + 0x10, 0x00CF92000000FFFF, 8)
    assert cpu.run() is Exit.HLT
    assert cpu.read(cpu.GDT + 0x10, 8) == 0x00CF93000000FFFF
    assert cpu["ds.type"] == 3


def test_control_registers_refuse_reserved_values(cpu):
    for source in ("mov cr4,rbx", "mov cr0,rbx", "mov cr3,rbx", "mov cr8,rbx"):
        cpu.long_mode(source)
        cpu["rbx"] = 1 << 62
        assert cpu.run() is Exit.HLT
        assert cpu.vector() == GP, source
    cpu.long_mode("mov cr1,rbx")
    assert cpu.run() is Exit.HLT
    assert cpu.vector() == UD


def test_cr8_writes_are_reported_after_they_are_done(cpu):
    cpu.long_mode("mov cr8,rbx; hlt")
    cpu["rbx"] = 9
    cpu["intercepts"] = CR8_WRITE
    assert cpu.run() is Exit.CR8_WRITE
    assert (cpu["cr8"], cpu["rip"], cpu["exit.next_rip"]) == (9, 0x8004, 0x8004)


@pytest.mark.parametrize(
    "change",
    [
        {"cr0": 0x20000000},
        {"cr0": 1 << 32},
        {"efer": 2},
        {"cr4": 1 << 22},
        {"dr7": 1 << 32},
        {"efer": 0x100, "cr0": 0x80000001},
    ],
)
def test_states_that_cannot_be_entered(cpu, change):
    real(cpu, "hlt")
    cpu.set(**change)
    assert cpu.run() is Exit.BAD_STATE
    assert cpu["rip"] == 0x7C00


def test_what_is_not_implemented_is_ud_and_counted(cpu):
    real(cpu, "fsin")
    assert real_vector(cpu) == UD
    assert cpu["unimplemented"] == 1
    real(cpu, "ud2")
    assert real_vector(cpu) == UD
    assert cpu["unimplemented"] == 1


# SDM 2, APM 3: each is #UD where its CPUID bit is clear (test_cpu_fpu.py: what CPUID says).
ABSENT = [
    "rdrand eax", "rdseed cx", "vmptrld [0x7000]", "vmptrst [0x7000]", "vmclear [0x7000]",
    "vmxon [0x7000]", "vmread eax, ecx", "vmwrite eax, ecx", "pabsd xmm0, xmm1",
    "pmulld xmm0, xmm1", "aesenc xmm0, xmm1", "femms",
]  # fmt: skip


@pytest.mark.parametrize("source", ABSENT)
def test_what_cpuid_does_not_show_is_ud_and_not_counted(cpu, source):
    real(cpu, source)
    assert real_vector(cpu) == UD
    assert cpu["unimplemented"] == 0
    real(cpu, source)
    cpu["intercepts"] = CPUID_FOREIGN
    assert real_vector(cpu) == UD
    vmx = source.startswith("vm")  # always #UD outside VMX operation
    assert cpu["unimplemented"] == (0 if vmx else 1)


def test_code_written_by_itself_is_seen(cpu):
    real(cpu, "mov byte ptr [there],0xf4; nop; there: nop; ud2")
    assert cpu.run() is Exit.HLT
    assert cpu["cs.base"] == 0


# --- flags and the stack ---


@pytest.mark.parametrize(
    ("user", "before", "popped", "after"),
    [
        (False, 2, IF | 0x3000 | 2, IF | 0x3000 | 2),
        (True, 2, IF | 0x3000 | 2, 2),
        (True, IF | 2, 2, IF | 2),
        (True, 0x3000 | 2, IF | 2, IF | 0x3000 | 2),  # IOPL 3: IF yes, IOPL no
    ],
)
def test_popf_changes_if_by_iopl_and_iopl_at_cpl0(cpu, user, before, popped, after):
    cpu.long_mode("popf; cpuid", user=user)
    cpu["rflags"] = before
    cpu.put(cpu.STACK, popped, 8)
    assert cpu.run() is Exit.CPUID
    assert cpu["rflags"] == after


@pytest.mark.parametrize(("iopl", "allowed"), [(0, False), (0x3000, True)])
def test_cli_and_sti_go_by_iopl(cpu, iopl, allowed):
    cpu.long_mode("cli; sti; cpuid", user=True)
    cpu["rflags"] = iopl | IF | 2
    assert cpu.run() is (Exit.CPUID if allowed else Exit.HLT)
    assert allowed or cpu.vector() == GP


def test_pop_to_an_address_with_rsp_uses_rsp_after_the_pop(cpu):
    cpu.long_mode("pop qword ptr [rsp+0x10]; cpuid")
    cpu.put(cpu.STACK, 0x1122334455667788, 8)
    assert cpu.run() is Exit.CPUID
    assert cpu["rsp"] == cpu.STACK + 8
    assert cpu.read(cpu.STACK + 0x18, 8) == 0x1122334455667788
    assert cpu.read(cpu.STACK + 0x10, 8) == 0


# --- refusals ---


def test_paging_with_lme_needs_pae_and_code_without_l(cpu):
    for cr4, long, fits in ((0, 0, False), (0x20, 1, False), (0x20, 0, True)):
        cpu.long_mode("nop")
        cpu.set(cr0=0x11, cr4=cr4, efer=0x100)
        cpu.segment("cs", 0x18, 0xB, 0, db=1 - long, long=long)
        cpu["idtr.limit"] = 0  # a fault is a shutdown
        cpu.write(0x8000, assemble("mov cr0,eax; hlt", 32))
        cpu["rax"] = 0x80000011
        assert cpu.run() is (Exit.HLT if fits else Exit.SHUTDOWN)
        assert cpu["efer"] == (0x500 if fits else 0x100)


def test_a_branch_out_of_the_segment_faults_at_the_branch(cpu):
    cpu.long_mode("jmp rbx")
    cpu["rbx"] = 1 << 47
    assert cpu.run() is Exit.HLT
    assert cpu.vector() == GP
    assert cpu.frame(error=True)["rip"] == 0x8000


def test_a_real_mode_branch_past_the_limit_faults_at_the_branch(cpu):
    real(cpu, "nop; jmp bx")
    cpu["cs.limit"] = 0x8FFF
    cpu["rbx"] = 0x9000
    assert real_vector(cpu) == GP
    assert cpu.read(cpu["rsp"], 2) == 0x7C01


def test_lma_is_not_written_by_wrmsr_and_lme_not_under_paging(cpu):
    cpu.long_mode("wrmsr; rdmsr; cpuid")
    cpu.set(rcx=0xC0000080, rax=0x101, rdx=0)  # LME and SCE, no LMA, no NXE
    assert cpu.run() is Exit.CPUID
    assert cpu["rax"] == 0x501
    cpu.long_mode("wrmsr")
    cpu.set(rcx=0xC0000080, rax=0x001, rdx=0)
    assert cpu.run() is Exit.HLT
    assert cpu.vector() == GP


def test_the_smallest_dividend_by_minus_one_overflows(cpu):
    cpu.long_mode("idiv rbx")
    cpu.set(rdx=1 << 63, rax=0, rbx=(1 << 64) - 1)
    assert cpu.run() is Exit.HLT
    assert cpu.vector() == DE
