# SPDX-License-Identifier: BSD-2-Clause
"""String port I/O: SDM 2 "INS", "OUTS", "REP"; SDM 1 3.3.7 (address sizes), 3.4.1.1 (upper
halves); the assist nvmm_assist_io of libnvmm(3).

Each case compares all of it: the device's accesses, 64 KiB of memory, every register.
"""

from __future__ import annotations

import pytest
from io_bench import (
    BUFFER,
    DF,
    EVERY,
    OTHER_SIZE,
    PORT,
    WINDOW,
    Bench,
    Form,
    check_registers,
    device_bytes,
)

from nvmmconf.suite import (
    PAGE_SIZE,
    Gpr,
    IoExit,
    Mmio,
    MmioAccess,
    Mode,
    PortAccess,
    Segment,
    VirtualMachine,
    check,
    modes,
    requirement,
)

SIZES = (1, 2, 4)
DIRECTIONS = ("ins", "outs")
WORDS = {2: b"Comment est votre blanquette", 4: b"123456789abcdefghijklmnopqrs"}


def form(
    vm: VirtualMachine, direction: str, size: int, *, other: bool = False, rep: bool = True
) -> Form:
    """One of them; `other`: with the address size that the mode does not have by itself."""
    address = OTHER_SIZE[vm.mode.bits] if other else vm.mode.bits
    return Form(direction == "ins", size, address, rep)


# NetBSD io_assist 4 to 6 and 10 to 12 are among these, in long64.


@requirement("L-IO-3", "L-IO-5", "L-IO-7", "L-IO-13", "L-IO-14", "K-IO-3", "A-CB-1")
@modes(*EVERY)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_rep_moves_that_many_elements(vm: VirtualMachine, direction: str, size: int) -> None:
    """REP INS and REP OUTS move the count's elements, each by one access, upwards (BH-1)."""
    bench = Bench(vm)
    for count in (1, 5, 7, 8, 14):
        bench.transfer(form(vm, direction, size), count=count, what=f"{count}: ")


@requirement("L-IO-11", "L-IO-14", "L-IO-5")
@modes(Mode.REAL16, Mode.LONG64)
@pytest.mark.parametrize("count", [31, 32, 33, 65])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_many_bytes(vm: VirtualMachine, direction: str, count: int) -> None:
    """As many bytes as the count says are moved, in order, however they are batched."""
    Bench(vm).transfer(form(vm, direction, 1), count=count)


@requirement("L-IO-11", "L-IO-14", "L-IO-5")
@modes(Mode.LONG64)
@pytest.mark.parametrize("more", [0, 1])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_whole_page(vm: VirtualMachine, direction: str, more: int) -> None:
    """A page, exactly, or an element more, is moved by one instruction."""
    count = PAGE_SIZE // 4 + more
    Bench(vm).transfer(form(vm, direction, 4), offset=0x5000, count=count)


@requirement("L-IO-11", "L-IO-14", "L-IO-5", "L-IO-3")
@modes(Mode.LONG64)
@pytest.mark.parametrize("count", [9, 16, 17, 33, 100])
@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_many_words(vm: VirtualMachine, direction: str, size: int, count: int) -> None:
    """Words and doublewords beyond one batch are moved as bytes are."""
    Bench(vm).transfer(form(vm, direction, size), count=count)


@requirement("L-IO-6")
@modes(*EVERY)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_count_of_zero_moves_nothing(vm: VirtualMachine, direction: str, size: int) -> None:
    """With a count of 0 REP INS and REP OUTS do nothing, and the guest goes on (BH-9)."""
    bench = Bench(vm)
    bench.transfer(form(vm, direction, size), count=0)
    bench.transfer(form(vm, direction, size), count=0, down=True)


@requirement("L-IO-6")
@modes(*EVERY)
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_count_is_of_the_address_size(vm: VirtualMachine, direction: str) -> None:
    """Only the address size's part of RCX counts: 0 there is a count of 0."""
    if vm.mode is Mode.LONG64:
        wanted, upper = form(vm, direction, 1, other=True), 0x5_0000_0000
    elif vm.mode is Mode.REAL16:
        wanted, upper = form(vm, direction, 1), 0xA5A5_0000
    else:
        wanted, upper = form(vm, direction, 1, other=True), 0xA5A5_0000
    bench = Bench(vm)
    effect = bench.execute(wanted.label, {wanted.index: upper | BUFFER, Gpr.RCX: upper}, calls=1)
    check.equal(effect.stop, "after it", "ends")
    check.equal(effect.ports, (), "port accesses")
    # Whether bits 63:32 are cleared where nothing is done is the processor's choice.
    low = {gpr: effect.after[gpr] & 0xFFFFFFFF for gpr in (wanted.index, Gpr.RCX)}
    before = {gpr: effect.before[gpr] & 0xFFFFFFFF for gpr in (wanted.index, Gpr.RCX)}
    check.equal(low, before, "index and count")


