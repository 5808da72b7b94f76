# SPDX-License-Identifier: BSD-2-Clause
"""What a local APIC asks of its CPU (`nvmmconf.board.interfaces.CpuLines`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nvmmconf.accel.requests import Request

if TYPE_CHECKING:
    from nvmmconf.accel.vcpu import AccelVcpu


class VcpuLines:
    """The pins of a vCPU; from any thread, under the big lock, which each takes."""

    def __init__(self, vcpu: AccelVcpu) -> None:
        self._vcpu = vcpu

    def interrupt(self, asserted: bool) -> None:
        """The interrupt request line.  A level: it stays until taken off or acknowledged."""
        with self._vcpu.accelerator.lock:
            if not asserted:
                self._vcpu.requests &= ~Request.HARD
            elif Request.HARD not in self._vcpu.requests:
                self._vcpu.request(Request.HARD)

    def nmi(self) -> None:
        """An NMI; a second one before the first is taken is the same (SDM 3A 6.7.1)."""
        self._vcpu.request(Request.NMI)

    def smi(self) -> None:
        """An SMI, which the next entry drops (A-PRE-6, BH-102)."""
        self._vcpu.request(Request.SMI)

    def init(self) -> None:
        """INIT; a start-up IPI that the CPU has not taken yet is forgotten with all else."""
        with self._vcpu.accelerator.lock:
            self._vcpu.requests &= ~Request.SIPI
            self._vcpu.request(Request.INIT)

    def start_up(self, vector: int) -> None:
        """SIPI: taken by a CPU that waits for one, else dropped (SDM 3A 9.4.1).

        The second of INIT-SIPI-SIPI finds no CPU waiting and does nothing; the
        field's accelerator left the first pending, so that it was taken again
        and again (BH-95).
        """
        vcpu = self._vcpu
        with vcpu.accelerator.lock:
            # An application processor that has not taken its INIT yet will wait.
            about_to_wait = Request.INIT in vcpu.requests and not vcpu.is_bootstrap
            if Request.SIPI in vcpu.requests or not (vcpu.waiting_for_sipi or about_to_wait):
                return
            vcpu.sipi_vector = vector
            vcpu.request(Request.SIPI)
