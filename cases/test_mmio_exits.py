# SPDX-License-Identifier: BSD-2-Clause
"""MMIO: what the MEMORY exit tells, what libnvmm's assist refuses, memory that is read-only.

libnvmm(3) "nvmm_vcpu_run" (exit MEMORY), "nvmm_assist_mem", "nvmm_gpa_map"; SDM 3A 5.1.3
and 5.6 (paging and access rights), SDM 3B 19.3.1.4 (single-step).
"""

from __future__ import annotations

import errno

import pytest
from mmio_bench import DEVICE, OTHER, Bench, base_of, pattern

from nvmmconf.suite import (
    PAGE_SIZE,
    Cr,
    ExitReason,
    Gpr,
    HostMemory,
    IoExit,
    Level,
    MemoryExit,
    Mmio,
    MmioAccess,
    Mode,
    NvmmError,
    PreparedGuest,
    Prot,
    Segment,
    StateFlag,
    Stop,
    Vcpu,
    VirtualMachine,
    check,
    expect_errno,
    modes,
    requirement,
)

EVERY = (Mode.REAL16, Mode.PROT32, Mode.COMPAT32, Mode.LONG64)
AT = 0x234
HIGH = 0x3000_0000
"""Far above RAM, and within the 1 GiB that the page tables map."""


def _memory_exit(guest: PreparedGuest) -> MemoryExit:
    taken = guest.next_exit()
    assert isinstance(taken, MemoryExit)
    return taken


def _rip(guest: PreparedGuest) -> int:
    guest.vcpu.getstate(StateFlag.GPRS)
    return int(guest.vcpu.state.gprs[Gpr.RIP])


# ---- what the exit tells ------------------------------------------------------------

TOLD = {
    "load": ("mov ecx, [{{ bx }}]", Prot.READ),
    "store": ("mov [{{ bx }}], ecx", Prot.WRITE),
    "immediate": ("mov byte ptr [{{ bx }}], 5", Prot.WRITE),
    "modify": ("or [{{ bx }}], ecx", Prot.WRITE),
    "exchange": ("xchg [{{ bx }}], ecx", Prot.WRITE),
    "compare": ("cmp byte ptr [{{ bx }}], 5", Prot.READ),
    "string_store": ("stosb", Prot.WRITE),
    "string_load": ("lodsb", Prot.READ),
}
TOLD_SOURCE = "\n".join(f"{name}:\n{text}\n    hlt" for name, (text, _) in TOLD.items())


@requirement("K-MEMX-1", "K-MEMX-2", "K-MEMX-4", "K-MEMX-5", "L-GPA-9", "A-MEM-4")
@modes(*EVERY)
@pytest.mark.parametrize("access", TOLD)
@pytest.mark.parametrize("offset", [AT, 0xFFC])
def test_exit_tells_access_and_address(vm: VirtualMachine, access: str, offset: int) -> None:
    """An access to no memory exits: READ, or WRITE also where it reads first, with its GPA."""
    guest = vm.prepare_code(TOLD_SOURCE, entry=access, unmapped=[(base_of(vm.mode) + DEVICE, 4096)])
    for gpr in (Gpr.RBX, Gpr.RSI, Gpr.RDI):
        guest.registers.gpr[gpr] = DEVICE + offset
    taken = _memory_exit(guest)
    assert taken.prot == TOLD[access][1]
    check.equal(taken.gpa, base_of(vm.mode) + DEVICE + offset, "GPA")
    check.equal(_rip(guest), guest.symbol(access), "RIP")


@requirement("K-MEMX-6", "K-MEMX-7")
@modes(*EVERY)
@pytest.mark.parametrize("access", ["load", "store", "modify"])
def test_exit_has_the_bytes_of_the_instruction_or_none(vm: VirtualMachine, access: str) -> None:
    """The exit carries the bytes at CS:RIP, where the processor tells them, or none."""
    guest = vm.prepare_code(TOLD_SOURCE, entry=access, unmapped=[(base_of(vm.mode) + DEVICE, 4096)])
    guest.registers.gpr[Gpr.RBX] = DEVICE
    taken = _memory_exit(guest)
    told = taken.inst_bytes
    there = guest.memory(base_of(vm.mode) + guest.symbol(access), max(len(told), 1))
    check.equal(told, there if told else b"", "instruction bytes")


