# SPDX-License-Identifier: BSD-2-Clause
"""An accelerator with a small board and a vCPU, on the bundled libnvmm or a look-alike of it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).resolve().parents[1] / "abi"))
from lookalike import LookAlike, NoCompilerError

from nvmmconf.abi import Cr, Gpr, Libnvmm, LibraryChoice, Segment, bundled_path, ffi
from nvmmconf.abi import open_library as open_it
from nvmmconf.accel import Accelerator, Control, Outcome, Registers, SegmentRegister
from nvmmconf.board import TestBoard
from nvmmconf.nvmm import PAGE_SIZE, HostMemory
from nvmmconf.trace import Trace

RAM_SIZE = 4 * PAGE_SIZE


@pytest.fixture(scope="session")
def bundled() -> Libnvmm:
    """The bundled libnvmm."""
    return open_it(LibraryChoice(str(bundled_path()), "the tests'"))


@pytest.fixture(scope="session")
def _looks(tmp_path_factory: pytest.TempPathFactory) -> LookAlike:
    try:
        return LookAlike(tmp_path_factory.mktemp("look alike"))
    except NoCompilerError as error:
        pytest.skip(str(error))


@pytest.fixture
def looks(_looks: LookAlike) -> Iterator[LookAlike]:
    """A libnvmm that hands on to the bundled one, writes down calls and can be told to fail."""
    _looks.reset()
    yield _looks
    _looks.reset()


@pytest.fixture(params=["v1-svm", "v2-svm"])
def profile(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Machines made during the test are of this version."""
    monkeypatch.setenv("NVMM_SOFT_PROFILE", request.param)
    return str(request.param)


class Apic:
    """A local APIC that remembers what was done to it."""

    def __init__(self) -> None:
        self.tpr = 0
        self.base = 0xFEE00900
        self.acknowledged = 0
        self.polled = 0

    def acknowledge(self) -> int:
        self.acknowledged += 1
        return 0x20

    def poll(self) -> None:
        self.polled += 1


def flat_real_mode() -> Registers:
    """Real mode, every base 0, RIP 0."""
    registers = Registers()
    for segment in Segment:
        registers.seg[segment] = SegmentRegister.data(0)
    registers.seg[Segment.CS] = SegmentRegister.code(0)
    registers.seg[Segment.LDT] = SegmentRegister(flags=0x8200)
    registers.seg[Segment.TR] = SegmentRegister(flags=0x8300)
    registers.cr[Cr.CR0] = 0x60000010
    registers.gpr[Gpr.RFLAGS] = 2
    return registers


class Rig:
    """A PC of four pages, an accelerator and vCPU 0, which is about to run `code` at 0:0."""

    def __init__(self, library: Libnvmm, code: str, apic: Apic | None = None) -> None:
        self._resources = ExitStack()
        self.control = Control()
        self.trace = Trace()
        self.ram = self._resources.enter_context(HostMemory(RAM_SIZE))
        self.pc = TestBoard(self.ram, self.control.request_exit)
        self.accelerator = self._resources.enter_context(
            Accelerator(library, self.pc.ports, self.pc.memory, self.control, self.trace)
        )
        self.apic = apic
        self.vcpu = self.accelerator.create_vcpu(0, apic)
        self.vcpu.registers = flat_real_mode()
        self.put(0, code)

    def put(self, gpa: int, code: str) -> None:
        """Write hexadecimal bytes to RAM."""
        data = bytes.fromhex(code)
        self.ram.data[gpa : gpa + len(data)] = data

    def run(self) -> Outcome:
        return self.accelerator.run(self.vcpu)

    def gpr(self, gpr: Gpr) -> int:
        return self.vcpu.registers.gpr[gpr]

    @property
    def reasons(self) -> list[str]:
        """The names of the exits taken."""
        return [one.exit.reason_name for one in self.trace.exits]

    def close(self) -> None:
        self._resources.close()


MakeRig = Callable[..., Rig]


@pytest.fixture
def rig(bundled: Libnvmm, profile: str) -> Iterator[MakeRig]:
    """rig(code, library=..., apic=...) on both versions, closed after the test."""
    with ExitStack() as made:

        def make(code: str = "f4", library: Libnvmm = bundled, apic: Apic | None = None) -> Rig:
            one = Rig(library, code, apic)
            made.callback(one.close)
            return one

        yield make


@pytest.fixture
def apic() -> Apic:
    return Apic()


def make_exit(reason: int, rflags: int = 2, cr8: int = 0, **state: int) -> Any:
    """A `struct nvmm_x86_exit *` for `LookAlike.returns`."""
    record = ffi.new("struct nvmm_x86_exit *")
    record.reason = reason
    record.exitstate.rflags = rflags
    record.exitstate.cr8 = cr8
    for name, value in state.items():
        setattr(record.exitstate, name, value)
    return record


@pytest.fixture
def exit_of() -> Callable[..., Any]:
    """exit_of(reason, rflags=2, cr8=0, int_shadow=1, ...)."""
    return make_exit
