# SPDX-License-Identifier: BSD-2-Clause
"""Exceptions, interrupts, shadows, windows and breakpoints, against the words of the SDM."""

import pytest
from cpu_machine import EXCP, INT_WINDOW, INTR, IRET, NMI, NMI_WINDOW, Cpu, Exit, assemble
from cpu_scene import DB, DE, DF, GP, IF, NP, PF, PTE, RF, SS, TF, UD, real, real_vector


@pytest.fixture
def cpu():
    return Cpu()


# --- interrupts, shadows, windows ---


def test_sti_holds_the_window_for_one_instruction(cpu):
    real(cpu, "sti; nop; nop; hlt")
    cpu["intercepts"] = INT_WINDOW
    assert cpu.run() is Exit.INT_WINDOW
    assert cpu["rip"] == 0x7C02


def test_sti_with_if_set_casts_no_shadow(cpu):
    real(cpu, "sti; nop; nop; hlt")
    cpu["rflags"] = IF | 2
    assert cpu.run(1) is Exit.BUDGET
    assert cpu["int_shadow"] == 0
    real(cpu, "sti; nop; nop; hlt")
    cpu["rflags"] = 2
    assert cpu.run(1) is Exit.BUDGET
    assert cpu["int_shadow"] == 1
    assert cpu.run(1) is Exit.BUDGET
    assert cpu["int_shadow"] == 0


@pytest.mark.parametrize("load", ["mov ss,ax", "push ax; pop ss"])
def test_loading_ss_casts_a_shadow(cpu, load):
    real(cpu, f"xor ax,ax; {load}; nop; hlt")
    steps = 2 + load.count(";")
    assert cpu.run(steps) is Exit.BUDGET
    assert cpu["int_shadow"] == 1
    assert cpu.run(1) is Exit.BUDGET
    assert cpu["int_shadow"] == 0


def test_an_exit_in_the_shadow_shows_it_and_advancing_ends_it(cpu):
    real(cpu, "sti; out 0x80,al; hlt")
    assert cpu.run() is Exit.IO
    assert cpu["int_shadow"] == 1
    cpu.advance()
    assert (cpu["int_shadow"], cpu["rip"]) == (0, 0x7C03)


def test_an_injected_interrupt_comes_before_the_first_instruction(cpu):
    real(cpu, "mov ax,1; hlt")
    cpu["rflags"] = IF | 2
    cpu["inject.type"], cpu["inject.vector"] = INTR, 0x30
    assert real_vector(cpu) == 0x30
    assert cpu["rax"] == 0
    assert cpu.read(0x6FFA, 2) == 0x7C00
    assert cpu["inject.type"] == 0
    assert cpu["rflags"] & IF == 0


def test_nmi_blocks_nmis_until_iret(cpu):
    real(cpu, "nop; hlt")
    cpu.write(0x9000 + 2, b"\xf4\xcf")  # HLT, IRET
    cpu["inject.type"], cpu["inject.vector"] = NMI, 2
    cpu["intercepts"] = NMI_WINDOW
    assert real_vector(cpu) == 2
    assert cpu["nmi_blocked"] == 1
    cpu.advance()
    assert cpu.run() is Exit.NMI_WINDOW
    assert (cpu["cs.selector"], cpu["rip"], cpu["nmi_blocked"]) == (0, 0x7C00, 0)


def test_an_iret_that_faults_unblocks_nmis(cpu):
    """SDM 3A 6.7.1: IRET unblocks NMIs even if it causes a fault."""
    cpu.long_mode("push 0; push 0; push 2; push 0; push 0; iretq")  # to a null CS
    cpu["nmi_blocked"] = 1
    assert cpu.run() is Exit.HLT
    assert cpu.vector() == GP
    assert cpu.frame(error=True)["rip"] == 0x800A
    assert cpu["nmi_blocked"] == 0


def test_an_iret_that_memory_cuts_short_keeps_nmis_blocked(cpu):
    """SDM 3A 6.7.1: "until the next execution of the IRET instruction", which is to come yet."""
    cpu.long_mode("iretq")
    cpu["nmi_blocked"] = 1
    cpu["rsp"] = PTE
    cpu.rights(PTE, 0)
    assert cpu.run() is Exit.MEMORY
    assert (cpu["rip"], cpu["nmi_blocked"]) == (0x8000, 1)


