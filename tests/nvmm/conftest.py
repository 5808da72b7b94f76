# SPDX-License-Identifier: BSD-2-Clause
"""Machines on the bundled libnvmm."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from nvmmconf.abi import Gpr, Libnvmm, LibraryChoice, Prot, Segment, StateFlag, bundled_path
from nvmmconf.abi import open_library as open_it
from nvmmconf.nvmm import PAGE_SIZE, HostMemory, Machine, Vcpu, init

Boot = Callable[[str], Vcpu]


@pytest.fixture(scope="session")
def library() -> Libnvmm:
    """The bundled libnvmm, initialised."""
    library = open_it(LibraryChoice(str(bundled_path()), "the tests'"))
    init(library)
    return library


@pytest.fixture(params=["v1-svm", "v2-svm"])
def profile(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Machines made during the test are of this version."""
    monkeypatch.setenv("NVMM_SOFT_PROFILE", request.param)
    return str(request.param)


@pytest.fixture
def machine(library: Libnvmm, profile: str) -> Iterator[Machine]:
    """A machine without memory."""
    with Machine(library) as machine:
        yield machine


@pytest.fixture
def memory(machine: Machine) -> Iterator[HostMemory]:
    """Two pages at GPA 0."""
    with HostMemory(2 * PAGE_SIZE) as memory:
        machine.hva_map(memory)
        machine.gpa_map(memory.hva, 0, memory.size, Prot.READ | Prot.WRITE | Prot.EXEC)
        yield memory


@pytest.fixture
def boot(machine: Machine, memory: HostMemory) -> Boot:
    """boot("e6 e9 f4") is a vCPU about to run that code at 0:0 in real mode."""

    def boot(code: str) -> Vcpu:
        data = bytes.fromhex(code)
        memory.data[: len(data)] = data
        vcpu = machine.create_vcpu(0)
        vcpu.getstate(StateFlag.ALL)
        vcpu.state.segs[Segment.CS].selector = 0
        vcpu.state.segs[Segment.CS].base = 0
        vcpu.state.gprs[Gpr.RIP] = 0
        vcpu.setstate(StateFlag.SEGS | StateFlag.GPRS)
        return vcpu

    return boot
