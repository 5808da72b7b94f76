# SPDX-License-Identifier: BSD-2-Clause
"""What `<nvmm.h>` says: constants as enums, and libnvmm's functions.

`ffi` and `lib` are cffi's objects for `libnvmm.cdef.h`; `lib.call_NAME(table, ...)`
calls `nvmm_NAME(...)` of the library that `open_library` opened.  Everything
above this package goes through it, whichever libnvmm is below.
"""

from nvmmconf.abi._libnvmm import ffi, lib
from nvmmconf.abi.constants import (
    Cr,
    Dr,
    EventType,
    ExitReason,
    Gpr,
    Msr,
    Prot,
    Segment,
    StateFlag,
    VcpuConf,
    VcpuConfSupport,
)
from nvmmconf.abi.library import (
    Libnvmm,
    LibraryChoice,
    LibraryError,
    bundled_path,
    choose_library,
    include_path,
    open_library,
)
from nvmmconf.abi.soft import SoftEntry, SoftKind, list_soft, soft_problem

__all__ = [
    "Cr",
    "Dr",
    "EventType",
    "ExitReason",
    "Gpr",
    "Libnvmm",
    "LibraryChoice",
    "LibraryError",
    "Msr",
    "Prot",
    "Segment",
    "SoftEntry",
    "SoftKind",
    "StateFlag",
    "VcpuConf",
    "VcpuConfSupport",
    "bundled_path",
    "choose_library",
    "ffi",
    "include_path",
    "lib",
    "list_soft",
    "open_library",
    "soft_problem",
]