AMD = {0x68747541, 0x6F677948}
"""CPUID leaf 0, EBX, of AMD and Hygon."""


@requirement("K-MEMX-6", "K-MEMX-7")
@modes(*EVERY)
def test_decode_assists_give_the_instruction(vm: VirtualMachine) -> None:
    """With AMD's decode assists, seen by a string port exit that names its segment, the exit of a
    data access has the instruction's bytes; on Intel it has none.
    """
    source = """
        mov     eax, 0
        cpuid
        outsb
        xchg    {{ bx }}, {{ di }}
    insn:
        mov     [{{ bx }}], cl
    after:
        hlt
    """
    guest = vm.prepare_code(source, ports={0: 0}, mmio=[Mmio(base_of(vm.mode) + DEVICE)])
    guest.registers.gpr.update({Gpr.RSI: OTHER, Gpr.RDI: DEVICE})
    taken = guest.next_exit()
    assert isinstance(taken, IoExit)
    guest.vcpu.getstate(StateFlag.GPRS)
    vendor = int(guest.vcpu.state.gprs[Gpr.RBX]) & 0xFFFFFFFF
    guest.vcpu.assist_io()
    told = _memory_exit(guest).inst_bytes
    insn, after = guest.symbol("insn"), guest.symbol("after")
    if vendor not in AMD:
        check.equal(told, b"", "on Intel")
    elif taken.segment is None:
        check.equal(told, b"", "without decode assists")
    else:
        code = guest.memory(base_of(vm.mode) + insn, after - insn)
        check.equal(told[: after - insn], code, "with decode assists")


@requirement("K-MEMX-3", "K-MEMX-5", "L-GPA-9")
@modes(*EVERY)
def test_fetch_from_no_memory_exits(vm: VirtualMachine) -> None:
    """A jump to where no memory is exits at the target, with EXEC."""
    source = "mov {{ ax }}, {{ target }}\n    jmp {{ ax }}"
    hole = base_of(vm.mode) + DEVICE
    guest = vm.prepare_code(source, unmapped=[(hole, 4096)], target=DEVICE + AT)
    taken = _memory_exit(guest)
    assert taken.prot == Prot.EXEC
    check.equal(taken.gpa, hole + AT, "GPA")
    check.equal(_rip(guest), DEVICE + AT, "RIP")


def _extra_page(guest: PreparedGuest, prot: Prot) -> HostMemory:
    """One more page of memory at HIGH."""
    page = HostMemory(PAGE_SIZE)
    guest.machine.hva_map(page)
    guest.machine.gpa_map(page.hva, HIGH, PAGE_SIZE, prot)
    return page


@requirement("K-MEMX-3", "L-GPA-9", "L-GPA-5")
@modes(Mode.PROT32, Mode.LONG64)
def test_fetch_from_memory_without_exec_exits(vm: VirtualMachine) -> None:
    """Memory that was mapped without PROT_EXEC may be read and written, and not executed."""
    source = f"""
        mov     {{{{ bx }}}}, {HIGH:#x}
        mov     byte ptr [{{{{ bx }}}}], 0x90
        mov     cl, [{{{{ bx }}}}]
        jmp     {{{{ bx }}}}
    """
    guest = vm.prepare_code(source)
    with _extra_page(guest, Prot.READ | Prot.WRITE) as page:
        taken = _memory_exit(guest)
        assert (taken.prot, taken.gpa) == (Prot.EXEC, HIGH)
        check.equal(_rip(guest), HIGH, "RIP")
        check.equal(page.data[0], 0x90, "what was written")


@requirement("A-MEM-3", "L-GPA-9", "K-MEMX-1")
@modes(Mode.PROT32, Mode.LONG64)
def test_memory_taken_away_exits(vm: VirtualMachine) -> None:
    """After nvmm_gpa_unmap() the guest has no memory there, though it has used it before."""
    source = f"""
        mov     {{{{ bx }}}}, {HIGH:#x}
        mov     cl, [{{{{ bx }}}}]
        hlt
        mov     cl, [{{{{ bx }}}}]
    """
    guest = vm.prepare_code(source)
    with _extra_page(guest, Prot.READ | Prot.WRITE) as page:
        assert guest.next_exit().reason is ExitReason.HALTED
        guest.machine.gpa_unmap(page.hva, HIGH, PAGE_SIZE)
        taken = _memory_exit(guest)
        assert (taken.prot, taken.gpa) == (Prot.READ, HIGH)