def test_another_instruction_that_faults_keeps_nmis_blocked(cpu):
    """SDM 3A 6.7.1: of all instructions it is IRET that unblocks NMIs."""
    cpu.long_mode("ud2")
    cpu["nmi_blocked"] = 1
    assert cpu.run() is Exit.HLT
    assert (cpu.vector(), cpu["nmi_blocked"]) == (UD, 1)


def test_iret_is_intercepted_before_it_runs(cpu):
    real(cpu, "iret")
    cpu["intercepts"] = IRET
    cpu["nmi_blocked"] = 1
    assert cpu.run() is Exit.IRET
    assert (cpu["rip"], cpu["rsp"], cpu["nmi_blocked"]) == (0x7C00, 0x7000, 1)


def test_single_step_traps_after_the_instruction(cpu):
    real(cpu, "push 0x102; popf; nop; nop; hlt")
    assert real_vector(cpu) == DB
    assert cpu.read(cpu["rsp"], 2) == 0x7C05, "not after POPF, which began with TF clear"
    assert cpu["dr6"] & 0x4000
    assert cpu["rflags"] & TF == 0


def test_single_step_traps_each_iteration_of_rep(cpu):
    real(cpu, "rep stosb; hlt")
    cpu.set(rcx=3, rdi=0x600, rflags=TF | 2)
    assert real_vector(cpu) == DB
    assert (cpu["rcx"], cpu["rdi"]) == (2, 0x601)
    assert cpu.read(cpu["rsp"], 2) == 0x7C00


def test_mov_ss_holds_the_single_step_trap_back(cpu):
    real(cpu, "mov ss,ax; nop; nop; hlt")
    cpu.set(rflags=TF | 2, rax=0)
    assert real_vector(cpu) == DB
    assert cpu.read(cpu["rsp"], 2) == 0x7C03


def test_rf_goes_away_with_the_next_instruction(cpu):
    real(cpu, "nop; hlt")
    cpu["rflags"] = RF | 2
    cpu.run(1)
    assert cpu["rflags"] & RF == 0


# --- events in long mode ---


def test_a_frame_of_64_bits_is_aligned_and_complete(cpu):
    cpu.long_mode("ud2")
    cpu["rsp"] = cpu.STACK - 3
    cpu["rflags"] = IF | 2
    assert cpu.run() is Exit.HLT
    assert cpu.vector() == UD
    assert cpu["rsp"] == cpu.STACK - 16 - 40
    assert cpu.frame(error=False) == {
        "rip": 0x8000,
        "cs": cpu.CS64,
        "rflags": IF | RF | 2,
        "rsp": cpu.STACK - 3,
        "ss": cpu.DS64,
    }
    assert cpu["rflags"] == 2


def test_a_trap_gate_leaves_if(cpu):
    cpu.long_mode("ud2")
    cpu.gate(UD, cpu.HANDLERS + UD, attr=0x8F00)
    cpu["rflags"] = IF | 2
    assert cpu.run() is Exit.HLT
    assert cpu["rflags"] == IF | 2


@pytest.mark.parametrize(
    ("change", "vector", "error"),
    [
        ({"attr": 0x0E00}, NP, 0x40 * 8 + 2),
        ({"attr": 0x8600}, GP, 0x40 * 8 + 2),
        ({"sel": 0}, GP, 0),
        ({"sel": 0xF8}, GP, 0xF8),
        ({"sel": 0x10}, GP, 0x10),
        ({"sel": 0x18}, GP, 0x18),
    ],
)
def test_bad_gates_fault_with_their_error_codes(cpu, change, vector, error):
    cpu.long_mode("int 0x40")
    cpu.gate(0x40, 0x9999, **change)
    assert cpu.run() is Exit.HLT
    assert cpu.vector() == vector
    frame = cpu.frame(error=True)
    assert (frame["error"], frame["rip"]) == (error, 0x8000)
    # The same gate for an interrupt from outside: EXT.
    cpu.long_mode("nop")
    cpu.gate(0x40, 0x9999, **change)
    cpu["inject.type"], cpu["inject.vector"] = INTR, 0x40
    assert cpu.run() is Exit.HLT
    assert cpu.vector() == vector
    assert cpu.frame(error=True)["error"] == error | 1


def test_two_contributory_faults_are_a_double_fault(cpu):
    cpu.long_mode("xor ecx,ecx; div ecx")
    cpu.gate(DE, 0, attr=0)
    cpu.gate(GP, cpu.HANDLERS + GP, attr=0x8600)
    assert cpu.run() is Exit.HLT
    assert cpu.vector() == DF
    assert cpu.frame(error=True)["error"] == 0


