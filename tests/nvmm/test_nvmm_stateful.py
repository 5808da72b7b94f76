# SPDX-License-Identifier: BSD-2-Clause
"""Any order of the wrapper's calls, against a model that knows what must come of each."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from nvmmconf.abi import EventType, ExitReason, Gpr, Libnvmm, Prot, Segment, StateFlag
from nvmmconf.nvmm import (
    PAGE_SIZE,
    BareExit,
    CpuidMask,
    HostMemory,
    IoExit,
    Machine,
    NvmmError,
    Vcpu,
    VcpuGoneError,
)

PAGES = 8
RWX = Prot.READ | Prot.WRITE | Prot.EXEC
OUT, HLT, INC = b"\xe6\x80", b"\xf4", b"\x43"
pages = st.integers(0, PAGES - 1)
cpuids = st.integers(0, 3)


class Wrapper(RuleBasedStateMachine):
    """One machine, its memory and up to four vCPUs."""

    library: Libnvmm
    gone = Bundle("gone")

    @initialize()
    def begin(self) -> None:
        self.stack = contextlib.ExitStack()
        self.machine = self.stack.enter_context(Machine(self.library))
        self.memory = self.stack.enter_context(HostMemory(PAGES * PAGE_SIZE))
        self.machine.hva_map(self.memory)
        self.machine.gpa_map(self.memory.hva, 0, PAGE_SIZE, RWX)
        self.areas = {0: (0, 1)}  # gpa page: memory page, pages
        self.vcpus: dict[int, Vcpu] = {}
        self.leaves: dict[int, set[int]] = {}
        self.written: list[int] = []

    def teardown(self) -> None:
        if hasattr(self, "stack"):
            self.stack.close()

    def fails(self, number: int, call: Callable[[], object]) -> None:
        with pytest.raises(NvmmError) as raised:
            call()
        assert raised.value.errno == number

    @rule(cpuid=cpuids)
    def create(self, cpuid: int) -> None:
        if cpuid in self.vcpus:
            self.fails(errno.EBUSY, lambda: self.machine.create_vcpu(cpuid))
            return
        vcpu = self.vcpus[cpuid] = self.machine.create_vcpu(cpuid)
        self.leaves[cpuid] = set()
        vcpu.configure_callbacks(
            lambda access: self.written.append(access.port), lambda access: None
        )
        vcpu.getstate(StateFlag.ALL)
        assert vcpu.state.gprs[Gpr.RIP] == 0xFFF0

    @precondition(lambda self: self.vcpus)
    @rule(target=gone, data=st.data())
    def destroy(self, data: st.DataObject) -> Vcpu:
        vcpu = self.vcpus.pop(data.draw(st.sampled_from(sorted(self.vcpus))))
        vcpu.destroy()
        return vcpu

    @rule(vcpu=consumes(gone))
    def use_a_gone_one(self, vcpu: Vcpu) -> None:
        for use in (vcpu.run, lambda: vcpu.getstate(StateFlag.ALL), lambda: vcpu.state):
            with pytest.raises((VcpuGoneError, NvmmError)):
                use()
        vcpu.destroy()  # twice is once

    @precondition(lambda self: self.vcpus)
    @rule(data=st.data(), outs=st.integers(0, 3), incs=st.integers(0, 5))
    def run_a_guest(self, data: st.DataObject, outs: int, incs: int) -> None:
        vcpu = self.vcpus[data.draw(st.sampled_from(sorted(self.vcpus)))]
        code = INC * incs + OUT * outs + HLT
        self.memory.data[: len(code)] = code
        vcpu.getstate(StateFlag.ALL)
        vcpu.state.segs[Segment.CS].base = 0
        vcpu.state.segs[Segment.CS].selector = 0
        vcpu.state.gprs[Gpr.RIP] = 0
        vcpu.state.gprs[Gpr.RBX] = 100
        vcpu.state.gprs[Gpr.RFLAGS] = 2
        vcpu.setstate(StateFlag.SEGS | StateFlag.GPRS)
        self.written.clear()
        while True:
            taken = vcpu.run()
            if isinstance(taken, IoExit):
                assert taken.port == 0x80
                vcpu.assist_io()
            elif taken.reason != ExitReason.NONE:
                break
        assert isinstance(taken, BareExit)
        assert taken.reason == ExitReason.HALTED
        assert self.written == [0x80] * outs
        vcpu.getstate(StateFlag.GPRS)
        assert vcpu.state.gprs[Gpr.RBX] == 100 + incs
        assert vcpu.state.gprs[Gpr.RIP] == len(code)

    @precondition(lambda self: self.vcpus)
    @rule(data=st.data(), vector=st.sampled_from([2, 32, 255]))
    def inject_what_is_refused(self, data: st.DataObject, vector: int) -> None:
        vcpu = self.vcpus[data.draw(st.sampled_from(sorted(self.vcpus)))]
        vcpu.inject(EventType.EXCP, vector)

        def run() -> None:
            while vcpu.run().reason == ExitReason.NONE:
                pass

        self.fails(errno.EINVAL, run)

    @precondition(lambda self: self.vcpus)
    @rule(data=st.data(), leaf=st.integers(0, 40))
    def mask(self, data: st.DataObject, leaf: int) -> None:
        cpuid = data.draw(st.sampled_from(sorted(self.vcpus)))
        leaves = self.leaves[cpuid]
        configure = self.vcpus[cpuid].configure_cpuid
        if leaf not in leaves and len(leaves) == 32:
            self.fails(errno.ENOBUFS, lambda: configure(CpuidMask(leaf=leaf)))
        else:
            configure(CpuidMask(leaf=leaf))
            leaves.add(leaf)

    @rule(gpa=st.integers(1, 12), page=pages, count=st.integers(1, 3))
    def map(self, gpa: int, page: int, count: int) -> None:
        count = min(count, PAGES - page)
        taken = {p for first, (_, n) in self.areas.items() for p in range(first, first + n)}
        map_it = self.machine.gpa_map
        hva = self.memory.hva + page * PAGE_SIZE
        arguments = (hva, gpa * PAGE_SIZE, count * PAGE_SIZE, Prot.READ)
        if taken & set(range(gpa, gpa + count)):
            self.fails(errno.EINVAL, lambda: map_it(*arguments))
        else:
            map_it(*arguments)
            self.areas[gpa] = (page, count)

    @precondition(lambda self: len(self.areas) > 1)
    @rule(data=st.data())
    def unmap(self, data: st.DataObject) -> None:
        gpa = data.draw(st.sampled_from(sorted(set(self.areas) - {0})))
        page, count = self.areas.pop(gpa)
        hva = self.memory.hva + page * PAGE_SIZE
        self.machine.gpa_unmap(hva, gpa * PAGE_SIZE, count * PAGE_SIZE)

    @rule(gpa=st.integers(0, 16 * PAGE_SIZE))
    def look_up(self, gpa: int) -> None:
        for first, (page, count) in self.areas.items():
            if first * PAGE_SIZE <= gpa < (first + count) * PAGE_SIZE:
                hva, prot = self.machine.gpa_to_hva(gpa)
                assert hva == self.memory.hva + (page - first) * PAGE_SIZE + gpa
                assert prot == (RWX if first == 0 else Prot.READ)
                return
        self.fails(errno.ENOENT, lambda: self.machine.gpa_to_hva(gpa))

    @invariant()
    def vcpus_are_their_own(self) -> None:
        for cpuid, vcpu in getattr(self, "vcpus", {}).items():
            assert vcpu.cpuid == cpuid


@pytest.mark.parametrize("chaos", ["", "5"])
def test_any_order_of_calls(library: Libnvmm, monkeypatch: pytest.MonkeyPatch, chaos: str) -> None:
    monkeypatch.setenv("NVMM_SOFT_CHAOS", chaos)
    monkeypatch.setenv("NVMM_SOFT_PROFILE", "v2-svm")
    Wrapper.library = library
    run_state_machine_as_test(
        Wrapper,
        settings=settings(
            max_examples=int(os.environ.get("NVMMCONF_STATEFUL_EXAMPLES", "40")),
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