# ---- read-only memory ---------------------------------------------------------------


@requirement("K-MEMX-8", "A-MEM-2")
@modes(*EVERY)
def test_read_only_memory_is_read_and_executed(vm: VirtualMachine) -> None:
    """Reading and executing read-only memory exits nowhere."""
    page = base_of(vm.mode) + OTHER
    source = f"    mov {{{{ bx }}}}, {OTHER}\n    mov cl, [{{{{ bx }}}}]\n    jmp {{{{ bx }}}}"
    guest = vm.prepare_code(source, readonly=[(page, PAGE_SIZE)])
    guest.write(page, b"\xf4")  # HLT
    run = guest.run()
    assert run.reasons() == [ExitReason.HALTED]
    check.equal(run.registers.gpr[Gpr.RCX] & 0xFF, 0xF4, "CL")


@requirement("K-MEMX-2", "A-MEM-2", "L-MEM-9", "L-GPA-9")
@modes(*EVERY)
@pytest.mark.parametrize("insn", ["mov", "or", "xchg"])
def test_read_only_memory_is_not_written(vm: VirtualMachine, insn: str) -> None:
    """A write to read-only memory exits with WRITE; it has no effect, and the guest goes on."""
    page = base_of(vm.mode) + OTHER
    source = (
        f"    mov {{{{ bx }}}}, {OTHER}\n    mov cl, 0x0F\n    {insn} [{{{{ bx }}}}], cl\n    hlt"
    )
    guest = vm.prepare_code(source, readonly=[(page, PAGE_SIZE)])
    guest.write(page, b"\xa1")
    run = guest.run()
    assert run.reasons() == [ExitReason.MEMORY, ExitReason.HALTED]
    [taken] = run.exits_of(MemoryExit)
    check.equal((taken.prot, taken.gpa), (Prot.WRITE, page), "access")
    check.equal(run.memory(page, 1), b"\xa1", "what is there")
    if insn == "xchg":
        check.equal(run.registers.gpr[Gpr.RCX] & 0xFF, 0xA1, "CL")


@requirement("L-GM-3", "L-MEM-4", "L-MEM-10")
@modes(*EVERY)
def test_movs_to_read_only_memory_is_refused(vm: VirtualMachine) -> None:
    """MOVS from a device to read-only memory fails with ENODEV, and changes nothing."""
    page = base_of(vm.mode) + OTHER
    device = Mmio(base_of(vm.mode) + DEVICE, answer=0x77)
    guest = vm.prepare_code("    movsb\n    hlt", readonly=[(page, PAGE_SIZE)], mmio=[device])
    guest.registers.gpr.update({Gpr.RSI: DEVICE, Gpr.RDI: OTHER})
    _memory_exit(guest)
    _refused(guest.vcpu)
    check.equal(guest.memory(page, 1), b"\0", "what is there")


def _refused(vcpu: Vcpu) -> None:
    """The assist tells ENODEV, and leaves all registers alone."""
    vcpu.getstate(StateFlag.GPRS)
    before = vcpu.gpr_bytes()
    with expect_errno(errno.ENODEV):
        vcpu.assist_mem()
    check.equal(vcpu.gpr_bytes(), before, "registers")


@requirement("L-MEM-4", "L-WALK-4", "L-MEM-10")
@modes(Mode.LONG64, Mode.COMPAT32)
def test_movs_to_no_page_is_refused(vm: VirtualMachine) -> None:
    """MOVS whose destination is on no page fails with ENODEV (the walk's EFAULT is not told)."""
    device = Mmio(DEVICE, answer=0x77)
    guest = vm.prepare_code("    movsb\n    hlt", mmio=[device])
    guest.registers.gpr.update({Gpr.RSI: DEVICE, Gpr.RDI: 0x4000_0000})
    _memory_exit(guest)
    _refused(guest.vcpu)