@pytest.mark.parametrize("resume", [0, RF])
def test_a_double_fault_pushes_rf_as_it_was(cpu, resume):
    """SDM 3B 17.3.1.1: 1 is pushed for fault-class exceptions; #DF is an abort, one of the
    "other cases", for which it is the value in EFLAGS when the handler was called."""
    cpu.long_mode("div ecx")
    cpu.set(rcx=0, rflags=resume | 2)
    cpu.gate(DE, 0, attr=0)
    cpu.gate(GP, cpu.HANDLERS + GP, attr=0x8600)
    assert cpu.run() is Exit.HLT
    assert cpu.vector() == DF
    assert cpu.frame(error=True)["rflags"] == resume | 2


def test_a_benign_fault_and_a_contributory_one_come_one_by_one(cpu):
    cpu.long_mode("ud2")
    cpu.gate(UD, cpu.HANDLERS + UD, attr=0x8600)
    assert cpu.run() is Exit.HLT
    assert cpu.vector() == GP
    assert cpu.frame(error=True)["error"] == UD * 8 + 2 + 1


def test_a_page_fault_whose_stack_faults_is_a_double_fault(cpu):
    cpu.long_mode("mov al,[rbx]")
    cpu.gate(DF, cpu.HANDLERS + DF, ist=1)
    cpu.pte(PTE, 0)
    cpu.set(rbx=PTE, rsp=PTE + 0x800)
    assert cpu.run() is Exit.HLT
    assert cpu.vector() == DF
    assert cpu["rsp"] == cpu.STACK1 - 48
    assert cpu["cr2"] == PTE + 0x800 - 8


def test_a_fault_on_the_way_to_the_double_fault_is_shutdown(cpu):
    cpu.long_mode("mov al,[rbx]")
    cpu.pte(PTE, 0)
    cpu.set(rbx=PTE, rsp=PTE + 0x800)
    assert cpu.run() is Exit.SHUTDOWN


def test_int_n_from_cpl3_needs_the_dpl_of_the_gate(cpu):
    cpu.long_mode("int 0x40", user=True)
    assert cpu.run() is Exit.HLT
    assert cpu.vector() == GP
    assert cpu.frame(error=True)["error"] == 0x40 * 8 + 2
    cpu.long_mode("int 0x40", user=True)
    cpu.gate(0x40, cpu.HANDLERS + 0x40, attr=0xEE00)
    assert cpu.run() is Exit.HLT
    assert cpu.vector() == 0x40
    assert cpu["rsp"] == cpu.STACK0 - 40
    assert (cpu["ss.selector"], cpu["ss.dpl"], cpu["cs.selector"]) == (0, 0, cpu.CS64)
    frame = cpu.frame(error=False)
    assert (frame["rip"], frame["rsp"], frame["ss"]) == (0x8002, cpu.STACK, cpu.USER_DS)


def test_iretq_goes_to_cpl3_and_syscall_comes_back(cpu):
    cpu.long_mode(
        """
        push 0x23; push 0x19000; push 0x202; push 0x2b; push offset user
        iretq
        user: mov eax,cs; syscall; hlt
        """
    )
    cpu.set(star=0x0008 << 32, lstar=0x9000, sfmask=IF)
    cpu.write(0x9000, b"\xf4")
    assert cpu.run() is Exit.HLT
    assert cpu["rip"] == 0x9000
    assert cpu["rax"] == cpu.USER_CS
    assert cpu["rsp"] == 0x19000
    assert cpu["r11"] == 0x202
    assert cpu["rflags"] == 2
    assert (cpu["cs.selector"], cpu["ss.selector"], cpu["ss.dpl"]) == (8, 16, 0)
    assert cpu.read(cpu["rcx"], 1) == 0xF4


@pytest.mark.parametrize("source", ["hlt", "cli", "mov cr0,rax", "lgdt [rbx]", "in al,dx", "wrmsr"])
def test_privileged_instructions_fault_at_cpl3(cpu, source):
    cpu.long_mode(source, user=True)
    assert cpu.run() is Exit.HLT
    assert cpu.vector() == GP
    assert cpu.frame(error=True)["error"] == 0


def test_an_injected_exception_pushes_its_error_code(cpu):
    cpu.long_mode("nop")
    cpu["inject.type"], cpu["inject.vector"] = EXCP, GP
    cpu["inject.has_error"], cpu["inject.error"] = 1, 0x1234
    assert cpu.run() is Exit.HLT
    assert cpu.vector() == GP
    assert cpu.frame(error=True)["error"] == 0x1234


