# SPDX-License-Identifier: BSD-2-Clause
"""A bench for single instructions on a device in memory: registers in, all effects out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from arithmetic import STATUS, flag_names

from nvmmconf.suite import (
    PAGE_SIZE,
    ExitReason,
    Gpr,
    MemAccess,
    Mmio,
    MmioAccess,
    Mode,
    NvmmError,
    StateFlag,
    Stop,
    VirtualMachine,
    check,
)

DEVICE = 0xE000
"""Offset of the device's page in DS, in every mode."""
OTHER = 0xB000
"""Offset in DS of a page of RAM that no guest uses."""

WORDS = {1: "byte", 2: "word", 4: "dword", 8: "qword"}
"""Operand sizes in the assembler's words."""
RCX = {1: "cl", 2: "cx", 4: "ecx", 8: "rcx"}
RAX = {1: "al", 2: "ax", 4: "eax", 8: "rax"}

AFTER = "after it"
"""Where an instruction has to end."""
MOST_EXITS = 300
"""That one instruction may take."""

FLAGS_BEFORE = (STATUS, 0)
"""All status flags, or none: what is not written shows."""


def base_of(mode: Mode) -> int:
    """The base of DS."""
    return mode.code_base


def pattern(mode: Mode) -> dict[Gpr, int]:
    """A value for each general register but RSP, as wide as `mode`'s, no two alike."""
    width = 0xFFFFFFFF if mode is not Mode.LONG64 else 0xFFFFFFFFFFFFFFFF
    last = Gpr.R15 if mode is Mode.LONG64 else Gpr.RDI
    return {
        gpr: (0x8182_8384_8586_8788 + 0x0711_0913_0B15_0D17 * gpr) & width
        for gpr in Gpr
        if gpr <= last and gpr is not Gpr.RSP
    }


@dataclass(frozen=True)
class Effect:
    """What an instruction has done."""

    stop: str
    accesses: tuple[MmioAccess, ...]
    before: Mapping[Gpr, int]
    after: Mapping[Gpr, int]

    @property
    def flags(self) -> int:
        """The status flags after it."""
        return self.after[Gpr.RFLAGS] & STATUS


