# SPDX-License-Identifier: BSD-2-Clause
"""Sections 3 and 4: the register file, to and from kernel state (A-REG).

`image` below writes `struct nvmm_x64_state` byte by byte from the
specification's words and offsets, without the code under test.
"""

from __future__ import annotations

import copy
import errno
import logging
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lookalike import LookAlike

from nvmmconf.abi import Cr, Dr, Gpr, Libnvmm, Msr, Segment, StateFlag, ffi
from nvmmconf.accel import FpuRegisters, Registers, SegmentRegister, Stop
from nvmmconf.accel.registers import get_registers, set_registers
from nvmmconf.nvmm import Machine, Vcpu, init

MakeRig = Callable[..., Any]

# No time limits: the machine may be busy.
EXAMPLES = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])

U16 = st.integers(0, 0xFFFF)
U32 = st.integers(0, 2**32 - 1)
U64 = st.integers(0, 2**64 - 1)

# Type, S, DPL, P and AVL, L, D/B, G (A-REG-3): every bit that the word may hold.
FLAGS = st.integers(0, 0xFFFFFFFF).map(lambda word: word & 0x00F0FF00)


def chunks(count: int, size: int) -> st.SearchStrategy[list[bytes]]:
    """`count` byte strings of `size`; cut from one, which is drawn faster."""
    total = count * size
    return st.binary(min_size=total, max_size=total).map(
        lambda data: [data[start : start + size] for start in range(0, total, size)]
    )


SEGMENTS = st.builds(SegmentRegister, U16, U64, U32, FLAGS)
FPUS = st.builds(
    FpuRegisters,
    control=U16,
    status=U16.map(lambda word: word & ~0x3800),
    top=st.integers(0, 7),
    empty=st.lists(st.booleans(), min_size=8, max_size=8),
    opcode=st.integers(0, 0x7FF),
    ip=U64,
    dp=U64,
    mxcsr=U32,
    st=chunks(8, 10),
    xmm=chunks(16, 16).map(lambda all_: [int.from_bytes(one, "big") for one in all_]),
)


def files(*names: Any) -> st.SearchStrategy[dict[Any, int]]:
    return st.fixed_dictionaries(dict.fromkeys(names, U64))


REGISTERS = st.builds(
    Registers,
    gpr=files(*Gpr),
    seg=st.fixed_dictionaries(dict.fromkeys(Segment, SEGMENTS)),
    cr=files(*Cr).map(lambda values: values | {Cr.CR8: 0}),  # CR8 is not used (A-REG-4)
    dr=files(*Dr),
    msr=files(*Msr),
    fpu=FPUS,
)
TPR = st.integers(0, 15)

SEGMENT_ORDER = ("ES", "CS", "SS", "DS", "FS", "GS", "GDT", "IDT", "LDT", "TR")
GPR_ORDER = (
    *("RAX", "RCX", "RDX", "RBX", "RSP", "RBP", "RSI", "RDI"),
    *(f"R{number}" for number in range(8, 16)),
    *("RIP", "RFLAGS"),
)
DR_ORDER = ("DR0", "DR1", "DR2", "DR3", "DR6", "DR7")
MSR_ORDER = (
    *("EFER", "STAR", "LSTAR", "CSTAR", "SFMASK", "KERNELGSBASE"),
    *("SYSENTER_CS", "SYSENTER_ESP", "SYSENTER_EIP", "PAT", "TSC"),
)


