# SPDX-License-Identifier: BSD-2-Clause
"""The local APIC by the SDM, volume 3A, chapter 10: registers, priorities, pins, errors."""

from __future__ import annotations

import pytest
from apic_rig import ASSERT, EXTINT, INIT, LEVEL, MASKED, NMI, SMI, Cpu, Rig
from hypothesis import given
from hypothesis import strategies as st

from nvmmconf.board.apic_registers import DeliveryMode as Mode
from nvmmconf.board.apic_registers import Message, Register

LVTS = [0x320, 0x330, 0x340, 0x350, 0x360, 0x370]
VECTORS = st.integers(16, 255)


# ---- 10.4.7.1: power-up; 10.4.7.3: INIT ------------------------------------------------


def fresh(rig: Rig) -> dict[int, int]:
    """What 10.4.7.1 says of each register, the ID and the version aside."""
    zero = [*range(0x100, 0x280, 16), 0x80, 0x90, 0xA0, 0xD0, 0x280, 0x300, 0x310, 0x380, 0x390]
    return (
        dict.fromkeys([*zero, 0x3E0], 0)
        | {0xE0: 0xFFFFFFFF, 0xF0: 0xFF}
        | dict.fromkeys(LVTS, MASKED)
    )


def test_power_up() -> None:
    rig = Rig(2, enabled=False)
    for number, apic in enumerate(rig.apics):
        rig.apic = apic
        assert {offset: rig.read(offset) for offset in fresh(rig)} == fresh(rig)
        assert rig.read(0x20) == number << 24
        # 10.4.8: integrated APICs are 10H to 15H; bits 23:16 are the LVT entries less 1.
        assert rig.read(0x30) == 0x00050014
    # 10.4.4, figure 10-5
    assert [apic.base for apic in rig.apics] == [0xFEE00900, 0xFEE00800]
    assert [apic.tpr for apic in rig.apics] == [0, 0]


def disturb(rig: Rig) -> None:
    """Write to everything."""
    rig.write(0x80, 0x25)
    rig.write(0x20, 9 << 24)
    for offset in (0xD0, 0xE0, 0x310):
        rig.write(offset, 0x5 << 28)
    for offset in LVTS:
        rig.write(offset, 0x60)
    rig.write(0x3E0, 0xB)
    rig.write(0x380, 1000)
    rig.raise_fixed(0x70)
    rig.apic.acknowledge()
    rig.raise_fixed(0x71)
    rig.bus.send(Message(Mode.FIXED, 0x81, 0xFF, level_triggered=True))
    rig.write(0x10, 0)
    rig.write(0x280, 0)


def test_an_init_is_as_power_up_but_for_the_id() -> None:
    rig = Rig()
    disturb(rig)
    assert rig.cpu.intr
    rig.apic.base = 0xFED00900
    rig.bus.send(Message(Mode.INIT, 0, 9))
    assert rig.cpu.pulses == ["init"]
    assert {offset: rig.read(offset) for offset in fresh(rig)} == fresh(rig)
    assert rig.read(0x20) == 9 << 24
    assert rig.apic.base == 0xFED00900  # an MSR, which INIT keeps
    assert not rig.cpu.intr
    assert not rig.clock.armed


def test_a_reset_is_power_up() -> None:
    rig = Rig()
    disturb(rig)
    rig.apic.base = 0xFED00900
    rig.apic.reset()
    assert rig.apic.save() == Rig(enabled=False).apic.save()
    assert (rig.cpu.intr, rig.clock.armed) == (False, False)


# ---- 10.4.1: accesses; 10.5.3: reserved registers ------------------------------------------


