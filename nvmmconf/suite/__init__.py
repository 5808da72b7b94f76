# SPDX-License-Identifier: BSD-2-Clause
"""What a case is written with; docs/writing-cases.md says how.

`requirement`, `needs` and `modes` say what a case proves, needs and runs in; its
`vm` argument is a `VirtualMachine`, or it takes `library`, `machine`, `vcpu`.
"""

from nvmmconf.abi import (
    Cr,
    Dr,
    EventType,
    ExitReason,
    Gpr,
    Libnvmm,
    Msr,
    Prot,
    Segment,
    StateFlag,
    VcpuConf,
    VcpuConfSupport,
)
from nvmmconf.accel import FpuRegisters, Outcome, Registers, SegmentRegister, Stop
from nvmmconf.guest import Mode
from nvmmconf.nvmm import (
    PAGE_SIZE,
    BareExit,
    Capability,
    CpuidMask,
    ExitState,
    HostMemory,
    InsnExit,
    InvalidExit,
    IoAccess,
    IoExit,
    Machine,
    MemAccess,
    MemoryExit,
    NvmmError,
    RdmsrExit,
    Vcpu,
    WrmsrExit,
)
from nvmmconf.suite.address import Address
from nvmmconf.suite.board import Mmio, MmioAccess, PortAccess
from nvmmconf.suite.checks import check, expect_errno
from nvmmconf.suite.errors import GuestHangError, UnimplementedWarning
from nvmmconf.suite.isolated import ChildEnd, isolated
from nvmmconf.suite.marker import Level, modes, needs, requirement
from nvmmconf.suite.prepared import PreparedGuest
from nvmmconf.suite.run import VmRun
from nvmmconf.suite.state import InterruptState, KernelState, kernel_state
from nvmmconf.suite.stubs import Frame, Stubs
from nvmmconf.suite.target import Target
from nvmmconf.suite.vm import VirtualMachine

__all__ = [
    "PAGE_SIZE",
    "Address",
    "BareExit",
    "Capability",
    "ChildEnd",
    "CpuidMask",
    "Cr",
    "Dr",
    "EventType",
    "ExitReason",
    "ExitState",
    "FpuRegisters",
    "Frame",
    "Gpr",
    "GuestHangError",
    "HostMemory",
    "InsnExit",
    "InterruptState",
    "InvalidExit",
    "IoAccess",
    "IoExit",
    "KernelState",
    "Level",
    "Libnvmm",
    "Machine",
    "MemAccess",
    "MemoryExit",
    "Mmio",
    "MmioAccess",
    "Mode",
    "Msr",
    "NvmmError",
    "Outcome",
    "PortAccess",
    "PreparedGuest",
    "Prot",
    "RdmsrExit",
    "Registers",
    "Segment",
    "SegmentRegister",
    "StateFlag",
    "Stop",
    "Stubs",
    "Target",
    "UnimplementedWarning",
    "Vcpu",
    "VcpuConf",
    "VcpuConfSupport",
    "VirtualMachine",
    "VmRun",
    "WrmsrExit",
    "check",
    "expect_errno",
    "isolated",
    "kernel_state",
    "modes",
    "needs",
    "requirement",
]
