# SPDX-License-Identifier: BSD-2-Clause
"""CPUID as a guest sees it under the accelerator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from nvmmconf.abi import Cr, Gpr
from nvmmconf.suite import requirement

CPUID_1 = "66 b8 01 00 00 00 0f a2 f4"  # mov eax, 1; cpuid; hlt
CR4_OSXSAVE = 1 << 18
XSAVE, OSXSAVE = 1 << 26, 1 << 27


@requirement("K-CPUID-6")
@pytest.mark.parametrize("cr4", [0, CR4_OSXSAVE])
def test_osxsave_follows_cr4(rig: Callable[..., Any], cr4: int) -> None:
    """SDM 2A CPUID, leaf 1 ECX bit 27: set where CR4.OSXSAVE is, on a processor with XSAVE."""
    one = rig(CPUID_1)
    one.vcpu.registers.cr[Cr.CR4] = cr4
    one.run()
    ecx = one.gpr(Gpr.RCX)
    assert ecx & XSAVE
    assert bool(ecx & OSXSAVE) is bool(cr4)


@requirement("A-VCPU-4")
def test_a_vcpu_4_mce_mca_and_mtrr_are_shown(rig: Callable[..., Any]) -> None:
    """Leaf 1 EDX bits 7, 12 and 14, which the kernel hides by itself (K-CPUID-5)."""
    one = rig(CPUID_1)
    one.run()
    shown = one.gpr(Gpr.RDX)
    assert shown & (1 << 7 | 1 << 12 | 1 << 14) == 1 << 7 | 1 << 12 | 1 << 14
