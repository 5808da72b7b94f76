# SPDX-License-Identifier: BSD-2-Clause
"""Guests: from template to image, and what an image says about itself.

library = GuestLibrary(Path("guests"), Path("build/guests"))
image = library.image("hlt", Mode.LONG64)
image = library.image("smp", Mode.PROT32, cpus=4)
image = library.inline("mov {{ ax }}, {{ value }}\nhlt", Mode.REAL16, value=5)
image.symbol("after_hlt"), image.segments, image.entry_state, disassemble(image)
"""

from .disassembly import Instruction, disassemble
from .entry import EntryState, SegmentState, TableState
from .errors import GuestError
from .image import Image
from .library import GuestLibrary
from .link import Label, Section, Segment
from .mode import Mode
from .parameters import Parameter
from .source import GuestSource
from .toolchain import Toolchain

__all__ = [
    "EntryState",
    "GuestError",
    "GuestLibrary",
    "GuestSource",
    "Image",
    "Instruction",
    "Label",
    "Mode",
    "Parameter",
    "Section",
    "Segment",
    "SegmentState",
    "TableState",
    "Toolchain",
    "disassemble",
]
