# SPDX-License-Identifier: BSD-2-Clause
"""Section 2: creating and destroying a vCPU (A-VCPU)."""

from __future__ import annotations

import errno
import signal
from collections.abc import Callable
from typing import Any

import pytest
from lookalike import LookAlike

from nvmmconf.abi import Gpr, ffi
from nvmmconf.accel import AcceleratorError, Stop, kick

MakeRig = Callable[..., Any]


def test_a_vcpu_1_the_signal_is_unblocked_on_the_thread_that_runs_it(rig: MakeRig) -> None:
    one = rig("f4")
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {kick.KICK_SIGNAL})
    try:
        assert one.run().reason is Stop.HALTED
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, set())
        assert kick.KICK_SIGNAL not in blocked
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    assert kick.KICK_SIGNAL == signal.SIGUSR1
    assert signal.getsignal(signal.SIGUSR1) is kick._on_signal


def test_a_vcpu_3_a_failing_create(rig: MakeRig, looks: LookAlike) -> None:
    one = rig(library=looks.library)
    looks.fail("vcpu_create 1", errno.ENOMEM)
    with pytest.raises(AcceleratorError, match=r"nvmm_vcpu_create\(.*cpuid=1\): ENOMEM") as raised:
        one.accelerator.create_vcpu(1)
    assert raised.value.number == errno.ENOMEM
    assert one.accelerator.vcpus == [one.vcpu]
    looks.fail("", 0)
    assert one.accelerator.create_vcpu(1).dirty


def test_a_vcpu_3_its_index_is_the_cpuid(rig: MakeRig, looks: LookAlike) -> None:
    one = rig(library=looks.library)
    looks.forget()
    one.accelerator.create_vcpu(5)
    assert looks.calls[0] == "vcpu_create 5"
    with pytest.raises(AcceleratorError) as raised:
        one.accelerator.create_vcpu(5)
    assert raised.value.number == errno.EBUSY


def test_a_vcpu_4_what_is_configured(rig: MakeRig, looks: LookAlike) -> None:
    """The whole structure as it arrives, by spec section 3: options, leaf, set, delete."""
    rig(library=looks.library)
    conf = ffi.cast("uint32_t *", looks.record("cpuid_conf", "struct nvmm_vcpu_conf_cpuid"))
    edx = 1 << 7 | 1 << 14 | 1 << 12
    assert list(conf[0:10]) == [1, 1, 0, 0, 0, edx, 0, 0, 0, 0]


def test_a_vcpu_4_what_the_guest_sees(rig: MakeRig) -> None:
    one = rig("66 b8 01 00 00 00 0f a2 f4")  # mov eax,1; cpuid; hlt
    plain = one.accelerator.machine.create_vcpu(1)  # without the configuration
    assert one.run().reason is Stop.HALTED
    ffi.memmove(plain.state, one.vcpu.vcpu.state, ffi.sizeof("struct nvmm_x64_state"))
    plain.state.gprs[Gpr.RIP] = 0
    plain.setstate(0x7F)
    plain.run()
    plain.getstate(0x7F)
    bits = 1 << 7 | 1 << 14 | 1 << 12
    assert one.gpr(Gpr.RDX) == plain.state.gprs[Gpr.RDX] | bits
    assert plain.state.gprs[Gpr.RDX] & bits == 0
    assert one.gpr(Gpr.RCX) == plain.state.gprs[Gpr.RCX]


def test_a_vcpu_5_both_callbacks_are_configured(rig: MakeRig, looks: LookAlike) -> None:
    one = rig(library=looks.library)
    assert looks.calls.count("vcpu_configure 0") == 1
    assert one.vcpu.vcpu.io_callback is not None
    assert one.vcpu.vcpu.mem_callback is not None


def test_a_vcpu_6_tpr_exits_where_supported(rig: MakeRig, looks: LookAlike) -> None:
    looks.set_int("tpr", 1)
    rig(library=looks.library)
    assert looks.calls.count("vcpu_configure 201") == 1
    conf = ffi.cast("uint32_t *", looks.record("tpr_conf", "struct nvmm_vcpu_conf_tpr"))
    assert conf[0] == 1


def test_a_vcpu_6_none_where_not(rig: MakeRig, looks: LookAlike) -> None:
    rig(library=looks.library)
    assert "vcpu_configure 201" not in looks.calls
    assert "vcpu_configure 200" in looks.calls


@pytest.mark.parametrize("op", [0, 200, 201])
def test_a_vcpu_7_a_failing_configure(rig: MakeRig, looks: LookAlike, op: int) -> None:
    looks.set_int("tpr", 1)
    one = rig(library=looks.library)
    registered = list(kick._vcpus)
    looks.forget()
    looks.fail(f"vcpu_configure {op}", errno.ENOBUFS)
    with pytest.raises(AcceleratorError, match=r"nvmm_vcpu_configure\(.*cpuid=1.*ENOBUFS") as e:
        one.accelerator.create_vcpu(1)
    assert e.value.number == errno.ENOBUFS
    assert looks.calls[0] == "vcpu_create 1"
    assert looks.calls[-1] == "vcpu_destroy 1"
    assert one.accelerator.vcpus == [one.vcpu]
    assert kick._vcpus == registered


def test_a_vcpu_8_a_new_vcpu_is_loaded_before_its_first_run(rig: MakeRig, looks: LookAlike) -> None:
    one = rig("f4", library=looks.library)
    assert one.vcpu.dirty
    one.vcpu.registers.gpr[Gpr.RBX] = 0x1234
    looks.forget()
    assert one.run().reason is Stop.HALTED
    assert looks.calls.index("vcpu_setstate 0x5f") < looks.calls.index("vcpu_run")
    assert one.gpr(Gpr.RBX) == 0x1234


def test_a_vcpu_9_destroying(rig: MakeRig, looks: LookAlike) -> None:
    one = rig(library=looks.library)
    vcpu = one.accelerator.create_vcpu(1)
    assert vcpu in kick._vcpus
    looks.forget()
    vcpu.destroy()
    vcpu.destroy()
    assert looks.calls == ["vcpu_destroy 1"]
    assert vcpu not in kick._vcpus
    assert one.vcpu in kick._vcpus
