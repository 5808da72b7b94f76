# SPDX-License-Identifier: BSD-2-Clause
"""Build step: turn `libnvmm.cdef.h` and `binding.c` into the C source of `_libnvmm`.

    python generate.py OUTPUT.c

Run by CMakeLists.txt; needs cffi and nothing of this package.
"""

from __future__ import annotations

import sys
from pathlib import Path

from cffi import FFI


def build_ffi() -> FFI:
    """Return the FFI builder of the extension module `nvmmconf.abi._libnvmm`."""
    here = Path(__file__).parent
    ffi = FFI()
    ffi.cdef((here / "libnvmm.cdef.h").read_text())
    ffi.set_source("nvmmconf.abi._libnvmm", (here / "binding.c").read_text())
    return ffi


if __name__ == "__main__":
    build_ffi().emit_c_code(sys.argv[1])
