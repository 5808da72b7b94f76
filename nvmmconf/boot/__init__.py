# SPDX-License-Identifier: BSD-2-Clause
"""Booting foreign images: Multiboot 1, Linux boot protocol, flat binaries, a BIOS.

The loaders are pure: image bytes in, a plan out (what to write where, and the
registers).  `machine.py` makes the PC and carries a plan out.
"""

from nvmmconf.boot.bios import BiosPlan, load_bios
from nvmmconf.boot.errors import BootError
from nvmmconf.boot.flat import FlatMode, load_flat
from nvmmconf.boot.linux import is_linux, load_linux
from nvmmconf.boot.multiboot import MapEntry, MapType, Module, find_header, load_multiboot
from nvmmconf.boot.plan import BootPlan, MemoryWrite, Ram

__all__ = [
    "BiosPlan",
    "BootError",
    "BootPlan",
    "FlatMode",
    "MapEntry",
    "MapType",
    "MemoryWrite",
    "Module",
    "Ram",
    "find_header",
    "is_linux",
    "load_bios",
    "load_flat",
    "load_linux",
    "load_multiboot",
]