def image(registers: Registers, tpr: int) -> bytes:
    """The 1008 bytes of section 3, INTR zero."""
    out = bytearray(1008)
    for index, name in enumerate(SEGMENT_ORDER):
        segment = registers.seg[Segment[name]]
        # Attributes: type 0-3, s 4, dpl 5-6, p 7 are the word's bits 8-15 moved down by 8;
        # avl 8, l 9, def 10, g 11 are its bits 20-23 moved down by 12.
        attributes = segment.flags >> 8 & 0xFF | segment.flags >> 12 & 0xF00
        struct.pack_into(
            "<HHIQ", out, 16 * index, segment.selector, attributes, segment.limit, segment.base
        )
    struct.pack_into("<18Q", out, 160, *(registers.gpr[Gpr[name]] for name in GPR_ORDER))
    cr = registers.cr
    struct.pack_into("<6Q", out, 304, *(cr[Cr[f"CR{n}"]] for n in (0, 2, 3, 4)), tpr, cr[Cr.XCR0])
    struct.pack_into("<6Q", out, 352, *(registers.dr[Dr[name]] for name in DR_ORDER))
    struct.pack_into("<11Q", out, 400, *(registers.msr[Msr[name]] for name in MSR_ORDER))
    fpu = registers.fpu
    tags = int("".join("0" if empty else "1" for empty in reversed(fpu.empty)), 2)
    head = (fpu.control, fpu.status + fpu.top * 2048, tags, fpu.opcode, fpu.ip, fpu.dp)
    struct.pack_into("<HHBxHQQII", out, 496, *head, fpu.mxcsr, 0x0000FFFF)
    for index, value in enumerate(fpu.st):
        out[528 + 16 * index : 538 + 16 * index] = value
    for index, number in enumerate(fpu.xmm):
        struct.pack_into("<QQ", out, 656 + 16 * index, number % 2**64, number >> 64)
    assert len(out) == 1008
    return bytes(out)


@pytest.fixture(scope="module")
def vcpu(bundled: Libnvmm) -> Iterator[Vcpu]:
    """One for all examples; every one of them overwrites all of it."""
    init(bundled)
    with Machine(bundled) as machine:
        yield machine.create_vcpu(0)


def wipe(vcpu: Vcpu, value: int) -> None:
    size = ffi.sizeof("struct nvmm_x64_state")
    ffi.memmove(vcpu.state, bytes([value]) * size, size)


def raw(vcpu: Vcpu) -> bytes:
    return bytes(ffi.buffer(vcpu.state, 1008))


@EXAMPLES
@given(registers=REGISTERS, tpr=TPR)
def test_a_reg_2_to_7_every_byte_of_the_state(vcpu: Vcpu, registers: Registers, tpr: int) -> None:
    wipe(vcpu, 0)
    set_registers(vcpu, registers, tpr)
    assert raw(vcpu) == image(registers, tpr)


@EXAMPLES
@given(registers=REGISTERS, tpr=TPR)
def test_a_reg_10_every_byte_comes_back(vcpu: Vcpu, registers: Registers, tpr: int) -> None:
    """From an image made here, not from one that set_registers made."""
    ffi.memmove(vcpu.state, image(registers, tpr), 1008)
    vcpu.setstate(StateFlag.ALL)  # all cached, so that getstate leaves it
    found = Registers()
    assert get_registers(vcpu, found) == tpr
    assert found == registers


@EXAMPLES
@given(registers=REGISTERS, tpr=TPR)
def test_a_reg_13_set_then_get_changes_nothing(vcpu: Vcpu, registers: Registers, tpr: int) -> None:
    wipe(vcpu, 0xA5)
    before = copy.deepcopy(registers)
    set_registers(vcpu, registers, tpr)
    found = Registers()
    assert get_registers(vcpu, found) == tpr
    assert found == before == registers


@EXAMPLES
@given(registers=REGISTERS, tpr=TPR)
def test_set_registers_leaves_no_old_bit_in_what_it_writes(
    vcpu: Vcpu, registers: Registers, tpr: int
) -> None:
    """Whatever the page held before; reserved bits and INTR are not the accelerator's."""
    wipe(vcpu, 0xFF)
    set_registers(vcpu, registers, tpr)
    found, expected = bytearray(raw(vcpu)), bytearray(image(registers, tpr))
    for index in range(10):
        found[16 * index + 3] &= 0x0F  # the four reserved attribute bits
    for start, end in ((488, 496), (912, 1008), *((538 + 16 * n, 544 + 16 * n) for n in range(8))):
        found[start:end] = expected[start:end]
    assert found == expected


@pytest.mark.parametrize("top", range(8))
def test_a_reg_6_and_10_top_of_stack_and_tags(vcpu: Vcpu, top: int) -> None:
    """In plain numbers: bits 11-13 of the status word; a set bit is a register in use."""
    registers = Registers()
    registers.fpu.status = 0xC7FF
    registers.fpu.top = top
    registers.fpu.empty = [True, False, True, True, False, True, True, True]
    set_registers(vcpu, registers, 0)
    assert vcpu.state.fpu.fx_sw == 0xC7FF | top << 11
    assert vcpu.state.fpu.fx_tw == 0b00010010
    assert vcpu.state.fpu.fx_zero == 0
    assert vcpu.state.fpu.fx_mxcsr_mask == 0xFFFF
    found = Registers()
    get_registers(vcpu, found)
    assert (found.fpu.status, found.fpu.top) == (0xC7FF, top)
    assert found.fpu.empty == registers.fpu.empty


