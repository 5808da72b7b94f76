# SPDX-License-Identifier: BSD-2-Clause
"""What may be pending on a vCPU."""

from __future__ import annotations

import enum


class Request(enum.Flag):
    """Asynchronous events pending on a vCPU."""

    HARD = enum.auto()
    """The interrupt controller has an interrupt."""
    NMI = enum.auto()
    SMI = enum.auto()
    INIT = enum.auto()
    SIPI = enum.auto()
    POLL = enum.auto()
    """The local APIC wants to be polled."""
    TPR = enum.auto()
    """A TPR access is to be reported."""