@pytest.mark.parametrize(
    ("offset", "written", "kept"),
    [
        (0x20, 0xFFFFFFFF, 0xFF000000),
        (0x80, 0xFFFFFFFF, 0xFF),  # figure 10-18
        (0xD0, 0xFFFFFFFF, 0xFF000000),  # figure 10-13
        (0xE0, 0, 0x0FFFFFFF),  # figure 10-14
        (0xF0, 0xFFFFFFFF, 0x1FF),  # figure 10-23, no EOI-broadcast suppression
        (0x310, 0xFFFFFFFF, 0xFF000000),  # figure 10-12
        (0x300, 0xFFFFFFFF, 0x000CCFFF),  # figure 10-12; this mode sends nothing
        (0x320, 0xFFFFFFFF, 0x000300FF),  # figure 10-8
        (0x330, 0xFFFFFFFF, 0x000107FF),
        (0x340, 0xFFFFFFFF, 0x000107FF),
        (0x350, 0xFFFFFFFF, 0x0001A7FF),
        (0x360, 0xFFFFFFFF, 0x0001A7FF),
        (0x370, 0xFFFFFFFF, 0x000100FF),
        (0x380, 0xFFFFFFFF, 0xFFFFFFFF),
        (0x3E0, 0xFFFFFFFF, 0xB),  # figure 10-10
    ],
)
def test_the_bits_that_may_be_written(offset: int, written: int, kept: int) -> None:
    rig = Rig()
    rig.write(offset, written)
    assert rig.read(offset) == kept
    assert rig.errors() == 0


@pytest.mark.parametrize("offset", [0x30, 0x90, 0xA0, 0xC0, 0x100, 0x1F0, 0x270, 0x390])
def test_read_only_registers_stay(offset: int) -> None:
    rig = Rig()
    before = rig.read(offset)
    rig.write(offset, 0xFFFFFFFF)
    assert (rig.read(offset), rig.errors()) == (before, 0)


TABLE_10_1 = {
    *(0x20, 0x30, 0x80, 0x90, 0xA0, 0xB0, 0xC0, 0xD0, 0xE0, 0xF0, 0x280),
    *range(0x100, 0x280, 0x10),
    *(0x300, 0x310, *LVTS, 0x380, 0x390, 0x3E0),
}


@pytest.mark.parametrize("max_lvt", [3, 4, 5, 6])
def test_reserved_registers_are_errors_and_read_as_zero(max_lvt: int) -> None:
    """Bit 7 of the ESR; which LVT entries there are is the version's (10.4.8, 10.5.1)."""
    known = TABLE_10_1 - {3: {0x330, 0x340}, 4: {0x330}}.get(max_lvt, set())
    known |= {0x2F0} if max_lvt == 6 else set()
    rig = Rig(max_lvt=max_lvt)
    for offset in range(0, 0x1000, 16):
        value = rig.read(offset)
        assert rig.errors() == (0 if offset in known else 0x80), hex(offset)
        if offset not in known:
            assert value == 0
            rig.write(offset, 0)
            assert rig.errors() == 0x80
    assert rig.read(0x30) == max_lvt << 16 | 0x14


@given(offset=st.integers(0, 0xFFF), size=st.integers(1, 40))
def test_only_the_32_bits_at_a_boundary_are_accessed(offset: int, size: int) -> None:
    """10.4.1: the rest is undefined; it is zero and lost here."""
    size = min(size, 0x1000 - offset)
    rig = Rig()
    rig.write(0x380, 0x12345678)
    expected = bytearray(size)
    for register in range(0, 0x1000, 16):
        if offset <= register and register + 4 <= offset + size and register != 0x390:
            place = register - offset
            expected[place : place + 4] = rig.read(register).to_bytes(4, "little")
    found = bytearray(rig.apic.memory_read(offset, size))
    if offset <= 0x390 and offset + size >= 0x394:
        expected[0x390 - offset : 0x394 - offset] = (0x12345678).to_bytes(4, "little")
    assert found == expected


@pytest.mark.parametrize(
    ("offset", "data"),
    [(0x80, b"\x20"), (0x80, b"\x20\0"), (0x81, b"\x20\0\0\0"), (0x84, b"\x20\0\0\0")],
)
def test_other_writes_are_lost(offset: int, data: bytes) -> None:
    rig = Rig()
    rig.apic.memory_write(offset, data)
    assert (rig.read(0x80), rig.errors()) == (0, 0)


