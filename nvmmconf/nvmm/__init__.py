# SPDX-License-Identifier: BSD-2-Clause
"""libnvmm for Python people: Machine, Vcpu, exits as values, errno as NvmmError.

Each method is one call of libnvmm(3) under its name there without the prefix;
nothing is added but ownership (context managers) and types.
"""

from nvmmconf.nvmm.capability import Capability, init, query_capability
from nvmmconf.nvmm.control import MACH_INFO, MACH_INFO_SIZE, MachineInfo, control, machine_info
from nvmmconf.nvmm.errors import NvmmError
from nvmmconf.nvmm.exits import (
    BareExit,
    Exit,
    ExitState,
    InsnExit,
    InvalidExit,
    IoExit,
    MemoryExit,
    RdmsrExit,
    WrmsrExit,
)
from nvmmconf.nvmm.machine import HostPages, Machine
from nvmmconf.nvmm.memory import PAGE_SIZE, HostMemory
from nvmmconf.nvmm.owned import Owned
from nvmmconf.nvmm.state import STATE_SIZE, SegmentRecord, VcpuState, get_bytes, put_bytes
from nvmmconf.nvmm.vcpu import (
    CpuidMask,
    IoAccess,
    MemAccess,
    SoftDiagnostic,
    Vcpu,
    VcpuGoneError,
)

__all__ = [
    "MACH_INFO",
    "MACH_INFO_SIZE",
    "PAGE_SIZE",
    "STATE_SIZE",
    "BareExit",
    "Capability",
    "CpuidMask",
    "Exit",
    "ExitState",
    "HostMemory",
    "HostPages",
    "InsnExit",
    "InvalidExit",
    "IoAccess",
    "IoExit",
    "Machine",
    "MachineInfo",
    "MemAccess",
    "MemoryExit",
    "NvmmError",
    "Owned",
    "RdmsrExit",
    "SegmentRecord",
    "SoftDiagnostic",
    "Vcpu",
    "VcpuGoneError",
    "VcpuState",
    "WrmsrExit",
    "control",
    "get_bytes",
    "init",
    "machine_info",
    "put_bytes",
    "query_capability",
]