@requirement("L-IO-12", "L-IO-13", "L-IO-5")
@modes(*EVERY)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_without_rep_one_element(vm: VirtualMachine, direction: str, size: int) -> None:
    """Without REP one element is moved, the index goes on by its size (BH-5); RCX is not
    looked at."""
    bench = Bench(vm)
    for down in (False, True):
        bench.transfer(form(vm, direction, size, rep=False), down=down)
        bench.transfer(form(vm, direction, size, rep=False, other=True), down=down)


@requirement("L-IO-12", "L-IO-13")
@modes(*EVERY)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_downwards(vm: VirtualMachine, direction: str, size: int) -> None:
    """With RFLAGS.DF set the elements are taken downwards, each upright in memory."""
    bench = Bench(vm)
    for count in (1, 3, 40):
        bench.transfer(form(vm, direction, size), count=count, down=True, what=f"{count}: ")


@requirement("L-IO-7", "L-IO-13", "K-IO-3")
@modes(*EVERY)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_with_the_other_address_size(vm: VirtualMachine, direction: str, size: int) -> None:
    """With the prefix 67 index and count are registers of the other address size."""
    bench = Bench(vm)
    for count in (2, 34):
        bench.transfer(form(vm, direction, size, other=True), count=count, what=f"{count}: ")


@requirement("L-IO-13", "L-IO-7")
@modes(Mode.REAL16, Mode.PROT32, Mode.COMPAT32)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_16_bit_addressing_keeps_bits_31_to_16(
    vm: VirtualMachine, direction: str, size: int
) -> None:
    """With 16-bit addresses bits 31:16 of index and count play no part and are kept (BH-2)."""
    wanted = form(vm, direction, size, other=vm.mode is not Mode.REAL16)
    bench = Bench(vm)
    bench.transfer(wanted, count=3, upper=0xA5A5_0000)
    bench.transfer(wanted, count=3, down=True, upper=0xA5A5_0000, what="down: ")