def test_a_write_of_64_bits_has_the_lower_32() -> None:
    rig = Rig()
    rig.apic.memory_write(0x80, b"\x20\0\0\0\xff\xff\xff\xff")
    assert rig.read(0x80) == 0x20


def test_an_id_for_each_lvt_count_that_exists() -> None:
    for max_lvt in (2, 7):
        with pytest.raises(ValueError, match=f"no local APIC has {max_lvt}"):
            Rig(max_lvt=max_lvt)


# ---- 10.8.3: priorities; 10.8.4: IRR, ISR; 10.8.5: EOI -------------------------------------


@given(raised=st.sets(VECTORS, max_size=8), priorities=st.lists(st.integers(0, 255), max_size=6))
def test_the_highest_class_above_the_processors_priority_is_taken(
    raised: set[int], priorities: list[int]
) -> None:
    """Against the formulas of 10.8.3.1 and the rule of 10.8.4, worked out from sets."""
    rig = Rig()
    irr, isr = set(raised), []
    for vector in raised:
        rig.raise_fixed(vector)
    for tpr in [*priorities, 0, 0]:
        rig.write(0x80, tpr)
        isrv = max(isr, default=0)
        if tpr >> 4 > isrv >> 4:
            ppr = tpr
        elif tpr >> 4 < isrv >> 4:
            ppr = isrv & 0xF0
        else:
            ppr = rig.read(0xA0)
            assert ppr in (tpr, tpr & 0xF0)  # model-specific
        assert rig.read(0xA0) == ppr
        able = [vector for vector in irr if vector >> 4 > ppr >> 4]
        assert rig.cpu.intr is bool(able)
        if able:
            assert rig.apic.acknowledge() == max(able)
            irr.remove(max(able))
            isr.append(max(able))
        assert (rig.bitmap(0x200), rig.bitmap(0x100)) == (irr, set(isr))
        assert rig.apic.tpr == tpr >> 4
    while isr:
        rig.write(0xB0, 0)
        isr.remove(max(isr))
        assert rig.bitmap(0x100) == set(isr)
    assert rig.ended == []  # edges


@given(tpr=st.integers(0, 255), isrv=VECTORS, irrv=VECTORS)
def test_arbitration_priority(tpr: int, isrv: int, irrv: int) -> None:
    """10.6.2.4, which reads AND for what it lists."""
    rig = Rig()
    rig.raise_fixed(isrv)
    rig.apic.acknowledge()
    rig.raise_fixed(irrv)
    if tpr >> 4 >= irrv >> 4 and tpr >> 4 > isrv >> 4:
        expected = tpr
    else:
        expected = max(tpr >> 4, isrv >> 4, irrv >> 4) << 4
    rig.write(0x80, tpr)
    assert rig.read(0x90) == expected


@given(cr8=st.integers(0, 15), before=st.integers(0, 255))
def test_cr8(cr8: int, before: int) -> None:
    """10.8.6.1: bits 7:4 take it, bits 3:0 are cleared."""
    rig = Rig()
    rig.write(0x80, before)
    assert rig.apic.tpr == before >> 4
    rig.apic.tpr = cr8
    assert (rig.apic.tpr, rig.read(0x80)) == (cr8, cr8 << 4)


def test_a_task_priority_that_is_lowered_lets_one_through() -> None:
    rig = Rig()
    rig.apic.tpr = 7
    rig.raise_fixed(0x7F)
    assert not rig.cpu.intr
    rig.apic.tpr = 6
    assert rig.cpu.intr


def test_an_eoi_lets_the_next_through_and_one_too_many_does_nothing() -> None:
    rig = Rig()
    for vector in (0x51, 0x52):
        rig.raise_fixed(vector)
    assert rig.apic.acknowledge() == 0x52
    assert not rig.cpu.intr  # the same class
    rig.write(0xB0, 0)
    assert rig.cpu.intr
    assert rig.apic.acknowledge() == 0x51
    for _ in range(2):
        rig.write(0xB0, 0)
    assert rig.bitmap(0x100) == set()
    assert rig.apic.acknowledge() is None