@requirement("L-MEM-4", "L-DAT-8", "L-MEM-10")
@modes(Mode.REAL16, Mode.PROT32)
def test_movs_beyond_the_limit_is_refused(vm: VirtualMachine) -> None:
    """MOVS whose destination is beyond the limit of ES fails with ENODEV."""
    device = Mmio(base_of(vm.mode) + DEVICE, answer=0x77)
    guest = vm.prepare_code("    movsd\n    hlt", mmio=[device])
    guest.registers.gpr.update({Gpr.RSI: DEVICE, Gpr.RDI: 0x7FFD})
    segment = guest.registers.seg[Segment.ES]
    segment.limit = 0x7FFF
    segment.flags &= ~0x800000  # bytes
    _memory_exit(guest)
    _refused(guest.vcpu)


# ---- what is refused ----------------------------------------------------------------


@requirement("L-MEM-1")
@modes(Mode.REAL16, Mode.LONG64)
def test_assist_needs_a_memory_exit(vm: VirtualMachine) -> None:
    """nvmm_assist_mem() after another exit fails with EINVAL."""
    guest = vm.prepare_code("    hlt")
    assert guest.next_exit().reason is ExitReason.HALTED
    with expect_errno(errno.EINVAL):
        guest.vcpu.assist_mem()


NOT_TAKEN = {
    "add": "add [rbx], ecx", "add_load": "add ecx, [rbx]", "add_imm": "add dword ptr [rbx], 5",
    "adc": "adc [rbx], ecx", "adc_imm": "adc dword ptr [rbx], 5", "sbb": "sbb [rbx], ecx",
    "sbb_imm": "sbb byte ptr [rbx], 5", "sub_imm": "sub dword ptr [rbx], 5",
    "inc": "inc dword ptr [rbx]", "dec": "dec byte ptr [rbx]", "not_": "not dword ptr [rbx]",
    "neg": "neg dword ptr [rbx]", "shl": "shl dword ptr [rbx], 3", "ror": "ror byte ptr [rbx], cl",
    "cmp": "cmp [rbx], ecx", "cmp_load": "cmp cl, [rbx]", "test_": "test [rbx], ecx",
    "movsx": "movsx ecx, byte ptr [rbx]", "movsxd": "movsxd rcx, dword ptr [rbx]",
    "bt": "bt dword ptr [rbx], ecx", "bt_imm": "bt dword ptr [rbx], 3",
    "bts": "lock bts dword ptr [rbx], 3", "cmpxchg": "lock cmpxchg [rbx], ecx",
    "xadd": "xadd [rbx], ecx", "cmpxchg8b": "cmpxchg8b [rbx]", "push": "push qword ptr [rbx]",
    "pop": "pop qword ptr [rbx]", "scas": "scasb", "setcc": "setz byte ptr [rbx]",
    "cmovcc": "cmovnz ecx, [rbx]", "movnti": "movnti [rbx], ecx", "fld": "fld dword ptr [rbx]",
    "mul": "mul dword ptr [rbx]", "div": "div dword ptr [rbx]", "imul": "imul ecx, [rbx]",
    "bsf": "bsf ecx, [rbx]", "shld": "shld [rbx], ecx, 3", "movaps": "movaps xmm1, [rbx]",
    "movd": "movd [rbx], xmm1", "sgdt": "sgdt [rbx]", "mov_sreg": "mov [rbx], ds",
    "rex_twice": ".byte 0x48, 0x48, 0x89, 0x0B", "rex_first": ".byte 0x48, 0x66, 0x89, 0x0B",
}  # fmt: skip
NOT_TAKEN_SOURCE = "\n".join(
    f"i_{name}:\n    {text}\nafter_{name}:\n    hlt" for name, text in NOT_TAKEN.items()
)