@requirement("L-IO-13", "L-IO-7")
@modes(Mode.LONG64)
@pytest.mark.parametrize("down", [False, True], ids=["up", "down"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_32_bit_addressing_clears_bits_63_to_32(
    vm: VirtualMachine, direction: str, size: int, down: bool
) -> None:
    """In 64-bit mode with 32-bit addresses bits 63:32 of index and count play no part, and
    are 0 after it (BH-15a)."""
    wanted = form(vm, direction, size, other=True)
    Bench(vm).transfer(wanted, count=3, down=down, upper=0x7654_0000_0000)


@requirement("L-IO-13")
@modes(Mode.LONG64)
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_upper_count_does_not_repeat(vm: VirtualMachine, direction: str) -> None:
    """With 32-bit addresses in 64-bit mode the bits 63:32 of RCX are no part of the count: the
    instruction ends when ECX is 0 (BH-2)."""
    bench = Bench(vm)
    wanted = form(vm, direction, 1, other=True)
    effect = bench.execute(wanted.label, {wanted.index: BUFFER, Gpr.RCX: 0x1_0000_0002}, calls=2)
    check.equal(effect.stop, "after it", "ends")
    check.equal(len(effect.ports), 2, "elements")
    check.equal(effect.after[Gpr.RCX] & 0xFFFFFFFF, 0, "ECX")


@requirement("L-IO-13", "L-IO-15")
@modes(Mode.REAL16, Mode.PROT32)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_16_bit_index_wraps_upwards(vm: VirtualMachine, direction: str, size: int) -> None:
    """With 16-bit addresses the element after the one that ends at FFFFh is at 0 (BH-15a)."""
    wanted = form(vm, direction, size, other=vm.mode is Mode.PROT32)
    Bench(vm).transfer(wanted, offset=0x10000 - 4 * size, count=7)


@requirement("L-IO-13", "L-IO-15")
@modes(Mode.REAL16, Mode.PROT32)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_16_bit_index_wraps_downwards(vm: VirtualMachine, direction: str, size: int) -> None:
    """With 16-bit addresses and DF set the element after the one at 0 is the segment's last."""
    wanted = form(vm, direction, size, other=vm.mode is Mode.PROT32)
    Bench(vm).transfer(wanted, offset=3 * size, count=7, down=True)


@requirement("L-IO-13")
@modes(Mode.LONG64)
@pytest.mark.parametrize("size", SIZES)
def test_32_bit_index_wraps_in_64_bit_mode(vm: VirtualMachine, size: int) -> None:
    """In 64-bit mode an index of 32 bits that goes past FFFFFFFFh is 0, not 2^32 (BH-15a)."""
    bench = Bench(vm)
    start = 0x1_0000_0000 - 3 * size
    bench.segment(Segment.FS, (BUFFER - start) % (1 << 64))
    bench.transfer(Form(False, size, 32, True, "fs"), offset=start, count=3)
    bench.transfer(Form(False, size, 32, False, "fs"), offset=0x1_0000_0000 - size)


@requirement("L-IO-13", "L-GM-7")
@modes(Mode.PROT32)
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_linear_address_wraps_at_4_gib(vm: VirtualMachine, direction: str) -> None:
    """Outside 64-bit mode base plus index is a linear address of 32 bits."""
    bench = Bench(vm)
    bench.segment(Segment.DS, BUFFER + 0x20)
    bench.segment(Segment.ES, BUFFER + 0x20)
    bench.transfer(form(vm, direction, 1), offset=0xFFFFFFE0, count=5)


@requirement("L-IO-17", "L-GM-2")
@modes(Mode.REAL16, Mode.LONG64)
@pytest.mark.parametrize("before", [1, 2, 3, 17])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_string_across_a_page(vm: VirtualMachine, direction: str, size: int, before: int) -> None:
    """A string goes on in the next page, in the middle of an element, too (BH-6)."""
    Bench(vm).transfer(form(vm, direction, size), offset=0x6000 - before, count=24)


@requirement("L-IO-17", "L-GM-2", "L-IO-12")
@modes(Mode.REAL16, Mode.LONG64)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_string_across_a_page_downwards(vm: VirtualMachine, direction: str, size: int) -> None:
    """Downwards a string goes on in the page before, in the middle of an element, too."""
    Bench(vm).transfer(form(vm, direction, size), offset=0x6000 + 9, count=24, down=True)


@requirement("L-IO-17", "L-GM-4", "A-CB-2")
@modes(*EVERY)
@pytest.mark.parametrize("size", SIZES)
def test_ins_to_a_device_in_memory(vm: VirtualMachine, size: int) -> None:
    """What INS writes to a device in memory arrives there, in order, across RAM and device."""
    at = (0x40000 if vm.mode is Mode.REAL16 else 0) + 0x8000
    bench = Bench(vm, mmio=[Mmio(at, PAGE_SIZE)])
    count = 40 // size
    wanted = form(vm, "ins", size)
    effect = bench.execute(wanted.label, {Gpr.RDI: 0x8000 - 4, Gpr.RCX: count})
    data = device_bytes(0, count * size)
    check.equal(effect.stop, "after it", "ends")
    check.equal(bench.guest.memory(at - 4, 4), data[:4], "RAM before it")
    check.equal(*_joined(effect.run.mmio, at, data[4:], is_write=True), "what the device got")
    check.equal(len(effect.ports), count, "elements")
    check.equal(effect.after[Gpr.RDI], 0x8000 - 4 + len(data), "RDI")


@requirement("L-IO-17", "L-GM-4", "A-CB-2")
@modes(*EVERY)
@pytest.mark.parametrize("size", SIZES)
def test_outs_from_a_device_in_memory(vm: VirtualMachine, size: int) -> None:
    """What OUTS reads from a device in memory goes to the port, each byte read once."""
    at = (0x40000 if vm.mode is Mode.REAL16 else 0) + 0x8000
    content = bytes(range(64))
    bench = Bench(vm, mmio=[Mmio(at, PAGE_SIZE, content)])
    count = 40 // size
    wanted = form(vm, "outs", size)
    effect = bench.execute(wanted.label, {Gpr.RSI: 0x8000, Gpr.RCX: count})
    out = b"".join(access.value.to_bytes(size, "little") for access in effect.ports)
    check.equal(effect.stop, "after it", "ends")
    check.equal(out, content[: count * size], "what the port got")
    check.equal(*_joined(effect.run.mmio, at, out, is_write=False), "what was read of the device")


def _joined(
    accesses: tuple[MmioAccess, ...], gpa: int, data: bytes, *, is_write: bool
) -> tuple[object, object]:
    """Accesses without regard to how they are cut, beside one of `data` at `gpa`."""
    runs: list[MmioAccess] = []
    for one in accesses:
        last = runs[-1] if runs else None
        if last and last.is_write == one.is_write and last.gpa + len(last.data) == one.gpa:
            runs[-1] = MmioAccess(last.gpa, last.is_write, last.data + one.data)
        else:
            runs.append(one)
    return runs, [MmioAccess(gpa, is_write, data)]


@requirement("L-IO-3", "L-IO-14", "A-EXIT-4")
@modes(Mode.REAL16, Mode.LONG64)
@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_text_of_words(vm: VirtualMachine, direction: str, size: int) -> None:
    """A text of 28 characters passes as words and doublewords, little-endian."""
    text = WORDS[size]
    left = bytearray(text)

    def device(width: int) -> int:
        value = int.from_bytes(left[:width], "little")
        del left[:width]
        return value

    guest = vm.prepare("port_io", ports={PORT: device})
    wanted = form(vm, direction, size)
    base = guest.registers.seg[wanted.used_segment].base
    if direction == "outs":
        guest.write(base + 0x8000, text)
    guest.registers.gpr |= {
        Gpr.RIP: guest.symbol(wanted.label),
        Gpr.RDX: PORT,
        wanted.index: 0x8000,
        Gpr.RCX: len(text) // size,
    }
    run = guest.run()
    check.equal(run.rip, run.symbol(f"{wanted.label}_after"), "RIP")
    if direction == "outs":
        out = b"".join(access.value.to_bytes(size, "little") for access in run.ports)
        check.equal(out, text, "text")
    else:
        check.equal(run.memory(base + 0x8000, len(text) + 1), text + b"\0", "text")


@requirement("L-IO-14", "L-IO-13", "L-IO-5")
@modes(*EVERY)
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_registers_between_the_exits(vm: VirtualMachine, direction: str) -> None:
    """After each exit of a long REP index and count tell what has been done, and RIP stays on
    it until the count is 0: an interrupt may come in between."""
    bench = Bench(vm)
    wanted = form(vm, direction, 1)
    guest = bench.guest
    guest.registers.gpr |= {
        Gpr.RIP: guest.symbol(wanted.label),
        Gpr.RDX: PORT,
        wanted.index: BUFFER,
        Gpr.RCX: 100,
    }
    left = 100
    while left:
        taken = guest.next_exit()
        assert isinstance(taken, IoExit), taken
        guest.vcpu.assist_io()
        gpr = guest.state().gpr
        moved = left - gpr[Gpr.RCX]
        assert 0 < moved <= left
        left -= moved
        check.equal(gpr[wanted.index], BUFFER + 100 - left, "index")
        end = guest.symbol(f"{wanted.label}_npc" if left == 0 else wanted.label)
        check.equal(gpr[Gpr.RIP], end, "RIP")


@requirement("L-IO-13", "A-CB-1")
@modes(*EVERY)
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_one_string_after_the_other(vm: VirtualMachine, direction: str) -> None:
    """Strings one after the other go on in the device where the last one ended."""
    bench = Bench(vm)
    for size, count, down in ((1, 3, False), (2, 18, False), (4, 2, True), (1, 0, False)):
        bench.transfer(form(vm, direction, size), count=count, down=down, what=f"{size}*{count}: ")


@requirement("L-IO-3", "L-IO-4")
@modes(Mode.LONG64)
def test_rex_w_makes_no_wider_port_access(vm: VirtualMachine) -> None:
    """REX.W does not make port I/O wider than 32 bits."""
    bench = Bench(vm)
    effect = bench.execute("outs_rex_w", {Gpr.RSI: BUFFER})
    check.equal([(one.size, one.is_in) for one in effect.ports], [(4, False)], "OUTS")
    check.equal(effect.after[Gpr.RSI], BUFFER + 4, "RSI")
    effect = bench.execute("out_rex_w")
    value = effect.before[Gpr.RAX] & 0xFFFFFFFF
    bench.verify(effect, [PortAccess(PORT, False, 4, value)], what="OUT: ")
    effect = bench.execute("in_rex_w")
    value = int.from_bytes(device_bytes(0, 4), "little")
    bench.verify(effect, [PortAccess(PORT, True, 4, value)], {Gpr.RAX: value}, "IN: ")


@requirement("L-IO-7", "L-IO-14")
@modes(*EVERY)
def test_other_registers_are_not_touched(vm: VirtualMachine) -> None:
    """String I/O changes its index and its count, no flag and no other register."""
    bench = Bench(vm)
    for direction in DIRECTIONS:
        wanted = form(vm, direction, 2)
        effect = bench.execute(wanted.label, {wanted.index: BUFFER, Gpr.RCX: 2}, DF | 0x8D5)
        check_registers(
            effect, {**effect.before, wanted.index: BUFFER - 4, Gpr.RCX: 0}, f"{direction}: "
        )
    assert bench.given < WINDOW