def test_one_more_of_a_vector_waits_while_one_is_in_service_and_a_third_is_merged() -> None:
    """10.8.4: at most two of a vector, one in the IRR and one in the ISR."""
    rig = Rig()
    for _ in range(3):
        rig.raise_fixed(0x40)
        rig.apic.acknowledge() if not rig.bitmap(0x100) else None
    assert (rig.bitmap(0x100), rig.bitmap(0x200)) == ({0x40}, {0x40})
    rig.write(0xB0, 0)
    assert rig.apic.acknowledge() == 0x40
    rig.write(0xB0, 0)
    assert not rig.cpu.intr


def test_the_trigger_mode_register_and_the_eoi_message() -> None:
    """10.8.4, 10.8.5: set for a level, cleared for an edge; told to the I/O APICs where set."""
    rig = Rig()
    for level in (True, False, True):
        rig.bus.send(Message(Mode.FIXED, 0x77, 0xFF, level_triggered=level))
        assert rig.bitmap(0x180) == ({0x77} if level else set())
        rig.apic.acknowledge()
        rig.write(0xB0, 0)
    assert rig.ended == [0x77, 0x77]


def test_the_spurious_vector() -> None:
    """10.9: the priority was raised between INTR and INTA; the ISR is as before."""
    rig = Rig()
    rig.write(0xF0, 0x1E7)
    rig.raise_fixed(0x45)
    assert rig.cpu.intr
    rig.apic.tpr = 4
    assert not rig.cpu.intr
    assert rig.apic.acknowledge() == 0xE7
    assert (rig.bitmap(0x100), rig.bitmap(0x200)) == (set(), {0x45})
    rig.apic.tpr = 0
    assert rig.apic.acknowledge() == 0x45


# ---- 10.5.3: errors -----------------------------------------------------------------------


def test_the_esr_shows_what_came_before_its_last_write() -> None:
    rig = Rig()
    rig.raise_fixed(0x05)
    assert rig.read(0x280) == 0
    rig.write(0x280, 0xFFFFFFFF)
    seen = rig.read(0x280)
    rig.write(0x3F0, 0)
    assert rig.read(0x280) == seen == 0x60
    rig.write(0x280, 0)
    assert rig.read(0x280) == 0x80
    rig.write(0x280, 0)
    assert rig.read(0x280) == 0


@given(vector=st.integers(0, 255))
def test_vectors_0_to_15_are_illegal_to_send_and_to_receive(vector: int) -> None:
    """10.5.2; and no IRR bit is ever set for one."""
    rig = Rig(2)
    rig.write(0x310, 1 << 24)
    rig.write(0x300, ASSERT | vector)
    sent = rig.errors()
    rig.bus.send(Message(Mode.FIXED, vector, 0))
    assert (sent, rig.errors()) == ((0x20, 0x40) if vector < 16 else (0, 0))
    assert rig.bitmap(0x200) == (set() if vector < 16 else {vector})
    rig.apic = rig.apics[1]
    assert rig.bitmap(0x200) == (set() if vector < 16 else {vector})


def test_an_error_interrupt_comes_once_until_the_esr_is_written() -> None:
    rig = Rig()
    rig.write(0x370, 0xFE)
    rig.write(0x10, 0)
    assert rig.apic.acknowledge() == 0xFE
    rig.write(0xB0, 0)
    rig.write(0x10, 0)
    assert not rig.cpu.intr
    assert rig.errors() == 0x80
    rig.write(0x10, 0)
    assert rig.cpu.intr


def test_a_masked_error_is_recorded_all_the_same() -> None:
    rig = Rig()
    rig.write(0x370, MASKED | 0xFE)
    rig.write(0x10, 0)
    assert (rig.cpu.intr, rig.errors()) == (False, 0x80)


def test_an_error_interrupt_with_an_illegal_vector_is_one_more_error() -> None:
    rig = Rig()
    rig.write(0x370, 0x0E)
    rig.write(0x10, 0)
    assert (rig.cpu.intr, rig.errors()) == (False, 0xC0)


