# SPDX-License-Identifier: BSD-2-Clause
"""Runs, assists and callbacks through the Python objects."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from nvmmconf.abi import ExitReason, Gpr, Libnvmm, Prot, Segment, StateFlag
from nvmmconf.nvmm import (
    PAGE_SIZE,
    HostMemory,
    IoAccess,
    IoExit,
    Machine,
    MemAccess,
    MemoryExit,
    NvmmError,
    Vcpu,
)

Boot = Callable[[str], Vcpu]


def no_memory(access: MemAccess) -> None:
    raise AssertionError(f"memory callback: {access}")


def test_out_calls_the_callback(boot: Boot) -> None:
    seen: list[tuple[int, bool, bytes]] = []

    def io(access: IoAccess) -> None:
        seen.append((access.port, access.is_in, bytes(access.data)))

    vcpu = boot("66 b8 44 33 22 11 66 e7 e9 f4")  # mov eax,0x11223344; out 0xe9,eax; hlt
    vcpu.configure_callbacks(io, no_memory)
    taken = vcpu.run()
    assert isinstance(taken, IoExit)
    assert (taken.port, taken.operand_size, taken.is_in, taken.npc) == (0xE9, 4, False, 9)
    vcpu.assist_io()
    assert seen == [(0xE9, False, b"\x44\x33\x22\x11")]
    assert vcpu.run().reason is ExitReason.HALTED


def test_in_takes_what_the_callback_put_into_the_data(boot: Boot) -> None:
    def io(access: IoAccess) -> None:
        assert access.is_in
        access.data[:] = b"\xcd\xab"

    vcpu = boot("b8 ff ff e5 10 f4")  # mov ax,-1; in ax,0x10; hlt
    vcpu.configure_callbacks(io, no_memory)
    assert vcpu.run().reason is ExitReason.IO
    vcpu.assist_io()
    assert vcpu.run().reason is ExitReason.HALTED
    vcpu.getstate(StateFlag.GPRS)
    assert vcpu.state.gprs[Gpr.RAX] == 0xABCD


class DeviceBrokeError(Exception):
    pass


def test_what_the_callback_raises_comes_out_of_the_assist(boot: Boot) -> None:
    """Once: the next assist is not blamed for it."""

    def broken(access: IoAccess) -> None:
        raise DeviceBrokeError(f"port {access.port}")

    vcpu = boot("e6 07 e6 08 f4")
    vcpu.configure_callbacks(broken, no_memory)
    assert vcpu.run().reason is ExitReason.IO
    with pytest.raises(DeviceBrokeError, match="port 7"):
        vcpu.assist_io()
    vcpu.configure_callbacks(lambda access: None, no_memory)
    assert vcpu.run().reason is ExitReason.IO
    vcpu.assist_io()
    assert vcpu.run().reason is ExitReason.HALTED


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_not_only_exceptions_come_out(boot: Boot, error: type[BaseException]) -> None:
    def interrupted(access: IoAccess) -> None:
        raise error

    vcpu = boot("e6 07 f4")
    vcpu.configure_callbacks(interrupted, no_memory)
    vcpu.run()
    with pytest.raises(error):
        vcpu.assist_io()


def test_a_data_view_has_the_size_of_the_access(boot: Boot) -> None:
    def greedy(access: IoAccess) -> None:
        access.data[:] = bytes(5)

    vcpu = boot("e4 07 f4")
    vcpu.configure_callbacks(greedy, no_memory)
    vcpu.run()
    with pytest.raises(ValueError, match="different structures"):
        vcpu.assist_io()


def test_assists_without_their_exit_are_einval(boot: Boot) -> None:
    vcpu = boot("f4")
    vcpu.configure_callbacks(lambda access: None, no_memory)
    assert vcpu.run().reason is ExitReason.HALTED
    with pytest.raises(NvmmError, match=r"nvmm_assist_io\(machid=\d+, cpuid=0\): EINVAL"):
        vcpu.assist_io()
    with pytest.raises(NvmmError, match=r"nvmm_assist_mem\(machid=\d+, cpuid=0\): EINVAL"):
        vcpu.assist_mem()


def test_a_callback_finds_its_own_vcpu(library: Libnvmm, profile: str) -> None:
    """The C callback is one for all; two machines, two vCPUs each, run crosswise."""
    seen: list[str] = []

    def io(name: str) -> Callable[[IoAccess], None]:
        return lambda access: seen.append(f"{name}:{access.port}")

    with (
        Machine(library) as a,
        Machine(library) as b,
        HostMemory(PAGE_SIZE) as one,
        HostMemory(PAGE_SIZE) as two,
    ):
        vcpus = []
        for machine, name, memory in ((a, "a", one), (b, "b", two)):
            machine.hva_map(memory)
            machine.gpa_map(memory.hva, 0, PAGE_SIZE, Prot.READ | Prot.EXEC)
            memory.data[:2] = b"\xe6" + bytes([ord(name)])
            for index in (0, 1):
                vcpu = machine.create_vcpu(index)
                vcpu.state.segs[Segment.CS].base = 0
                vcpu.state.gprs[Gpr.RIP] = 0
                vcpu.setstate(StateFlag.SEGS | StateFlag.GPRS)
                vcpu.configure_callbacks(io(f"{name}{index}"), no_memory)
                vcpus.append(vcpu)
        for vcpu in vcpus:
            vcpu.run()
        for vcpu in reversed(vcpus):
            vcpu.assist_io()
    assert seen == [f"b1:{ord('b')}", f"b0:{ord('b')}", f"a1:{ord('a')}", f"a0:{ord('a')}"]


def test_memory_exit_tells_access_and_address(boot: Boot) -> None:
    vcpu = boot("a2 00 40 f4")  # mov [0x4000],al
    taken = vcpu.run()
    assert isinstance(taken, MemoryExit)
    assert (taken.prot, taken.gpa) == (Prot.WRITE, 0x4000)
    assert taken.state.rflags & 2


def test_diagnostics_count_what_the_interpreter_lacks(boot: Boot) -> None:
    vcpu = boot("f4")
    vcpu.run()
    diagnostic = vcpu.soft_diagnostic()
    assert diagnostic is not None
    assert (diagnostic.unimplemented, diagnostic.last_bytes) == (0, b"")


def test_dump_writes_to_the_process_output(boot: Boot, capfd: pytest.CaptureFixture[str]) -> None:
    boot("f4").dump()
    assert capfd.readouterr().out
