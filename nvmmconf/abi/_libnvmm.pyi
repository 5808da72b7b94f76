# SPDX-License-Identifier: BSD-2-Clause
# The compiled module; its names are those of libnvmm.cdef.h, which cffi checks.
from typing import Any

ffi: Any
lib: Any