# ---- 10.5.1: LINT0 and LINT1 -----------------------------------------------------------------


@pytest.mark.parametrize("pin", [0, 1])
@pytest.mark.parametrize(("mode", "pulse"), [(NMI, "nmi"), (SMI, "smi"), (INIT, "init")])
@pytest.mark.parametrize("trigger", [0, LEVEL])
def test_pulses_are_edges_whatever_the_trigger_mode(
    pin: int, mode: int, pulse: str, trigger: int
) -> None:
    rig = Rig()
    register = 0x350 + 16 * pin
    rig.write(register, MASKED | mode)
    rig.apic.set_lint(pin, True)
    rig.apic.set_lint(pin, False)
    assert rig.cpu.pulses == []
    rig.write(register, mode | trigger | 0x33)
    for level in (True, True, False, False):
        rig.apic.set_lint(pin, level)
    assert rig.cpu.pulses == [pulse]
    assert rig.cpu.intr is False
    if pulse == "init":
        assert rig.read(register) == MASKED


@pytest.mark.parametrize(("pin", "trigger"), [(0, 0), (1, 0), (1, LEVEL)])
def test_a_fixed_edge(pin: int, trigger: int) -> None:
    """LINT1 does not support level sensitive interrupts."""
    rig = Rig()
    rig.write(0x350 + 16 * pin, trigger | 0x44)
    rig.apic.set_lint(pin, True)
    assert rig.apic.acknowledge() == 0x44
    rig.write(0xB0, 0)
    rig.apic.set_lint(pin, True)
    assert (rig.cpu.intr, rig.bitmap(0x180)) == (False, set())
    rig.apic.set_lint(pin, False)
    rig.apic.set_lint(pin, True)
    assert rig.cpu.intr


def test_a_fixed_level_comes_again_after_eoi_while_it_is_asserted() -> None:
    """Remote IRR is set when it is accepted, and reset by the EOI."""
    rig = Rig()
    rig.write(0x350, LEVEL | 0x44)
    rig.apic.set_lint(0, True)
    for _ in range(3):
        assert rig.read(0x350) == LEVEL | 0x44 | 1 << 14
        assert rig.apic.acknowledge() == 0x44
        assert not rig.cpu.intr
        rig.write(0xB0, 0)
        assert rig.cpu.intr
    rig.apic.acknowledge()
    rig.apic.set_lint(0, False)
    rig.write(0xB0, 0)
    assert (rig.cpu.intr, rig.read(0x350)) == (False, LEVEL | 0x44)
    rig.write(0x350, MASKED | LEVEL | 0x44)
    rig.apic.set_lint(0, True)
    assert not rig.cpu.intr
    rig.write(0x350, LEVEL | 0x44)
    assert rig.cpu.intr


def test_remote_irr_is_read_only_and_means_nothing_for_an_edge() -> None:
    """Figure 10-8; 10.5.1: for fixed, level-triggered interrupts; undefined for others."""
    rig = Rig()
    rig.write(0x350, LEVEL | 0x44)
    rig.apic.set_lint(0, True)
    rig.write(0x350, LEVEL | 0x55)  # keeps it, so nothing new is taken
    assert rig.read(0x350) == LEVEL | 0x55 | 1 << 14
    assert rig.bitmap(0x200) == {0x44}
    rig.write(0x350, 0x55)
    assert rig.read(0x350) == 0x55
    rig.write(0x350, LEVEL | 0x55)
    assert rig.bitmap(0x200) == {0x44, 0x55}


def test_the_eoi_of_another_level_leaves_remote_irr() -> None:
    rig = Rig()
    rig.write(0x350, LEVEL | 0x44)
    rig.apic.set_lint(0, True)
    assert rig.apic.acknowledge() == 0x44
    rig.bus.send(Message(Mode.FIXED, 0x99, 0xFF, level_triggered=True))
    assert rig.apic.acknowledge() == 0x99
    rig.write(0xB0, 0)
    assert rig.read(0x350) == LEVEL | 0x44 | 1 << 14
    assert rig.bitmap(0x200) == set()  # not once more
    assert rig.ended == [0x99]