@requirement("L-MEM-3", "L-MEM-10", "L-DEC-3")
@modes(Mode.LONG64)
@pytest.mark.parametrize("insn", NOT_TAKEN)
def test_what_is_not_taken_is_refused_whole(vm: VirtualMachine, insn: str) -> None:
    """An instruction that libnvmm cannot do is ENODEV, with nothing done; else it is all done."""
    guest = vm.prepare_code(NOT_TAKEN_SOURCE, entry=f"i_{insn}", mmio=[Mmio(DEVICE)])
    rsp = guest.registers.gpr[Gpr.RSP]
    at = {Gpr.RBX: DEVICE + 0x40, Gpr.RDI: DEVICE + 0x40, Gpr.RCX: 3, Gpr.RSP: rsp}
    guest.registers.gpr.update(pattern(vm.mode) | at)
    guest.registers.cr[Cr.CR4] |= 0x600
    _memory_exit(guest)
    vcpu = guest.vcpu
    vcpu.getstate(StateFlag.GPRS)
    before = vcpu.gpr_bytes()
    accesses: list[int] = []
    vcpu.mem_callback = lambda access: accesses.append(access.gpa)
    try:
        vcpu.assist_mem()
    except NvmmError as error:
        check.equal(error.errno, errno.ENODEV, "errno")
        check.equal(vcpu.gpr_bytes(), before, "registers")
        check.equal(accesses, [], "accesses")
    else:
        check.equal(_rip(guest), guest.symbol(f"after_{insn}"), "RIP")
        check.equal(set(accesses), {DEVICE + 0x40}, "accesses")


@requirement("L-GM-5", level=Level.INFO)
@modes(*EVERY)
def test_assist_of_a_fetch(vm: VirtualMachine) -> None:
    """The assist of a fetch from a device is refused, its bytes being no instruction it takes."""
    source = "mov {{ ax }}, {{ target }}\n    jmp {{ ax }}"
    device = Mmio(base_of(vm.mode) + DEVICE, answer=0x90)
    guest = vm.prepare_code(source, mmio=[device], target=DEVICE)
    _memory_exit(guest)
    _refused(guest.vcpu)


@requirement("A-EXIT-3")
@modes(Mode.LONG64)
def test_refusal_ends_the_run_with_the_address(vm: VirtualMachine) -> None:
    """The accelerator reports what the assist refuses, with the guest-physical address."""
    source = f"    mov rbx, {DEVICE + AT}\n    inc dword ptr [rbx]\n    hlt"
    run = vm.run_code(source, mmio=[Mmio(DEVICE)])
    if run.reason is not Stop.HALTED:  # the library may know INC
        assert run.reason is Stop.PANIC
        assert f"{DEVICE + AT:#x}" in str(run.outcome)
    check(True, "the run has ended")


# ---- where the instruction is -------------------------------------------------------


@requirement("L-MEM-2", "L-GM-2")
@modes(*EVERY)
@pytest.mark.parametrize("before_edge", [1, 2, 3])
def test_instruction_over_the_edge_of_two_pages(vm: VirtualMachine, before_edge: int) -> None:
    """An instruction that begins on one page and ends on the next is read whole."""
    bench_base = base_of(vm.mode)
    code = b"\xc6\x47" if vm.mode is Mode.REAL16 else b"\xc6\x43"  # mov byte ptr [rbx+d8], i8
    code += b"\x10\x5a\xf4"
    guest = vm.prepare_code("    hlt", mmio=[Mmio(bench_base + DEVICE)])
    place = OTHER + PAGE_SIZE - before_edge
    guest.write(bench_base + place, code)
    guest.registers.gpr.update({Gpr.RIP: place, Gpr.RBX: DEVICE})
    run = guest.run()
    check.equal(run.mmio, (MmioAccess(bench_base + DEVICE + 0x10, True, b"\x5a"),), "the device")
    check.equal(run.registers.gpr[Gpr.RIP], place + len(code), "RIP")


@requirement("L-MEM-2")
@modes(*EVERY)
def test_instruction_at_the_end_of_memory(vm: VirtualMachine) -> None:
    """An instruction that ends where memory ends is executed: what is behind it does not matter."""
    base = base_of(vm.mode)
    code = b"\x88\x0f" if vm.mode is Mode.REAL16 else b"\x88\x0b"  # mov [rbx], cl
    hole = base + OTHER + PAGE_SIZE
    guest = vm.prepare_code("    hlt", mmio=[Mmio(base + DEVICE)], unmapped=[(hole, PAGE_SIZE)])
    place = OTHER + PAGE_SIZE - len(code)
    guest.write(base + place, code)
    guest.registers.gpr.update({Gpr.RIP: place, Gpr.RBX: DEVICE, Gpr.RCX: 0x5A})
    guest.next_exit()
    guest.vcpu.assist_mem()
    check.equal(_rip(guest), OTHER + PAGE_SIZE, "RIP")


