# SPDX-License-Identifier: BSD-2-Clause
"""A bench for guest-physical memory: what a guest's read, write and fetch at an address do."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from nvmmconf.suite import (
    PAGE_SIZE,
    ExitReason,
    Gpr,
    HostMemory,
    MemoryExit,
    Mode,
    Prot,
    VirtualMachine,
)

FREE = 0x40_0000
"""Guest-physical space that the bench's machine has nothing at, 4 MiB on."""
DONE = "done"
RW = Prot.READ | Prot.WRITE
RX = Prot.READ | Prot.EXEC
RWX = RW | Prot.EXEC

HLT = b"\xf4"

CODE = """
read:
    mov     eax, [{{ bx }}]
read_after:
    hlt
write:
    mov     [{{ bx }}], eax
write_after:
    hlt
modify:
    add     [{{ bx }}], eax
modify_after:
    hlt
fetch:
    jmp     {{ bx }}
spin:
    inc     dword ptr [{{ si }}]
    mov     eax, [{{ bx }}]
    jmp     spin
wait:
    cmp     dword ptr [{{ si }}], 0
    je      wait
    mov     eax, [{{ bx }}]
wait_after:
    hlt
"""
"""Accesses at RBX, each with its name as its label."""

ACCESS = {"read": Prot.READ, "write": Prot.WRITE, "modify": Prot.WRITE, "fetch": Prot.EXEC}
"""What NVMM calls each of them (nvmm-kernel 3.5)."""


@dataclass(frozen=True)
class Pages:
    """A range of host addresses, there or not, for calls that take one."""

    hva: int
    size: int

    def forget(self) -> None:
        """Nothing is kept."""


@dataclass(frozen=True)
class Effect:
    """What an access did: `done`, or what it was refused as."""

    end: str
    gpa: int | None
    """Of a MEMORY exit."""
    rip: int
    value: int
    """EAX afterwards."""


class Bench:
    """Accesses, one after the other, on one machine; `place` gives it memory."""

    def __init__(self, vm: VirtualMachine) -> None:
        self.guest = vm.prepare_code(CODE, entry="read")
        self.machine = self.guest.machine
        self.mode = vm.mode

    def place(
        self, memory: HostMemory, gpa: int, prot: Prot, *, offset: int = 0, size: int | None = None
    ) -> None:
        """Map `size` bytes (all) of `memory`, which hva_map knows, from `offset` on at `gpa`."""
        size = memory.size - offset if size is None else size
        self.machine.gpa_map(memory.hva + offset, gpa, size, prot)

    def give(self, gpa: int, size: int = PAGE_SIZE, prot: Prot = RWX) -> HostMemory:
        """New memory at `gpa`."""
        memory = HostMemory(size)
        self.machine.hva_map(memory)
        self.place(memory, gpa, prot)
        return memory

    def access(self, kind: str, address: int, value: int = 0) -> Effect:
        """Make the guest do what `kind` says at `address`, with `value` in EAX."""
        gpr = self.guest.registers.gpr
        gpr[Gpr.RIP] = self.guest.symbol(kind)
        gpr[Gpr.RBX] = address
        gpr[Gpr.RAX] = value
        taken = self.guest.next_exit()
        state = self.guest.registers.gpr
        if taken.reason is ExitReason.HALTED:
            return Effect(DONE, None, state[Gpr.RIP], state[Gpr.RAX] & 0xFFFFFFFF)
        if isinstance(taken, MemoryExit):
            return Effect(repr(taken.prot), taken.gpa, state[Gpr.RIP], state[Gpr.RAX])
        return Effect(f"{taken.reason_name} {taken.detail()}", None, state[Gpr.RIP], 0)

    def show_top(self, gpa: int) -> int:
        """Have long64's page tables show the 2 MiB of `gpa`; the linear address of `gpa`."""
        assert self.mode is Mode.LONG64
        directory, page = 0x1F_0000, 2 << 20
        entry = gpa & ~(page - 1) | 0x83  # present, writable, PS
        self.guest.write(directory, struct.pack("<Q", entry))
        tables = self.guest.image.linear("page_directory_pointers")
        self.guest.write(tables + 8 * 2, struct.pack("<Q", directory | 3))
        return 2 << 30 | gpa & (page - 1)
