# SPDX-License-Identifier: BSD-2-Clause
"""MMIO, each instruction that nvmm_assist_mem takes: libnvmm(3) "nvmm_assist_mem".

Each form of OR, AND, XOR, SUB, CMP, TEST, MOV, MOVZX, XCHG in each operand size,
with values that set and clear every flag.  What they give is computed from the SDM's
definitions (volume 2; flags: volume 1, 3.4.3.1).  After each, the next instruction
is executed: the length was right.
"""

from __future__ import annotations

import pytest
from arithmetic import AF, LOGIC, compute, extended, mask, operands
from mmio_bench import DEVICE, FLAGS_BEFORE, Bench, pattern

from nvmmconf.suite import Gpr, Level, Mode, VirtualMachine, check, modes, requirement

GUEST = "mmio_forms"
# To the assist, compatibility mode is 32-bit mode but for a load's upper half.
EVERY = (Mode.REAL16, Mode.PROT32, Mode.LONG64)
LOADS = (*EVERY, Mode.COMPAT32)
TWO = (Mode.REAL16, Mode.LONG64)
"""Where 32-bit mode has the same sizes as 64-bit mode."""
OFFSET = 0x128
"""Of the operand, in the device's page."""
ALU = ("or", "and", "xor", "sub")
GROUP = ("or", "and", "xor", "cmp")
SIZES = (1, 2, 4)

IMMEDIATES = {1: (0x0F, 0x80), 2: (0x1234, 0x8001), 4: (0x12345678, 0x80000001), 8: (0x12345678,)}
"""Full-sized ones (80, 81); those of 8 bytes are 4, and positive here."""
SHORT = (0x0F, 0x7F)
"""Of one byte (83), and positive."""
NEGATIVE_LONG = -0x76543210


def loaded(bench: Bench, gpr: Gpr, before: int, value: int, size: int) -> dict[Gpr, int]:
    """What a register holds that got `value` (SDM 1 3.4.1.1)."""
    if size == 4 and bench.mode is Mode.LONG64:
        return {gpr: value}
    return {gpr: before & ~mask(size) | value}


def _bench(vm: VirtualMachine) -> tuple[Bench, dict[Gpr, int]]:
    registers = pattern(vm.mode)
    registers[Gpr.RBX] = DEVICE + OFFSET
    return Bench(vm, GUEST), registers


def _stores(vm: VirtualMachine, operation: str, size: int) -> None:
    bench, registers = _bench(vm)
    for index, (memory, source) in enumerate(operands(size)):
        registers[Gpr.RCX] = registers[Gpr.RCX] & ~mask(size) | source
        bench.put(OFFSET, memory, size)
        wanted = compute(operation, memory, source, size)
        effect = bench.execute(f"{operation}_store_{size}", registers, FLAGS_BEFORE[index % 2])
        bench.verify(
            effect,
            f"{operation} [{memory:#x}], {source:#x}",
            accesses=[bench.reads(OFFSET, memory, size), bench.writes(OFFSET, wanted.value, size)],
            flags=wanted.flags,
            undefined=wanted.undefined,
        )


def _loads(vm: VirtualMachine, operation: str, size: int) -> None:
    bench, registers = _bench(vm)
    for index, (source, memory) in enumerate(operands(size)):
        registers[Gpr.RCX] = registers[Gpr.RCX] & ~mask(size) | source
        bench.put(OFFSET, memory, size)
        wanted = compute(operation, source, memory, size)
        effect = bench.execute(f"{operation}_load_{size}", registers, FLAGS_BEFORE[index % 2])
        bench.verify(
            effect,
            f"{operation} {source:#x}, [{memory:#x}]",
            accesses=[bench.reads(OFFSET, memory, size)],
            registers=loaded(bench, Gpr.RCX, registers[Gpr.RCX], wanted.value, size),
            flags=wanted.flags,
            undefined=wanted.undefined,
        )


def _immediate(vm: VirtualMachine, label: str, operation: str, immediate: int, size: int) -> None:
    """`operation` [memory], `immediate`, for several contents of memory."""
    bench, registers = _bench(vm)
    for index, (memory, other) in enumerate(operands(size)):
        memory = memory if index % 3 else immediate if index else immediate ^ other
        wanted = compute(operation, memory, immediate, size)
        writes = operation not in ("cmp", "test")
        bench.put(OFFSET, memory, size)
        effect = bench.execute(label, registers, FLAGS_BEFORE[index % 2])
        bench.verify(
            effect,
            f"{operation} [{memory:#x}], {immediate:#x}",
            accesses=[bench.reads(OFFSET, memory, size)]
            + [bench.writes(OFFSET, wanted.value, size)] * writes,
            flags=wanted.flags,
            undefined=wanted.undefined,
        )