@requirement("L-MEM-2")
@modes(Mode.LONG64)
def test_instruction_at_the_end_of_a_mapping(vm: VirtualMachine) -> None:
    """An instruction on the last bytes of the last page that is mapped is executed."""
    guest = vm.prepare_code("    hlt", mmio=[Mmio(DEVICE)])
    _set_directory(guest, 0, 0x83)
    _set_directory(guest, 1, 0)
    place = 0x20_0000 - 2
    guest.write(place, b"\x88\x0b")
    guest.registers.gpr.update({Gpr.RIP: place, Gpr.RBX: DEVICE, Gpr.RCX: 0x5A})
    guest.next_exit()
    guest.vcpu.assist_mem()
    check.equal(_rip(guest), 0x20_0000, "RIP")


@requirement("L-MEM-2")
@modes(Mode.REAL16)
def test_instruction_at_the_end_of_the_segment(vm: VirtualMachine) -> None:
    """In real mode an instruction below offset 0xFFFF is executed, however near it is."""
    base = base_of(vm.mode)
    guest = vm.prepare_code("    hlt", mmio=[Mmio(base + DEVICE)])
    guest.write(base + 0xFFF4, b"\x88\x0f\xf4")
    guest.registers.gpr.update({Gpr.RIP: 0xFFF4, Gpr.RBX: DEVICE, Gpr.RCX: 0x5A})
    guest.next_exit()
    guest.vcpu.assist_mem()
    check.equal(_rip(guest), 0xFFF6, "RIP")


@requirement("L-MEM-5")
@modes(Mode.PROT32)
def test_rip_has_32_bits(vm: VirtualMachine) -> None:
    """In 32-bit code the instruction after one that ends at 0xFFFFFFFF is at 0."""
    guest = vm.prepare_code("    hlt", mmio=[Mmio(DEVICE)])
    with HostMemory(PAGE_SIZE) as page:
        guest.machine.hva_map(page)
        guest.machine.gpa_map(page.hva, 0xFFFF_F000, PAGE_SIZE, Prot.READ | Prot.EXEC)
        page.data[-2:] = b"\x88\x0b"  # mov [ebx], cl
        guest.registers.gpr.update({Gpr.RIP: 0xFFFF_FFFE, Gpr.RBX: DEVICE, Gpr.RCX: 0x5A})
        _memory_exit(guest)
        guest.vcpu.assist_mem()
        check.equal(_rip(guest), 0, "RIP")


# ---- paging and rights --------------------------------------------------------------


def _set_directory(guest: PreparedGuest, entry: int, value: int) -> None:
    """Entry `entry` of the page directory: 2 MiB from `entry` * 2 MiB."""
    place = guest.image.linear("page_directory") + 8 * entry
    guest.write(place, value.to_bytes(8, "little"))


ALIAS = 0x40_0000
"""Linear address of a second view of RAM, with other rights."""


def _movs_to_alias(vm: VirtualMachine, flags: int) -> PreparedGuest:
    """A MOVSB from the device to OTHER by its alias, whose directory entry has `flags`."""
    guest = vm.prepare_code("    movsb\n    hlt", mmio=[Mmio(DEVICE, answer=0x77)])
    _set_directory(guest, ALIAS >> 21, flags)
    guest.registers.gpr.update({Gpr.RSI: DEVICE, Gpr.RDI: ALIAS + OTHER})
    return guest


@requirement("L-GM-1", "L-WALK-10")
@modes(Mode.LONG64, Mode.COMPAT32)
def test_movs_goes_through_the_page_tables(vm: VirtualMachine) -> None:
    """MOVS writes where the page tables lead, at the offset within a 2 MiB page."""
    run = _movs_to_alias(vm, 0x83).run()
    assert run.memory(OTHER, 1) == b"\x77"