def test_extint_is_a_level_that_no_priority_stops_and_takes_no_place_in_the_isr() -> None:
    rig = Rig()
    rig.extint = [0x09, 0x08]
    rig.write(0x350, EXTINT)
    rig.apic.tpr = 15
    rig.apic.set_lint(0, True)
    assert rig.cpu.intr
    assert rig.apic.acknowledge() == 0x08
    assert rig.cpu.intr
    rig.write(0x350, MASKED | EXTINT)
    assert not rig.cpu.intr
    assert rig.apic.acknowledge() is None
    rig.write(0x350, EXTINT)
    assert rig.apic.acknowledge() == 0x09
    rig.apic.set_lint(0, False)
    assert not rig.cpu.intr
    assert (rig.bitmap(0x100), rig.bitmap(0x200)) == (set(), set())


def test_fixed_ones_are_taken_before_the_8259s() -> None:
    rig = Rig()
    rig.write(0x350, EXTINT)
    rig.apic.set_lint(0, True)
    rig.raise_fixed(0x30)
    told: list[bool] = []
    rig.cpu.interrupt = told.append  # type: ignore[method-assign]
    assert rig.apic.acknowledge() == 0x30
    # Who clears its request when it acknowledges has to hear that there is more.
    assert told == [True]
    assert rig.apic.acknowledge() == 0x08


def test_a_poll_tells_how_the_line_is() -> None:
    rig, told = Rig(), []
    rig.cpu.interrupt = told.append  # type: ignore[method-assign]
    rig.apic.poll()
    rig.raise_fixed(0x30)
    rig.apic.poll()
    assert told == [False, True, True]


def test_a_cpu_that_comes_late_is_told_how_the_line_is() -> None:
    rig, late = Rig(), Cpu()
    rig.raise_fixed(0x30)
    rig.apic.connect(late)
    assert late.intr
    rig.apic.acknowledge()
    assert not late.intr


def test_virtual_wire_mode() -> None:
    """MultiProcessor specification 1.4, 3.6.2.2."""
    rig = Rig(enabled=False)
    rig.apic.set_lint(0, True)
    assert not rig.cpu.intr
    rig.apic.virtual_wire()
    assert rig.apic.acknowledge() == 0x08
    rig.apic.set_lint(1, True)
    assert rig.cpu.pulses == ["nmi"]
    assert (rig.read(0x350) & 0x10700, rig.read(0x360) & 0x10700) == (EXTINT, NMI)


# ---- 10.4.7.2: disabled by software ------------------------------------------------------------


def test_software_disabled() -> None:
    rig = Rig()
    for offset in LVTS:
        rig.write(offset, 0x60)
    rig.apic.tpr = 15
    rig.raise_fixed(0x40)
    rig.write(0xF0, 0xFF)
    assert [rig.read(offset) for offset in LVTS] == [MASKED | 0x60] * 6
    for offset in LVTS:  # attempts to reset the mask bits are ignored
        rig.write(offset, 0x61)
    assert [rig.read(offset) for offset in LVTS] == [MASKED | 0x61] * 6
    rig.raise_fixed(0x50)
    assert rig.bitmap(0x200) == {0x40}  # held, and no more is taken
    for mode in (Mode.NMI, Mode.SMI, Mode.START_UP):
        rig.bus.send(Message(mode, 0x12, 0))
    assert rig.cpu.pulses == ["nmi", "smi", "start-up 0x12"]
    rig.apic.tpr = 0
    assert rig.apic.acknowledge() == 0x40
    rig.write(0xF0, 0x1FF)
    assert [rig.read(offset) for offset in LVTS] == [MASKED | 0x61] * 6


def test_it_still_issues_ipis() -> None:
    rig = Rig(2)
    rig.write(0xF0, 0xFF)
    rig.write(0x310, 1 << 24)
    rig.write(0x300, ASSERT | 0x40)
    assert [cpu.intr for cpu in rig.cpus] == [False, True]


# ---- 10.4.3, 10.4.4: IA32_APIC_BASE --------------------------------------------------------------