def _moves_immediate(vm: VirtualMachine, label: str, value: int, size: int) -> None:
    bench, registers = _bench(vm)
    for flags in FLAGS_BEFORE:
        effect = bench.execute(label, registers, flags)
        bench.verify(effect, label, accesses=[bench.writes(OFFSET, value, size)])


# NetBSD mem_assist 2 OR, 3 AND, 4 XOR, 13 SUB, and 4 of real mode, are among these.


@requirement("L-MEM-8", "L-DEC-4", "L-DAT-4", "L-DAT-6", "A-CB-2", "A-EXIT-3")
@modes(*EVERY)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("operation", ALU)
def test_alu_on_memory_reads_then_writes(vm: VirtualMachine, operation: str, size: int) -> None:
    """OR, AND, XOR and SUB of a register to memory read the operand, then write the result."""
    _stores(vm, operation, size)


@requirement("L-MEM-8", "L-DEC-4", "L-DAT-4", "L-DAT-6", "A-CB-2")
@modes(Mode.LONG64)
@pytest.mark.parametrize("operation", ALU)
def test_alu_on_eight_bytes_of_memory(vm: VirtualMachine, operation: str) -> None:
    """With REX.W, OR, AND, XOR and SUB work on eight bytes of memory."""
    _stores(vm, operation, 8)


@requirement("L-DAT-1", "L-DAT-4", "L-DEC-4", "L-DAT-6")
@modes(*LOADS)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("operation", ALU)
def test_alu_to_a_register_reads_once(vm: VirtualMachine, operation: str, size: int) -> None:
    """OR, AND, XOR and SUB of memory to a register read once and use what the register had."""
    _loads(vm, operation, size)


@requirement("L-DAT-1", "L-DAT-4", "L-DEC-4", "L-DAT-6")
@modes(Mode.LONG64)
@pytest.mark.parametrize("operation", ALU)
def test_alu_to_a_64_bit_register(vm: VirtualMachine, operation: str) -> None:
    """With REX.W, OR, AND, XOR and SUB of memory change all of a register."""
    _loads(vm, operation, 8)


@requirement("L-MEM-8", "L-DEC-2")
@modes(*TWO)
@pytest.mark.parametrize("size", SIZES)
def test_lock_changes_nothing(vm: VirtualMachine, size: int) -> None:
    """A LOCK prefix leaves a read-modify-write what it is: one read, one write."""
    bench, registers = _bench(vm)
    bench.put(OFFSET, 0x21, size)
    registers[Gpr.RCX] = 0x43
    wanted = compute("or", 0x21, 0x43, size)
    effect = bench.execute(f"lock_or_{size}", registers)
    accesses = [bench.reads(OFFSET, 0x21, size), bench.writes(OFFSET, wanted.value, size)]
    bench.verify(effect, "lock or", accesses=accesses, flags=wanted.flags)


@requirement("L-DEC-8", "L-MEM-8", "L-DAT-4")
@modes(*TWO)
@pytest.mark.parametrize(
    ("size", "immediate"), [(size, value) for size in SIZES for value in IMMEDIATES[size]]
)
@pytest.mark.parametrize("operation", GROUP)
def test_alu_with_an_immediate(
    vm: VirtualMachine, operation: str, size: int, immediate: int
) -> None:
    """OR, AND, XOR of an immediate (80, 81) read and write memory; CMP reads it only."""
    _immediate(vm, f"{operation}_imm_{size}_{immediate}", operation, immediate, size)


@requirement("L-DEC-8", "L-DEC-4")
@modes(Mode.LONG64)
@pytest.mark.parametrize("operation", [*GROUP, "test", "test1"])
def test_alu_on_eight_bytes_with_an_immediate(vm: VirtualMachine, operation: str) -> None:
    """With REX.W the immediate has four bytes, a positive one is the number that it is."""
    [value] = IMMEDIATES[8]
    _immediate(vm, f"{operation}_imm_8_{value}", operation.rstrip("1"), value, 8)


