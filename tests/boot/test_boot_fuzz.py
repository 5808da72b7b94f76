# SPDX-License-Identifier: BSD-2-Clause
"""Hostile images: whatever the bytes, a plan that stays within RAM, or one line of error."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from nvmmconf.boot import (
    BootError,
    BootPlan,
    FlatMode,
    Module,
    load_bios,
    load_flat,
    load_linux,
    load_multiboot,
)
from tests.boot.images import MAP, RAM, elf32, elf64, header, linux

SAMPLES = (
    elf32([(0x100000, header(3) + b"\xf4" * 64, 200), (0x110000, b"d" * 9, 99)], 0x10000C),
    elf64(0x100000, header() + b"\xf4" * 64, 0x10000C),
    header(1 << 16, 0x200000, 0x200000, 0x200040, 0x200100, 0x200020) + bytes(64),
    linux(b"\xf4" * 64, init_size=0x1000),
)
EDGES = st.sampled_from([0, 1, 2, 0x7F, 0x80, 0xFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF])


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """An image with some fields overwritten, bytes lost or added."""
    image = bytearray(draw(st.sampled_from(SAMPLES)))
    for _ in range(draw(st.integers(0, 6))):
        at = draw(st.integers(0, len(image) - 1))
        size = draw(st.sampled_from([1, 2, 4, 8]))
        value = draw(EDGES | st.integers(0, (1 << 64) - 1)) & (1 << 8 * size) - 1
        image[at : at + size] = value.to_bytes(size, "little")
    return bytes(image[: draw(st.integers(0, len(image)) | st.just(len(image)))])


IMAGES = damaged() | st.binary(max_size=9000)


def check(load: Callable[[], BootPlan]) -> None:
    try:
        plan = load()
    except BootError as error:
        text = str(error)
        assert text, "an error says something"
        assert text.isprintable(), "on one line"
        assert len(text) < 300
        return
    end = 0
    for write in plan.writes:
        assert write.data
        assert write.gpa >= end, "in order and apart"
        assert any(one.gpa <= write.gpa and write.end <= one.end for one in RAM)
        end = write.end


@given(IMAGES, st.text(max_size=40), st.lists(st.binary(max_size=5000), max_size=3))
@settings(max_examples=600, deadline=None)
def test_any_multiboot_image(image: bytes, line: str, modules: list[bytes]) -> None:
    parts = [Module(data, line) for data in modules]
    check(lambda: load_multiboot(image, RAM, MAP, command_line=line, modules=parts))


@given(IMAGES, st.text(max_size=40), st.binary(max_size=100))
@settings(max_examples=400, deadline=None)
def test_any_linux_image(image: bytes, line: str, initrd: bytes) -> None:
    check(lambda: load_linux(image, RAM, MAP, command_line=line, initrd=initrd))


@given(st.binary(max_size=600), EDGES | st.integers(0, 1 << 64), st.sampled_from(FlatMode))
@settings(max_examples=400, deadline=None)
def test_any_flat_image(image: bytes, gpa: int, mode: FlatMode) -> None:
    check(lambda: load_flat(image, gpa, mode, RAM))


@given(st.integers(0, (17 << 20)))
@settings(max_examples=50, deadline=None)
def test_any_bios_size(size: int) -> None:
    try:
        plan = load_bios(bytes(size))
    except BootError:
        return
    assert plan.low_size <= len(plan.rom) == size
