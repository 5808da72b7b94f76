# SPDX-License-Identifier: BSD-2-Clause
"""A-VCPU-2: a machine on NVMM cannot be moved while it runs."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

import pytest

from nvmmconf.accel import Accelerator, AcceleratorError, MigrationBlockers, MigrationError

MakeRig = Callable[..., Any]


def test_a_vcpu_2_registered_once_by_the_first_vcpu(rig: MakeRig) -> None:
    one = rig("f4")
    one.accelerator.create_vcpu(1)
    with pytest.raises(MigrationError) as raised:
        one.accelerator.migration.check()
    assert str(raised.value).count("NVMM") == 1


def test_a_vcpu_2_registered_once_though_the_first_vcpu_fails(rig: MakeRig, looks: Any) -> None:
    one = rig("f4")
    with Accelerator(looks.library, one.pc.ports, one.pc.memory, one.control) as accelerator:
        looks.fail("vcpu_create 0", errno.ENOMEM)
        with pytest.raises(AcceleratorError):
            accelerator.create_vcpu(0)
        looks.fail("", 0)
        accelerator.create_vcpu(0)
        with pytest.raises(MigrationError) as raised:
            accelerator.migration.check()
    assert str(raised.value).count("NVMM") == 1


def test_nothing_is_blocked_where_there_is_no_vcpu() -> None:
    MigrationBlockers().check()


def test_a_vcpu_2_refused_there_is_no_vcpu(rig: MakeRig, bundled: Any, looks: Any) -> None:
    """A machine that is to be movable: creating fails each time, and nothing is made or freed
    (BH-100: the field's accelerator freed the error twice)."""
    board = rig("f4").pc
    control = rig("f4").control
    blockers = MigrationBlockers(movable=True)
    looks.forget()
    with Accelerator(
        looks.library, board.ports, board.memory, control, migration=blockers
    ) as accelerator:
        for _ in range(2):
            with pytest.raises(AcceleratorError, match="is to be movable"):
                accelerator.create_vcpu(0)
        assert accelerator.vcpus == []
        assert not [call for call in looks.calls if call.startswith("vcpu_")]
    blockers.check()