@requirement("L-DEC-8", "L-DEC-4")
@modes(*TWO)
@pytest.mark.parametrize("immediate", SHORT)
@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize("operation", GROUP)
def test_alu_with_a_short_immediate(
    vm: VirtualMachine, operation: str, size: int, immediate: int
) -> None:
    """OR, AND, XOR, CMP with one byte for a wider operand (83): a positive one is extended by 0."""
    _immediate(vm, f"{operation}_short_{size}_{immediate}", operation, immediate, size)


@requirement("L-DEC-8")
@modes(*TWO)
@pytest.mark.parametrize("immediate", [-1, -128])
@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize("operation", GROUP)
def test_negative_short_immediate_is_sign_extended(
    vm: VirtualMachine, operation: str, size: int, immediate: int
) -> None:
    """An immediate of one byte is sign-extended to a wider operand (SDM 2 "OR": imm8)."""
    # DragonFly mem_assist 18, Sign Extension.
    label = f"{operation}_short_{size}_m{-immediate}"
    _immediate(vm, label, operation, extended(immediate & 0xFF, 1, size), size)


@requirement("L-DEC-8")
@modes(Mode.LONG64)
@pytest.mark.parametrize("immediate", [-1, -128])
@pytest.mark.parametrize("operation", GROUP)
def test_negative_short_immediate_is_sign_extended_to_64_bits(
    vm: VirtualMachine, operation: str, immediate: int
) -> None:
    """With REX.W, an immediate of one byte is sign-extended to eight."""
    label = f"{operation}_short_8_m{-immediate}"
    _immediate(vm, label, operation, extended(immediate & 0xFF, 1, 8), 8)


@requirement("L-DEC-8")
@modes(Mode.LONG64)
@pytest.mark.parametrize("operation", [*GROUP, "test", "mov"])
def test_negative_immediate_is_sign_extended_to_64_bits(vm: VirtualMachine, operation: str) -> None:
    """With REX.W, an immediate of four bytes is sign-extended to eight."""
    value = extended(NEGATIVE_LONG & mask(4), 4, 8)
    if operation == "mov":
        _moves_immediate(vm, "mov_negative_8", value, 8)
    else:
        _immediate(vm, f"{operation}_negative_8", operation, value, 8)


# NetBSD mem_assist 12 CMP, 14 TEST.


@requirement("L-MEM-8", "L-DEC-8")
@modes(*TWO)
@pytest.mark.parametrize(
    ("size", "immediate"), [(size, value) for size in SIZES for value in IMMEDIATES[size]]
)
@pytest.mark.parametrize("extension", [0, 1])
def test_test_with_an_immediate(
    vm: VirtualMachine, extension: int, size: int, immediate: int
) -> None:
    """TEST (F6, F7, /0 and its alias /1) reads memory once and writes flags only."""
    name = "test1" if extension else "test"
    _immediate(vm, f"{name}_imm_{size}_{immediate}", "test", immediate, size)


@requirement("L-DAT-6", level=Level.INFO)
@modes(Mode.LONG64)
@pytest.mark.parametrize("operation", [one for one in LOGIC if one != "test"])
def test_af_after_logic(vm: VirtualMachine, operation: str) -> None:
    """AF, which the SDM leaves undefined after OR, AND, XOR, stays as it was."""
    bench, registers = _bench(vm)
    for flags in FLAGS_BEFORE:
        effect = bench.execute(f"{operation}_store_4", registers, flags)
        check.equal(effect.flags & AF, flags & AF, f"AF after {operation}")


# NetBSD mem_assist 1 MOV, 6 DMO, 10 MOVZXB, 11 MOVZXW, 15 and 16 XCHG; 1 to 6 of real mode.


@requirement("L-MEM-8", "L-DEC-4", "L-DEC-8")
@modes(*TWO)
@pytest.mark.parametrize(
    ("size", "immediate"), [(size, value) for size in SIZES for value in IMMEDIATES[size]]
)
def test_mov_of_an_immediate(vm: VirtualMachine, size: int, immediate: int) -> None:
    """MOV of an immediate (C6, C7) is one write, and no flag changes."""
    _moves_immediate(vm, f"mov_imm_{size}_{immediate}", immediate, size)