def test_a_reg_6_a_stray_top_in_the_status_word_does_not_count(vcpu: Vcpu) -> None:
    registers = Registers()
    registers.fpu.status = 0x3800
    registers.fpu.top = 2
    set_registers(vcpu, registers, 0)
    assert vcpu.state.fpu.fx_sw == 2 << 11


def test_a_reg_4_cr8_is_the_tpr_not_the_control_register(vcpu: Vcpu) -> None:
    registers = Registers()
    registers.cr[Cr.CR8] = 3
    set_registers(vcpu, registers, 9)
    assert vcpu.state.crs[Cr.CR8] == 9
    assert get_registers(vcpu, registers) == 9
    assert registers.cr[Cr.CR8] == 3


def test_a_reg_13_what_a_processor_may_hold_survives_a_run(rig: MakeRig) -> None:
    """Set, enter the guest for one HLT, get: only RIP and the TSC have moved."""

    @EXAMPLES
    @given(
        gprs=st.fixed_dictionaries(dict.fromkeys([Gpr(n) for n in range(16)], U64)),
        fpu=FPUS,
        addresses=st.lists(U64, min_size=4, max_size=4),
        star=U64,
    )
    def check(gprs: dict[Gpr, int], fpu: FpuRegisters, addresses: list[int], star: int) -> None:
        registers = one.vcpu.registers
        registers.gpr |= gprs | {Gpr.RIP: 0, Gpr.RFLAGS: 0x246}
        fpu.mxcsr &= 0xFFBF
        registers.fpu = fpu
        registers.dr |= dict(zip((Dr.DR0, Dr.DR1, Dr.DR2, Dr.DR3), addresses, strict=True))
        registers.msr[Msr.STAR] = star
        one.vcpu.dirty = True
        before = copy.deepcopy(registers)
        assert one.accelerator.resume(one.vcpu).reason is Stop.HALTED
        after = one.vcpu.registers
        before.gpr[Gpr.RIP] = 1
        before.msr[Msr.TSC] = after.msr[Msr.TSC]
        assert after == before

    one = rig("f4")
    check()


def test_a_reg_8_one_setstate_of_all_but_intr(rig: MakeRig, looks: LookAlike) -> None:
    one = rig(library=looks.library)
    looks.forget()
    one.vcpu.push()
    assert looks.calls == ["vcpu_setstate 0x5f"]


def test_a_reg_8_a_failure_is_reported_and_does_not_stop_the_vcpu(
    rig: MakeRig, looks: LookAlike, caplog: pytest.LogCaptureFixture
) -> None:
    one = rig(library=looks.library)
    looks.fail("vcpu_setstate 0x5f", errno.EIO)
    one.vcpu.push()
    looks.fail("", 0)
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert "nvmm_vcpu_setstate(" in record.getMessage()
    assert "EIO" in record.getMessage()
    assert not one.vcpu.dirty
    assert one.control.outcome is None


def test_a_reg_9_one_getstate_of_the_same(rig: MakeRig, looks: LookAlike) -> None:
    one = rig(library=looks.library)
    one.vcpu.push()
    looks.forget()
    one.vcpu.synchronize()
    assert looks.calls == ["vcpu_getstate 0x5f"]


def test_a_reg_9_a_failure_is_reported(
    rig: MakeRig, looks: LookAlike, caplog: pytest.LogCaptureFixture
) -> None:
    """The registers that could not be fetched do not count as newer."""
    one = rig(library=looks.library)
    one.vcpu.push()
    before = copy.deepcopy(one.vcpu.registers)
    looks.fail("vcpu_getstate", errno.EIO)
    one.vcpu.synchronize()
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert "nvmm_vcpu_getstate(" in record.getMessage()
    assert "EIO" in record.getMessage()
    assert one.vcpu.registers == before
    assert not one.vcpu.dirty


@pytest.mark.parametrize("with_apic", [True, False])
def test_a_reg_11_another_cr8_goes_to_the_copy_and_the_apic(
    rig: MakeRig, apic: Any, with_apic: bool
) -> None:
    one = rig(apic=apic if with_apic else None)
    apic.tpr = one.vcpu.tpr = 3
    one.vcpu.push()
    one.vcpu.vcpu.state.crs[Cr.CR8] = 7
    one.vcpu.synchronize()
    assert one.vcpu.tpr == 7
    assert apic.tpr == (7 if with_apic else 3)


