# SPDX-License-Identifier: BSD-2-Clause
"""Messages between local APICs, SDM 3A 10.6: who gets what."""

from __future__ import annotations

import pytest
from apic_rig import ASSERT, INIT, LEVEL, NMI, SMI, START_UP, Rig
from hypothesis import given
from hypothesis import strategies as st

from nvmmconf.board.apic_registers import DeliveryMode, Message

LOGICAL = 1 << 11
LOWEST = 1 << 8
SELF, ALL, OTHERS = (1 << 18, 2 << 18, 3 << 18)
VECTOR = 0x60


def send(rig: Rig, low: int, destination: int = 0) -> None:
    rig.write(0x310, destination << 24)
    rig.write(0x300, low)


def got(rig: Rig) -> list[int]:
    """The numbers of the CPUs that have it; takes it."""
    found = []
    for number, (apic, cpu) in enumerate(zip(rig.apics, rig.cpus, strict=True)):
        if cpu.intr:
            assert apic.acknowledge() == VECTOR
            apic.write_register(0xB0, 0)
            found.append(number)
    return found


@pytest.mark.parametrize(
    ("destination", "reached"), [(0, [0]), (2, [2]), (3, []), (0xFF, [0, 1, 2]), (0x12, [])]
)
def test_physical_destinations(destination: int, reached: list[int]) -> None:
    """10.6.2.1: an ID, or FFH for everybody."""
    rig = Rig(3)
    send(rig, ASSERT | VECTOR, destination)
    assert got(rig) == reached


@given(ldrs=st.lists(st.integers(0, 255), min_size=3, max_size=3), destination=st.integers(0, 255))
def test_logical_destinations_flat(ldrs: list[int], destination: int) -> None:
    """10.6.2.2: any bit in common with the logical ID."""
    rig = Rig(3)
    for apic, ldr in zip(rig.apics, ldrs, strict=True):
        apic.write_register(0xD0, ldr << 24)
    send(rig, ASSERT | LOGICAL | VECTOR, destination)
    common = [n for n, ldr in enumerate(ldrs) if ldr & destination]
    assert got(rig) == (common if destination != 0xFF else [0, 1, 2])


@given(ldrs=st.lists(st.integers(0, 255), min_size=3, max_size=3), destination=st.integers(0, 255))
def test_logical_destinations_cluster(ldrs: list[int], destination: int) -> None:
    """10.6.2.2: the cluster is equal, and any of the four members' bits in common."""
    rig = Rig(3)
    for apic, ldr in zip(rig.apics, ldrs, strict=True):
        apic.write_register(0xD0, ldr << 24)
        apic.write_register(0xE0, 0x0FFFFFFF)
    send(rig, ASSERT | LOGICAL | VECTOR, destination)
    cluster, members = destination >> 4, destination & 15
    meant = [n for n, ldr in enumerate(ldrs) if ldr >> 4 == cluster and ldr & 15 & members]
    assert got(rig) == (meant if destination != 0xFF else [0, 1, 2])


@pytest.mark.parametrize(
    ("shorthand", "reached"), [(SELF, [1]), (ALL, [0, 1, 2]), (OTHERS, [0, 2])]
)
@pytest.mark.parametrize("logical", [0, LOGICAL])
def test_shorthands_ignore_the_destination(
    shorthand: int, reached: list[int], logical: int
) -> None:
    rig = Rig(3)
    rig.apic = rig.apics[1]
    send(rig, shorthand | logical | ASSERT | VECTOR, 0)
    assert got(rig) == reached


@pytest.mark.parametrize(
    ("low", "pulse"),
    [
        (ASSERT | NMI | 0x99, "nmi"),
        (ASSERT | SMI, "smi"),
        (ASSERT | INIT, "init"),
        (ASSERT | LEVEL | INIT, "init"),
        (ASSERT | START_UP | 0x9A, "start-up 0x9a"),
    ],
)
def test_what_goes_past_the_irr(low: int, pulse: str) -> None:
    rig = Rig(3)
    send(rig, OTHERS | low)
    assert [cpu.pulses for cpu in rig.cpus] == [[], [pulse], [pulse]]
    assert not any(cpu.intr for cpu in rig.cpus)
    assert rig.errors() == 0


def test_the_init_level_deassert_resets_nothing() -> None:
    """10.6.1: it only sets arbitration IDs, which newer processors have not."""
    rig = Rig(2)
    send(rig, ALL | LEVEL | INIT)
    assert [cpu.pulses for cpu in rig.cpus] == [[], []]
    assert [apic.read_register(0xF0) for apic in rig.apics] == [0x1FF, 0x1FF]


@pytest.mark.parametrize("mode", [3 << 8, 7 << 8])
def test_modes_that_an_icr_has_not_send_nothing(mode: int) -> None:
    rig = Rig(2)
    rig.extint = []
    send(rig, ALL | ASSERT | mode | VECTOR)
    assert [(cpu.pulses, cpu.intr) for cpu in rig.cpus] == [([], False)] * 2


def test_ipis_are_edges() -> None:
    """10.6.1: the trigger mode is for the INIT de-assert alone."""
    rig = Rig()
    send(rig, ALL | ASSERT | LEVEL | VECTOR)
    assert rig.bitmap(0x200) == {VECTOR}
    assert rig.bitmap(0x180) == set()


def test_an_init_takes_away_what_waits_at_its_target_only() -> None:
    rig = Rig(2)
    send(rig, ALL | ASSERT | VECTOR)
    send(rig, ASSERT | INIT, 1)
    assert [cpu.intr for cpu in rig.cpus] == [True, False]
    assert rig.apics[1].read_register(0xF0) == 0xFF


@given(priorities=st.lists(st.integers(0, 255), min_size=4, max_size=4), data=st.data())
def test_the_lowest_priority_is_one_of_those_that_are_lowest(
    priorities: list[int], data: st.DataObject
) -> None:
    """10.6.2.4: one of the specified destinations with the lowest priority gets it, no other."""
    rig = Rig(4)
    meant = data.draw(st.sets(st.integers(0, 3)))
    disabled = data.draw(st.sets(st.integers(0, 3)))
    for number, apic in enumerate(rig.apics):
        apic.write_register(0xD0, 1 << 24 + number)
        apic.write_register(0x80, priorities[number])
        if number in disabled:
            apic.write_register(0xF0, 0xFF)
    send(rig, ASSERT | LOGICAL | LOWEST | VECTOR, sum(1 << n for n in meant))
    for apic in rig.apics:
        apic.write_register(0x80, 0)
    able = meant - disabled
    if not able:
        assert got(rig) == []
    else:
        (one,) = got(rig)
        assert one in able
        assert priorities[one] == min(priorities[n] for n in able)


def test_an_interrupt_in_service_raises_the_priority() -> None:
    rig = Rig(2)
    rig.raise_fixed(0x50)
    rig.apic.acknowledge()
    for _ in range(2):
        send(rig, ALL | ASSERT | LOWEST | VECTOR)
        assert [cpu.intr for cpu in rig.cpus] == [False, True]
        assert got(rig) == [1]


def test_a_message_from_elsewhere_reaches_whom_it_names() -> None:
    rig = Rig(2)
    rig.bus.send(Message(DeliveryMode.FIXED, VECTOR, 1))
    assert got(rig) == [1]
