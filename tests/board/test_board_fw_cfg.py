# SPDX-License-Identifier: BSD-2-Clause
"""QEMU's firmware configuration, by its specification, read as a guest does."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nvmmconf.board import PortSpace
from nvmmconf.board.fw_cfg import FwCfg, Item, kernel_items, machine_items


class Guest:
    """A guest with a fw_cfg."""

    def __init__(self, items: dict[int, bytes], files: dict[str, bytes]) -> None:
        self.ports = PortSpace()
        self.device = FwCfg(items, files)
        self.device.connect(self.ports)

    def select(self, selector: int) -> None:
        self.ports.write(0x510, 2, selector)

    def read(self, size: int) -> bytes:
        return bytes(self.ports.read(0x511, 1) for _ in range(size))

    def item(self, selector: int, size: int) -> bytes:
        self.select(selector)
        return self.read(size)

    def files(self) -> dict[str, bytes]:
        (count,) = struct.unpack(">I", self.item(0x19, 4))
        entries = [struct.unpack(">IHH56s", self.read(64)) for _ in range(count)]
        return {
            name.rstrip(b"\0").decode(): self.item(selector, size)
            for size, selector, _, name in entries
        }


def test_the_signature_and_no_dma() -> None:
    guest = Guest({}, {})
    assert guest.item(0, 4) == b"QEMU"
    assert guest.item(1, 4) == b"\x01\0\0\0"
    assert guest.item(0x19, 4) == bytes(4)
    assert guest.ports.read(0x514, 4) == 0xFFFFFFFF


def test_beyond_an_items_end_and_without_an_item_there_are_zeros() -> None:
    guest = Guest({0x03: b"ab"}, {})
    assert guest.item(3, 4) == b"ab\0\0"
    assert guest.item(0x1F, 2) == b"\0\0"
    assert guest.item(3, 1) == b"a", "selecting starts over"


def test_writing_data_changes_nothing() -> None:
    guest = Guest({0x03: b"ab"}, {})
    guest.select(0x4003)
    guest.ports.write(0x511, 1, 0x55)
    assert guest.item(3, 2) == b"ab"


def test_a_byte_to_the_selector_selects_nothing() -> None:
    guest = Guest({0x03: b"ab"}, {})
    guest.select(3)
    guest.ports.write(0x510, 1, 0)
    assert guest.read(2) == b"ab"


def test_machine_items() -> None:
    guest = Guest(machine_items(ram_size=0x1_2345_0000, cpus=3, max_cpus=5), {})
    assert guest.item(0x03, 8) == (0x1_2345_0000).to_bytes(8, "little")
    assert guest.item(0x05, 2) == b"\x03\0"
    assert guest.item(0x0F, 2) == b"\x05\0"
    assert guest.item(0x8002, 4) == b"\x01\0\0\0"


def test_kernel_items() -> None:
    items = kernel_items(b"kernel", 0x100000, 0x100020, "a=b", 0x20000)
    guest = Guest(items, {})
    assert guest.item(0x08, 4) == b"\x06\0\0\0"
    assert guest.item(0x11, 6) == b"kernel"
    assert guest.item(0x07, 4) == (0x100000).to_bytes(4, "little")
    assert guest.item(0x10, 4) == (0x100020).to_bytes(4, "little")
    assert guest.item(0x14, 4) == b"\x04\0\0\0"
    assert guest.item(0x15, 4) == guest.item(0x09, 4) == b"a=b\0"
    assert guest.item(0x13, 4) == (0x20000).to_bytes(4, "little")


NAMES = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=55)


@settings(deadline=None)
@given(files=st.dictionaries(NAMES, st.binary(max_size=100), max_size=20))
def test_a_guest_finds_every_file(files: dict[str, bytes]) -> None:
    assert Guest({}, files).files() == files


@pytest.mark.parametrize("name", ["", "x" * 56, "a\0b", "\u00e9"])
def test_names_that_do_not_fit(name: str) -> None:
    with pytest.raises(ValueError, match="1 to 55 ASCII"):
        FwCfg({}, {name: b""})


@pytest.mark.parametrize("selector", [-1, 0, 1, 0x19, 0x20, 0x3FFF, 0x4003, 0x10000])
def test_selectors_that_are_taken(selector: int) -> None:
    with pytest.raises(ValueError, match="is not free"):
        FwCfg({selector: b""}, {})


def test_saving_keeps_the_place_and_reset_forgets_it() -> None:
    one, other = (Guest({Item.UUID: bytes(range(16))}, {}) for _ in range(2))
    one.item(2, 5)
    other.device.load(one.device.save())
    assert other.read(1) == b"\x05"
    other.device.reset()
    assert other.read(4) == b"QEMU"