@requirement("L-GM-1", "L-MEM-4")
@modes(Mode.LONG64, Mode.COMPAT32)
def test_movs_to_a_read_only_page_is_refused(vm: VirtualMachine) -> None:
    """With CR0.WP, MOVS to a page without write permission fails, and writes nothing."""
    guest = _movs_to_alias(vm, 0x81)
    guest.registers.cr[Cr.CR0] |= 1 << 16
    _memory_exit(guest)
    _refused(guest.vcpu)
    check.equal(guest.memory(OTHER, 1), b"\0", "what is there")


@requirement("L-GM-1", "L-WALK-6")
@modes(Mode.LONG64, Mode.COMPAT32)
def test_movs_to_a_read_only_page_without_wp(vm: VirtualMachine) -> None:
    """Without CR0.WP the supervisor writes to pages without write permission (SDM 3A 5.6)."""
    run = _movs_to_alias(vm, 0x81).run()
    assert run.memory(OTHER, 1) == b"\x77"


@requirement("L-GM-1", "L-WALK-6")
@modes(Mode.LONG64)
def test_movs_by_the_user_leaves_supervisor_pages_alone(vm: VirtualMachine) -> None:
    """At CPL 3, MOVS to a supervisor's page writes nothing."""
    guest = _movs_to_alias(vm, 0x83)
    _set_directory(guest, 0, 0xE7)
    for table in ("pml4", "page_directory_pointers"):
        place = guest.image.linear(table)
        entry = int.from_bytes(guest.memory(place, 8), "little") | 4
        guest.write(place, entry.to_bytes(8, "little"))
    for segment in (Segment.CS, Segment.SS, Segment.DS, Segment.ES):
        guest.registers.seg[segment].flags |= 3 << 13
        guest.registers.seg[segment].selector |= 3
    taken = guest.next_exit()
    if isinstance(taken, MemoryExit):
        try:
            guest.vcpu.assist_mem()
        except NvmmError as error:
            check.equal(error.errno, errno.ENODEV, "errno")
    check.equal(guest.memory(OTHER, 1), b"\0", "what is there")


@requirement("L-MEM-7", "L-GM-2")
@modes(Mode.LONG64, Mode.COMPAT32)
@pytest.mark.parametrize("access", ["load", "store"])
def test_operand_on_two_pages_far_apart(vm: VirtualMachine, access: str) -> None:
    """A MOV over the edge of two pages, whose frames are far apart, has a part on each."""
    first, second = 0x1000_0000, 0x2000_0000
    insn = {"load": "mov ecx, [{{ bx }}]", "store": "mov [{{ bx }}], ecx"}[access]
    devices = [
        Mmio(first + 0x1F_F000, answer=bytes(0xFFE) + b"\x11\x22"),
        Mmio(second, answer=b"\x33\x44"),
    ]
    guest = vm.prepare_code(f"    {insn}\n    hlt", mmio=devices)
    _set_directory(guest, ALIAS >> 21, first | 0x83)
    _set_directory(guest, (ALIAS >> 21) + 1, second | 0x83)
    guest.registers.gpr.update({Gpr.RBX: ALIAS + 0x1F_FFFE, Gpr.RCX: 0x88776655})
    run = guest.run()
    if access == "load":
        check.equal(run.registers.gpr[Gpr.RCX], 0x44332211, "ECX")
    else:
        written = [(one.gpa, one.data) for one in run.mmio]
        wanted = [(first + 0x1F_FFFE, b"\x55\x66"), (second, b"\x77\x88")]
        check.equal(written, wanted, "writes")


@requirement("L-GM-6", "L-MEM-10")
@modes(Mode.LONG64, Mode.COMPAT32)
def test_movs_to_two_pages_writes_both_or_none(vm: VirtualMachine) -> None:
    """A MOVS over the edge of a page to one that is not there writes nothing (SDM 3A 7.5)."""
    guest = vm.prepare_code("    movsd\n    hlt", mmio=[Mmio(DEVICE, answer=0x77)])
    _set_directory(guest, ALIAS >> 21, 0x83)
    _set_directory(guest, (ALIAS >> 21) + 1, 0)
    guest.registers.gpr.update({Gpr.RSI: DEVICE, Gpr.RDI: ALIAS + 0x1F_FFFE})
    _memory_exit(guest)
    _refused(guest.vcpu)
    check.equal(guest.memory(0x1F_FFFE, 2), bytes(2), "on the first page")


