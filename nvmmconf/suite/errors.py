# SPDX-License-Identifier: BSD-2-Clause
"""What a case may end with beside an assertion."""

from __future__ import annotations


class GuestHangError(Exception):
    """The watchdog stopped a guest that used up its time."""


class UnimplementedWarning(UserWarning):
    """The libnvmm in software lacks an instruction that a guest used; the guest got #UD."""