# --- breakpoints ---


@pytest.mark.parametrize(
    ("condition", "size", "at", "source", "hit"),
    [
        (1, 3, 0x50000, "mov [rbx+3],al", True),  # write, 4 bytes
        (1, 3, 0x50000, "mov [rbx+4],al", False),
        (1, 3, 0x50000, "mov al,[rbx+3]", False),
        (3, 3, 0x50000, "mov al,[rbx+3]", True),
        (3, 2, 0x50006, "mov al,[rbx]", True),  # 8 bytes, aligned down
        (3, 0, 0x50007, "mov rax,[rbx]", True),
        (3, 0, 0x50008, "mov rax,[rbx]", False),
        (1, 0, 0x50001, "add [rbx],eax", True),
    ],
)
def test_data_breakpoints_trap_after_the_access(cpu, condition, size, at, source, hit):
    cpu.long_mode(f"{source}; nop; hlt")
    cpu.set(rbx=0x50000, dr1=at, dr7=0x400 | 0x08 | (condition | size << 2) << 20)
    assert cpu.run() is Exit.HLT
    if not hit:
        assert cpu["rip"] < cpu.HANDLERS
        return
    assert cpu.vector() == DB
    frame = cpu.frame(error=False)
    assert frame["rip"] == 0x8000 + len(assemble(source))
    assert frame["rflags"] & RF == 0
    assert cpu["dr6"] & 0xF == 2


def test_an_instruction_breakpoint_comes_before_it_and_rf_holds_it_back(cpu):
    cpu.long_mode("nop; inc rax; hlt")
    cpu.set(dr0=0x8001, dr7=0x402)
    assert cpu.run() is Exit.HLT
    assert cpu.vector() == DB
    assert cpu.frame(error=False)["rip"] == 0x8001
    assert (cpu["rax"], cpu["dr6"] & 0xF) == (0, 1)
    cpu.long_mode("nop; inc rax; hlt")
    cpu.set(rip=0x8001, rflags=RF | 2)
    assert cpu.run() is Exit.HLT
    assert (cpu["rax"], cpu["rip"]) == (1, 0x8004)


def test_general_detect_guards_the_debug_registers(cpu):
    cpu.long_mode("mov rax,dr0; hlt")
    cpu["dr7"] = 0x2400
    assert cpu.run() is Exit.HLT
    assert cpu.vector() == DB
    assert cpu.frame(error=False)["rip"] == 0x8000
    assert cpu["dr6"] & 0x2000
    assert cpu["dr7"] == 0x400


def test_alignment_is_checked_for_cpl3_that_asks(cpu):
    source = "mov eax,[rbx]; cpuid"
    for cr0, ac, user, vector in (
        (1 << 18, 1 << 18, True, 17),
        (0, 1 << 18, True, None),
        (1 << 18, 0, True, None),
        (1 << 18, 1 << 18, False, None),
    ):
        cpu.long_mode(source, user=user)
        cpu["cr0"] |= cr0
        cpu.set(rflags=ac | 2, rbx=0x50001)
        if vector is None:
            assert cpu.run() is Exit.CPUID
        else:
            assert cpu.run() is Exit.HLT
            assert cpu.vector() == vector
            assert cpu.frame(error=True)["error"] == 0


# --- what events do to the state around them ---


def test_delivery_ends_the_interrupt_shadow(cpu):
    real(cpu, "nop")
    cpu["int_shadow"] = 1
    cpu["inject.type"], cpu["inject.vector"] = INTR, 0x30
    assert real_vector(cpu) == 0x30
    assert cpu["int_shadow"] == 0


def test_a_frame_at_an_address_that_is_not_canonical_is_a_stack_fault(cpu):
    cpu.long_mode("ud2")
    cpu.gate(SS, cpu.HANDLERS + SS, ist=1)
    cpu["rsp"] = 0x0000_8000_0000_0100
    assert cpu.run() is Exit.HLT
    assert cpu.vector() == SS
    assert cpu.frame(error=True)["error"] == 1, "EXT: met while #UD was delivered"


def test_a_page_fault_with_a_bad_gate_is_a_double_fault(cpu):
    cpu.long_mode("mov al,[rbx]")
    cpu.gate(PF, cpu.HANDLERS + PF, sel=0xF8)
    cpu.pte(PTE, 0)
    cpu["rbx"] = PTE
    assert cpu.run() is Exit.HLT
    assert cpu.vector() == DF
