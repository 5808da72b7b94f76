# SPDX-License-Identifier: BSD-2-Clause
"""What is written down of a vCPU for a replay (nvmmconf.trace.recording)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from nvmmconf.accel.outcome import Outcome
    from nvmmconf.accel.vcpu import AccelVcpu


class Journal(Protocol):
    """Is told where what others have asked of a vCPU counts.  Both with the big lock held."""

    def look(self, vcpu: AccelVcpu) -> None:
        """The loop is about to look at the vCPU's requests."""

    def ended(self, vcpu: AccelVcpu, outcome: Outcome) -> None:
        """The vCPU has left the guest for `outcome`."""
