# SPDX-License-Identifier: BSD-2-Clause
"""What is written down of a vCPU for a replay."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from nvmmconf.accel.vcpu import AccelVcpu


class Journal(Protocol):
    """Looks at a vCPU where what others asked of it counts: before each entry."""

    def look(self, vcpu: AccelVcpu) -> None:
        """Called at the top of each pass, before anything is decided."""