def test_a_reg_11_the_same_cr8_leaves_the_apic_alone(rig: MakeRig, apic: Any) -> None:
    one = rig(apic=apic)
    one.vcpu.tpr = 3
    one.vcpu.push()
    apic.tpr = 5  # the board's own change, which only the next entry may take over
    one.vcpu.synchronize()
    assert (one.vcpu.tpr, apic.tpr) == (3, 5)


def test_a_reg_12_the_interrupt_flag_is_of_the_fetched_rflags(rig: MakeRig) -> None:
    """All that is derived from the registers here is computed when it is asked for."""
    one = rig("fb f4")  # sti; hlt
    assert not one.vcpu.registers.interrupts_enabled
    one.run()
    assert one.vcpu.registers.interrupts_enabled
    assert one.vcpu.registers.rip == 2


def test_a_reg_1_its_own_thread(rig: MakeRig) -> None:
    one = rig("e6 e9 f4")  # out 0xe9,al
    seen: list[bool] = []

    class Device:
        def port_read(self, offset: int, size: int) -> int:
            return 0

        def port_write(self, offset: int, size: int, value: int) -> None:
            seen.append(one.vcpu.on_own_thread)
            other = threading.Thread(target=lambda: seen.append(one.vcpu.on_own_thread))
            other.start()
            other.join()

    one.put(0, "e6 77 f4")
    one.pc.ports.claim(0x77, 1, Device())
    one.run()
    assert seen == [True, False]
    assert not one.vcpu.on_own_thread


def test_segments_as_cases_write_them() -> None:
    """The two short forms, against SDM 3A 3.4.5."""
    assert SegmentRegister.code(8, long=True).flags == 0xA09B00
    assert SegmentRegister.code(0xF000, 0xFFFF0000) == SegmentRegister(
        0xF000, 0xFFFF0000, 0xFFFF, 0x9B00
    )
    assert SegmentRegister.data(16, limit=0xFFFFFFFF).flags == 0xC09300
    assert SegmentRegister.data(0) == SegmentRegister(0, 0, 0xFFFF, 0x9300)


def test_the_arrays_of_segments_do_not_share_their_default() -> None:
    one, two = Registers(), Registers()
    one.seg[Segment.CS].base = 1
    one.fpu.xmm[0] = 1
    assert two == Registers()


@pytest.mark.parametrize("name", SEGMENT_ORDER)
def test_a_reg_3_each_attribute_bit_of_each_segment(vcpu: Vcpu, name: str) -> None:
    """From SDM 3A 3.4.5's second doubleword to `struct nvmm_x64_state_seg`, bit by bit."""
    # Bit in the flags word -> bit of the attribute field (type 4, s, dpl 2, p, avl, l, def, g).
    moved = {8: 0, 9: 1, 10: 2, 11: 3, 12: 4, 13: 5, 14: 6, 15: 7, 20: 8, 21: 9, 22: 10, 23: 11}
    index = SEGMENT_ORDER.index(name)
    for bit in range(32):
        registers = Registers()
        for register in registers.seg.values():
            register.flags = 0
        registers.seg[Segment[name]] = SegmentRegister(0x1234, 0x11_2233_4455, 0x9ABCDEF0, 1 << bit)
        wipe(vcpu, 0)
        set_registers(vcpu, registers, 0)
        found = struct.unpack_from("<HHIQ", raw(vcpu), 16 * index)
        attributes = 1 << moved[bit] if bit in moved else 0
        assert found == (0x1234, attributes, 0x9ABCDEF0, 0x11_2233_4455), bit
        for other in range(10):
            if other != index:
                assert struct.unpack_from("<H", raw(vcpu), 16 * other + 2) == (0,)