@requirement("L-MEM-8", "L-DEC-4", "L-DEC-8")
@modes(Mode.LONG64)
def test_mov_of_an_immediate_to_eight_bytes(vm: VirtualMachine) -> None:
    """MOV of a positive immediate with REX.W writes eight bytes."""
    [value] = IMMEDIATES[8]
    _moves_immediate(vm, f"mov_imm_8_{value}", value, 8)


def _mov(vm: VirtualMachine, form: str, gpr: Gpr, size: int) -> None:
    bench, registers = _bench(vm)
    for index, (memory, source) in enumerate(operands(size)):
        registers[gpr] = registers[gpr] & ~mask(size) | source
        bench.put(OFFSET, memory, size)
        effect = bench.execute(f"{form}_{size}", registers, FLAGS_BEFORE[index % 2])
        changed: dict[Gpr, int] = {}
        accesses = [bench.writes(OFFSET, source, size)]
        if form.endswith("load"):
            accesses = [bench.reads(OFFSET, memory, size)]
            changed = loaded(bench, gpr, registers[gpr], memory, size)
        elif form == "xchg":
            accesses.insert(0, bench.reads(OFFSET, memory, size))
            changed = loaded(bench, gpr, registers[gpr], memory, size)
        bench.verify(effect, f"{form} {source:#x}", accesses=accesses, registers=changed)


@requirement("L-MEM-8", "L-DEC-1", "L-DEC-4", "L-DAT-1", "A-CB-2")
@modes(*LOADS)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("form", ["mov_store", "mov_load", "xchg"])
def test_mov_and_xchg(vm: VirtualMachine, form: str, size: int) -> None:
    """MOV is one access, XCHG a read and a write; the register gets what was read, flags stay."""
    _mov(vm, form, Gpr.RCX, size)


@requirement("L-MEM-8", "L-DEC-4", "L-DAT-1")
@modes(Mode.LONG64)
@pytest.mark.parametrize("form", ["mov_store", "mov_load", "xchg"])
def test_mov_and_xchg_of_eight_bytes(vm: VirtualMachine, form: str) -> None:
    """With REX.W, MOV and XCHG move eight bytes."""
    _mov(vm, form, Gpr.RCX, 8)


@requirement("L-DEC-14", "L-DEC-5")
@modes(*EVERY)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("form", ["mov_offset_store", "mov_offset_load"])
def test_mov_with_an_offset(vm: VirtualMachine, form: str, size: int) -> None:
    """MOV between rAX and an absolute offset (A0 to A3), which is as wide as addresses are."""
    _mov(vm, form, Gpr.RAX, size)


@requirement("L-DEC-14", "L-DEC-5")
@modes(Mode.LONG64)
@pytest.mark.parametrize("form", ["mov_offset_store", "mov_offset_load"])
def test_mov_of_eight_bytes_with_an_offset(vm: VirtualMachine, form: str) -> None:
    """MOV between RAX and an absolute offset, eight bytes."""
    _mov(vm, form, Gpr.RAX, 8)


def _movzx(vm: VirtualMachine, source: int, size: int) -> None:
    bench, registers = _bench(vm)
    for index, value in enumerate((0, 0x7F, 0x80, mask(source), 0x8001 & mask(source))):
        bench.put(OFFSET, 0xFFFFFFFFFFFFFFFF, 8)
        bench.put(OFFSET, value, source)
        effect = bench.execute(f"movzx_{source}_{size}", registers, FLAGS_BEFORE[index % 2])
        bench.verify(
            effect,
            f"movzx of {value:#x}",
            accesses=[bench.reads(OFFSET, value, source)],
            registers=loaded(bench, Gpr.RCX, registers[Gpr.RCX], value, size),
        )


@requirement("L-DAT-2")
@modes(*LOADS)
@pytest.mark.parametrize(("source", "size"), [(1, 2), (1, 4), (2, 4)])
def test_movzx(vm: VirtualMachine, source: int, size: int) -> None:
    """MOVZX reads as many bytes as its source has, and extends them by zeroes."""
    _movzx(vm, source, size)


@requirement("L-DAT-2")
@modes(Mode.LONG64)
@pytest.mark.parametrize("source", [1, 2])
def test_movzx_to_64_bits(vm: VirtualMachine, source: int) -> None:
    """MOVZX with REX.W clears all of the register above what it has read."""
    _movzx(vm, source, 8)
