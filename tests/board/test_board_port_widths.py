# SPDX-License-Identifier: BSD-2-Clause
"""The port bus: narrow devices, accesses across borders, releasing."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nvmmconf.board import PortSpace
from nvmmconf.board.irq import fan_out, unconnected


class Bytes:
    """A device of byte registers."""

    max_size = 1

    def __init__(self, content: bytes) -> None:
        self.content = bytearray(content)
        self.seen: list[tuple[int, int]] = []

    def port_read(self, offset: int, size: int) -> int:
        self.seen.append((offset, size))
        return int.from_bytes(self.content[offset : offset + size], "little")

    def port_write(self, offset: int, size: int, value: int) -> None:
        self.seen.append((offset, size))
        self.content[offset : offset + size] = value.to_bytes(size, "little")


class Words(Bytes):
    """A device that takes 16 bits at once."""

    max_size = 2


def test_a_word_at_a_byte_device_is_its_two_bytes_the_lower_first() -> None:
    ports, device = PortSpace(), Bytes(bytes(2))
    ports.claim(0x70, 2, device)
    ports.write(0x70, 2, 0x1234)
    assert device.content == b"\x34\x12"
    assert device.seen == [(0, 1), (1, 1)]
    assert ports.read(0x70, 2) == 0x1234


def test_across_two_devices_and_what_nobody_claims() -> None:
    ports = PortSpace()
    left, right = Bytes(b"\x11"), Bytes(b"\x22")
    ports.claim(0x10, 1, left)
    ports.claim(0x12, 1, right)
    assert ports.read(0x10, 4) == 0xFF22FF11
    ports.write(0x0F, 4, 0xAABBCCDD)
    assert (left.content, right.content) == (b"\xcc", b"\xaa")
    assert ports.unclaimed_reads == {0x11: 1, 0x13: 1}
    assert ports.unclaimed_writes == {0x0F: 1, 0x11: 1}


def test_a_word_device_gets_words_and_no_more() -> None:
    ports, device = PortSpace(), Words(bytes(range(4)))
    ports.claim(0x510, 4, device)
    assert ports.read(0x510, 4) == 0x03020100
    assert device.seen == [(0, 2), (2, 2)]
    device.seen.clear()
    assert ports.read(0x512, 4) == 0xFFFF0302
    assert ports.read(0x513, 2) == 0xFF03
    assert device.seen == [(2, 2), (3, 1)]


def test_a_device_that_states_no_width_gets_the_access_as_it_is() -> None:
    class Wide:
        def __init__(self) -> None:
            self.seen: list[int] = []

        def port_read(self, offset: int, size: int) -> int:
            self.seen.append(size)
            return 0x44332211

        def port_write(self, offset: int, size: int, value: int) -> None:
            self.seen.append(size)

    ports, device = PortSpace(), Wide()
    ports.claim(0xE9, 1, device)
    assert ports.read(0xE9, 4) == 0x44332211
    ports.write(0xE9, 2, 0)
    assert device.seen == [4, 2]


def test_the_last_ports() -> None:
    ports = PortSpace()
    ports.claim(0xFFFF, 1, Bytes(b"\x5a"))
    assert ports.read(0xFFFF, 2) == 0xFF5A
    assert ports.read(0xFFFE, 2) == 0x5AFF


def test_releasing_makes_room() -> None:
    ports = PortSpace()
    ports.claim(0x60, 2, Bytes(b"ab"))
    ports.claim(0x62, 1, Bytes(b"c"))
    ports.release(0x60)
    assert ports.read(0x60, 4) == 0xFF63FFFF
    ports.claim(0x61, 1, Bytes(b"d"))
    assert ports.read(0x61, 1) == ord("d")
    with pytest.raises(ValueError, match="claimed at 0x60"):
        ports.release(0x60)


def test_a_device_may_release_itself_while_it_is_written() -> None:
    """The second byte of the access finds nobody any more."""
    ports = PortSpace()

    class Leaving(Bytes):
        def port_write(self, offset: int, size: int, value: int) -> None:
            super().port_write(offset, size, value)
            ports.release(0x92)

    device = Leaving(bytes(2))
    ports.claim(0x92, 2, device)
    ports.write(0x92, 2, 0xFFFF)
    assert device.seen == [(0, 1)]
    assert ports.unclaimed_writes == {0x93: 1}


@settings(deadline=None)
@given(
    sizes=st.lists(st.tuples(st.integers(1, 5), st.sampled_from([None, 1, 2])), max_size=6),
    port=st.integers(0, 20),
    size=st.sampled_from([1, 2, 4]),
    value=st.integers(0, 0xFFFFFFFF),
)
def test_any_access_is_that_of_its_bytes(
    sizes: list[tuple[int, int | None]], port: int, size: int, value: int
) -> None:
    """However devices lie, and whatever they take at once, memory-like ones see bytes."""

    def layout() -> tuple[PortSpace, list[Bytes]]:
        ports, devices, first = PortSpace(), [], 0
        for count, width in sizes:
            if width is not None:
                device = (Bytes if width == 1 else Words)(bytes(range(first, first + count)))
                ports.claim(first, count, device)
                devices.append(device)
            first += count
        return ports, devices

    value &= (1 << 8 * size) - 1
    (whole, one), (bytewise, other) = layout(), layout()
    got = b"".join(bytes([bytewise.read(port + n, 1)]) for n in range(size))
    assert whole.read(port, size) == int.from_bytes(got, "little")
    whole.write(port, size, value)
    for n, byte in enumerate(value.to_bytes(size, "little")):
        bytewise.write(port + n, 1, byte)
    assert [device.content for device in one] == [device.content for device in other]
    assert whole.unclaimed_reads == bytewise.unclaimed_reads
    assert whole.unclaimed_writes == bytewise.unclaimed_writes


def test_a_wire_to_several() -> None:
    seen: list[tuple[str, bool]] = []
    wire = fan_out(lambda level: seen.append(("a", level)), lambda level: seen.append(("b", level)))
    wire(True)
    unconnected(True)
    assert seen == [("a", True), ("b", True)]