def test_hardware_disabled() -> None:
    rig = Rig(2)
    disturb(rig)
    rig.apic.base = 0xFEE00100
    assert (rig.apic.is_enabled, rig.apic.page, rig.apic.accepts_fixed) == (False, None, False)
    assert (rig.cpu.intr, rig.clock.armed) == (False, False)
    # As without an APIC: the pins are INTR and NMI, no message arrives.
    rig.apic.set_lint(0, True)
    assert rig.cpu.intr
    assert rig.apic.acknowledge() == 0x08
    rig.apic.set_lint(0, False)
    assert (rig.cpu.intr, rig.apic.acknowledge()) == (False, None)
    for level in (True, True, False, True):
        rig.apic.set_lint(1, level)
    assert rig.cpu.pulses == ["nmi", "nmi"]
    for mode in (Mode.FIXED, Mode.NMI, Mode.INIT):
        rig.bus.send(Message(mode, 0x40, 0xFF))
    assert rig.cpu.pulses == ["nmi", "nmi"]
    assert rig.cpus[1].pulses == ["nmi", "init"]
    rig.apic.base = 0xFEE00900
    assert {offset: rig.read(offset) for offset in fresh(rig)} == fresh(rig)


@given(value=st.integers(0, (1 << 64) - 1) | st.integers(0, 63).map(lambda bit: 1 << bit))
def test_reserved_bits_of_the_base(value: int) -> None:
    """Figure 10-5: bits 7:0, 9 and beyond MAXPHYADDR; bit 10 as there is no x2APIC."""
    rig = Rig()
    reserved = 0xFF | 1 << 9 | 1 << 10 | (1 << 64) - (1 << 36)
    assert rig.apic.is_valid_base(value) is (value & reserved == 0)
    if value & reserved:
        with pytest.raises(ValueError, match="reserved bits"):
            rig.apic.base = value
        assert rig.apic.base == 0xFEE00900
    else:
        rig.apic.base = value
        assert rig.apic.base == value
        assert rig.apic.page == (value & ~0xFFF if value & 1 << 11 else None)


# ---- saved and loaded ----------------------------------------------------------------------------


def test_what_was_saved_goes_on_elsewhere() -> None:
    rig, other = Rig(), Rig()
    disturb(rig)
    rig.write(0x320, 0x61)
    rig.clock.advance(300)
    rig.write(0x380, 1000)
    rig.clock.advance(400)
    rig.write(0xE0, 0)
    state = rig.apic.save()
    other.clock.advance(123456)
    other.apic.load(state)
    assert other.apic.save() == state
    assert other.cpu.intr is rig.cpu.intr
    for one in (rig, other):
        assert one.read(Register.CURRENT_COUNT) == 600
        one.clock.advance(599)
        assert 0x61 not in one.bitmap(0x200)
        one.clock.advance(1)
        assert 0x61 in one.bitmap(0x200)
    assert {o: rig.read(o) for o in fresh(rig)} == {o: other.read(o) for o in fresh(rig)}


def test_the_pins_and_what_the_esr_has_armed_are_saved() -> None:
    rig, other = Rig(), Rig()
    rig.write(0x350, EXTINT)
    rig.write(0x370, 0x70)
    rig.apic.set_lint(0, True)
    rig.apic.set_lint(1, True)
    rig.write(0x10, 0)
    state = rig.apic.save()
    other.apic.load(state)
    other.write(0x360, NMI)
    other.apic.set_lint(1, True)  # no edge
    assert other.cpu.pulses == []
    assert other.cpu.intr
    assert other.apic.acknowledge() == 0x70
    assert other.apic.acknowledge() == 0x08
    other.write(0xB0, 0)
    other.write(0x10, 0)  # one more error, no more interrupt
    assert other.bitmap(0x200) == set()


def test_a_reset_leaves_the_pins_as_they_are_driven() -> None:
    rig = Rig()
    rig.apic.set_lint(0, True)
    rig.apic.reset()
    rig.apic.virtual_wire()
    assert rig.cpu.intr