def test_a_reg_3_the_guest_finds_what_was_set(rig: MakeRig) -> None:
    """SLDT, STR, SGDT and SIDT in protected mode, and the bases by what is read through them."""
    # sldt bx; str cx; sgdt [0x100]; sidt [0x108]; mov al,[es:0]; mov ah,[fs:0]; hlt
    one = rig("0f 00 c3 0f 00 c9 0f 01 06 00 01 0f 01 0e 08 01 26 a0 00 00 64 8a 26 00 00 f4")
    registers = one.vcpu.registers
    registers.cr[Cr.CR0] = 0x60000011
    registers.seg[Segment.CS] = SegmentRegister.code(8)
    registers.seg[Segment.LDT] = SegmentRegister(0x28, 0, 0xFFFF, 0x8200)
    registers.seg[Segment.TR] = SegmentRegister(0x30, 0, 0x67, 0x8B00)
    registers.seg[Segment.GDT] = SegmentRegister(0, 0x1000, 0x57, 0)
    registers.seg[Segment.IDT] = SegmentRegister(0, 0x12345678, 0x7FF, 0)
    registers.seg[Segment.ES] = SegmentRegister.data(16, 0x2000)
    registers.seg[Segment.FS] = SegmentRegister.data(24, 0x2001)
    one.put(0x2000, "5a a5")
    assert one.run().reason is Stop.HALTED
    assert (one.gpr(Gpr.RBX) & 0xFFFF, one.gpr(Gpr.RCX) & 0xFFFF) == (0x28, 0x30)
    assert one.gpr(Gpr.RAX) & 0xFFFF == 0xA55A
    limit, base = struct.unpack_from("<HI", one.ram.data, 0x100)
    assert (limit, base & 0xFFFFFF) == (0x57, 0x1000)  # a 16-bit SGDT may store 24 bits
    limit, base = struct.unpack_from("<HI", one.ram.data, 0x108)
    assert (limit, base & 0xFFFFFF) == (0x7FF, 0x345678)


def test_a_reg_5_the_guest_finds_the_debug_registers(rig: MakeRig) -> None:
    """MOV from DR0 to DR3, DR6 and DR7, in a guest; DR7 with nothing armed."""
    code = ""
    for place, dr in enumerate((0, 1, 2, 3, 6, 7)):
        code += f"0f 21 {0xC0 | dr << 3:02x} 66 a3 {4 * place:02x} 20 "  # mov eax,drN; mov [],eax
    one = rig(code + "f4")
    values = {
        Dr.DR0: 0x11111111,
        Dr.DR1: 0x22222222,
        Dr.DR2: 0x33333333,
        Dr.DR3: 0x44444444,
        Dr.DR6: 0xFFFF0FF1,
        Dr.DR7: 0x00000700,
    }
    one.vcpu.registers.dr |= values
    assert one.run().reason is Stop.HALTED
    assert struct.unpack_from("<6I", one.ram.data, 0x2000) == tuple(values.values())
    assert {dr: one.vcpu.registers.dr[dr] for dr in values} == values


def test_a_reg_7_the_guest_finds_the_msrs(rig: MakeRig) -> None:
    """RDMSR of each, by its number in SDM 4 and APM 2 appendix A."""
    numbers = {
        Msr.STAR: 0xC0000081,
        Msr.LSTAR: 0xC0000082,
        Msr.CSTAR: 0xC0000083,
        Msr.SFMASK: 0xC0000084,
        Msr.KERNELGSBASE: 0xC0000102,
        Msr.SYSENTER_CS: 0x174,
        Msr.SYSENTER_ESP: 0x175,
        Msr.SYSENTER_EIP: 0x176,
        Msr.PAT: 0x277,
        Msr.EFER: 0xC0000080,
        Msr.TSC: 0x10,
    }
    code = ""
    for place, number in enumerate(numbers.values()):  # mov ecx,n; rdmsr; mov [],eax; mov [],edx
        code += f"66 b9 {number.to_bytes(4, 'little').hex()} 0f 32 "
        code += f"66 a3 {8 * place:02x} 20 66 89 16 {8 * place + 4:02x} 20 "
    one = rig(code + "f4")
    values = {msr: 0x1000 * (place + 1) for place, msr in enumerate(numbers)}
    values |= {
        Msr.STAR: 0x0023001000000000,
        Msr.SFMASK: 0x00047700,
        Msr.PAT: 0x0007040600070401,
        Msr.EFER: 0x1,
        Msr.TSC: 0x7_0000_0000_0000,
    }
    one.vcpu.registers.msr |= values
    assert one.run().reason is Stop.HALTED
    found = dict(zip(numbers, struct.unpack_from("<11Q", one.ram.data, 0x2000), strict=True))
    assert found.pop(Msr.TSC) >= values.pop(Msr.TSC)
    assert found == values