@requirement("L-WALK-6")
@modes(Mode.LONG64)
def test_movs_marks_the_page_as_written(vm: VirtualMachine) -> None:
    """What MOVS has written is on a page that is accessed and dirty (SDM 3A 5.8)."""
    guest = _movs_to_alias(vm, 0x83)
    run = guest.run()
    check.equal(run.memory(OTHER, 1), b"\x77", "what is there")
    entry = guest.memory(guest.image.linear("page_directory") + 8 * (ALIAS >> 21), 1)[0]
    check.equal(entry & 0x60, 0x60, "A and D")


@requirement("L-GM-7")
@modes(Mode.PROT32)
def test_linear_addresses_have_32_bits(vm: VirtualMachine) -> None:
    """Outside 64-bit mode the linear address wraps at 4 GiB."""
    guest = vm.prepare_code("    movsb\n    hlt", mmio=[Mmio(DEVICE)])
    guest.write(OTHER, b"\x66")
    guest.registers.seg[Segment.DS].base = 0xFFFF_0000
    guest.registers.gpr.update({Gpr.RSI: 0x1_0000 + OTHER, Gpr.RDI: DEVICE})
    run = guest.run()
    assert [(one.gpa, one.data) for one in run.mmio] == [(DEVICE, b"\x66")]


# ---- what follows the instruction ---------------------------------------------------


@requirement("L-MEM-5", "L-IO-18")
@modes(Mode.REAL16)
def test_single_step_over_a_store(vm: VirtualMachine) -> None:
    """With TF set, #DB comes after a store to a device, with RIP after it."""
    source = """
        mov     [bx], cl
    stepped:
        nop
        STAND_STILL
    handler:
        hlt
        jmp     handler
    """
    base = base_of(vm.mode)
    guest = vm.prepare_code(source, mmio=[Mmio(base + DEVICE)])
    vector = guest.symbol("handler") | base >> 4 << 16
    guest.write(4, vector.to_bytes(4, "little"))
    guest.registers.gpr.update({Gpr.RBX: DEVICE, Gpr.RFLAGS: 0x102})
    run = guest.run()
    frame = base + 0xFFF0 - 6
    check.equal(len(run.mmio), 1, "accesses")
    check.equal(run.rip, run.symbol("handler") + 1, "where it halts")
    told = int.from_bytes(run.memory(frame, 2), "little")
    check.equal(run.address(told), run.symbol("stepped"), "RIP that #DB tells")


@requirement("L-IO-18", "L-MEM-5")
@modes(Mode.REAL16, Mode.PROT32, Mode.LONG64)
def test_shadow_of_sti_ends_with_the_store(vm: VirtualMachine) -> None:
    """The interrupt shadow of STI is over when the store after it has been made."""
    guest = vm.prepare_code(
        "    sti\n    mov [{{ bx }}], cl\n    cli\n    hlt", mmio=[Mmio(base_of(vm.mode) + DEVICE)]
    )
    guest.registers.gpr[Gpr.RBX] = DEVICE
    _memory_exit(guest)
    guest.vcpu.assist_mem()
    assert not guest.state().intr.int_shadow


@requirement("L-MEM-6", "A-CB-2")
@modes(*EVERY)
def test_several_devices_keep_apart(vm: VirtualMachine) -> None:
    """Of two devices, each gets what is meant for it, at its own address."""
    base = base_of(vm.mode)
    other = Mmio(base + OTHER)
    bench = Bench(
        vm,
        "first:\n mov [{{ bx }}], cl\n1: hlt\nfirst_after: jmp 1b\n"
        "second:\n mov cl, [{{ bx }}]\n1: hlt\nsecond_after: jmp 1b",
        also=[other],
        code=True,
    )
    effect = bench.execute("first", {Gpr.RBX: OTHER + 8, Gpr.RCX: 0x61})
    check.equal(effect.accesses, (MmioAccess(base + OTHER + 8, True, b"\x61"),), "write")
    bench.put(8, 0x62, 1)
    effect = bench.execute("second", {Gpr.RBX: DEVICE + 8, Gpr.RCX: 0})
    check.equal(effect.accesses, (bench.reads(8, 0x62, 1),), "read")
    check.equal(effect.after[Gpr.RCX], 0x62, "CL")
