# SPDX-License-Identifier: BSD-2-Clause
"""The NVMM accelerator: what stands between an emulated PC and libnvmm.

spec/accelerator.md, a module a section:

==============  =======================================  ==========
accelerator.py  start-up, running a vCPU to an outcome   1
smp.py          running many, a thread each
vcpu.py         creating and destroying a vCPU;          2
                who is newer: the dirty flag             5
registers.py    the register file, to and from NVMM      3, 4
events.py       can an event go in; around each entry    6, 7, 8
exits.py        a handler an exit                        9
msrs.py         MSRs that reach userland                 10
callbacks.py    the assist callbacks                     11
loop.py         the loop; kick.py: getting out of it     12
lines.py        what a local APIC asks of its CPU
memory.py       the memory map                           13
snapshot.py     a stopped machine's state as a value     5
outcome.py      how a run ends; reports.py: failures
migration.py    why a running machine stays here         2
==============  =======================================  ==========

Of a board it knows `nvmmconf.board.interfaces` only.
"""

from nvmmconf.accel.accelerator import Accelerator, AcceleratorError
from nvmmconf.accel.migration import MigrationBlockers, MigrationError
from nvmmconf.accel.outcome import Control, Fault, Outcome, Stop
from nvmmconf.accel.registers import FpuRegisters, Registers, SegmentRegister
from nvmmconf.accel.requests import Request
from nvmmconf.accel.vcpu import AccelVcpu

__all__ = [
    "AccelVcpu",
    "Accelerator",
    "AcceleratorError",
    "Control",
    "Fault",
    "FpuRegisters",
    "MigrationBlockers",
    "MigrationError",
    "Outcome",
    "Registers",
    "Request",
    "SegmentRegister",
    "Stop",
]