class Bench:
    """Instructions of a guest one after the other, on one machine with one device.

    Each has a label, a HLT after it, and `label_after` after that.  `device` is what
    reads of the device's page get; `also` are more devices, with answers of their own.
    """

    def __init__(
        self, vm: VirtualMachine, guest: str, *, also: Sequence[Mmio] = (), code: bool = False
    ) -> None:
        """`guest` is a guest's name, or (`code`) its instructions."""
        self.mode = vm.mode
        self.gpa = base_of(vm.mode) + DEVICE
        self.device = bytearray(PAGE_SIZE)
        prepare = vm.prepare_code if code else vm.prepare
        self.guest = prepare(guest, mmio=[Mmio(self.gpa, PAGE_SIZE, self._read), *also])

    def _read(self, offset: int, size: int) -> bytes:
        return bytes(self.device[offset : offset + size])

    def reads(self, offset: int, value: int, size: int) -> MmioAccess:
        """A read of the device that got `value`."""
        return MmioAccess(self.gpa + offset, False, value.to_bytes(size, "little"))

    def writes(self, offset: int, value: int, size: int) -> MmioAccess:
        """A write of `value` to the device."""
        return MmioAccess(self.gpa + offset, True, value.to_bytes(size, "little"))

    def put(self, offset: int, value: int, size: int) -> None:
        """What the device has there."""
        self.device[offset : offset + size] = value.to_bytes(size, "little")

    def execute(self, label: str, registers: Mapping[Gpr, int], flags: int = 0) -> Effect:
        """Run the instruction at `label` up to its HLT, with these registers and flags."""
        gprs = {**registers, Gpr.RIP: self.guest.symbol(label), Gpr.RFLAGS: flags | 2}
        if self.guest.latest is None:
            return self._by_accelerator(label, gprs)
        vcpu = self.guest.vcpu
        vcpu.getstate(StateFlag.GPRS)
        for gpr, value in gprs.items():
            vcpu.state.gprs[gpr] = value
        before = {gpr: int(vcpu.state.gprs[gpr]) for gpr in Gpr}
        vcpu.setstate(StateFlag.GPRS)
        log: list[MmioAccess] = []
        by_the_board, vcpu.mem_callback = vcpu.mem_callback, lambda one: self._access(one, log)
        try:
            stop = self._enter(self.guest.symbol(f"{label}_after"))
        finally:
            vcpu.mem_callback = by_the_board
        after = {gpr: int(vcpu.state.gprs[gpr]) for gpr in Gpr}
        return Effect(stop, tuple(log), before, after)

    def _by_accelerator(self, label: str, gprs: Mapping[Gpr, int]) -> Effect:
        """The first one: the run and its exits are there to be shown."""
        before = {**self.guest.registers.gpr, **gprs}
        self.guest.registers.gpr.update(gprs)
        run = self.guest.run()
        at_end = run.reason is Stop.HALTED and run.rip == run.symbol(f"{label}_after")
        stop = AFTER if at_end else f"{run.outcome}, RIP {run.rip}"
        return Effect(stop, run.mmio, before, run.registers.gpr)

    def _enter(self, end: int) -> str:
        """Run until HLT, with no more than libnvmm's own assist: where it has stopped."""
        vcpu = self.guest.vcpu
        for _ in range(MOST_EXITS):
            reason = vcpu.run().reason
            if reason is ExitReason.MEMORY:
                try:
                    vcpu.assist_mem()
                except NvmmError as error:
                    return str(error)
            elif reason not in (ExitReason.NONE, ExitReason.STOPPED):
                vcpu.getstate(StateFlag.GPRS)
                rip = int(vcpu.state.gprs[Gpr.RIP])
                at_end = reason is ExitReason.HALTED and rip == end
                return AFTER if at_end else f"{reason!r}, RIP {rip:#x}"
        vcpu.getstate(StateFlag.GPRS)
        return f"not after {MOST_EXITS} exits"

    def _access(self, access: MemAccess, log: list[MmioAccess]) -> None:
        """libnvmm's callback: the device, wherever the access is."""
        if not access.is_write:
            offset = (access.gpa - self.gpa) % PAGE_SIZE
            access.data[:] = (self.device * 2)[offset : offset + len(access.data)]
        log.append(MmioAccess(access.gpa, access.is_write, bytes(access.data)))

    def verify(
        self,
        effect: Effect,
        what: str,
        *,
        accesses: Sequence[MmioAccess],
        registers: Mapping[Gpr, int] | None = None,
        flags: int | None = None,
        undefined: int = 0,
    ) -> None:
        """Check all of `effect`.

        `registers` and `flags` (the status flags) are what has changed; all others
        are as before.  `undefined` flags may be either.
        """
        check.equal(effect.stop, AFTER, f"{what}: ends")
        check.equal(effect.accesses, tuple(accesses), f"{what}: accesses")
        # A processor with a fault-like exit may leave RF; it is tested elsewhere.
        if flags is None:
            flags = effect.before[Gpr.RFLAGS] & STATUS
        check.equal(
            flag_names(effect.flags & ~undefined),
            flag_names(flags & ~undefined),
            f"{what}: status flags",
        )
        wanted = {**effect.before, **(registers or {})}
        compared = [gpr for gpr in wanted if gpr not in (Gpr.RIP, Gpr.RFLAGS)]
        differing = [gpr for gpr in compared if effect.after[gpr] != wanted[gpr]]
        check.equal(
            _shown(effect.after, differing), _shown(wanted, differing), f"{what}: registers"
        )


def _shown(registers: Mapping[Gpr, int], which: Sequence[Gpr]) -> str:
    return ", ".join(f"{gpr.name}={registers[gpr]:#x}" for gpr in which) or "as they should be"
