# SPDX-License-Identifier: BSD-2-Clause
"""A built guest: what to load, where to begin, and what its addresses are called."""

from __future__ import annotations

import bisect
import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType

from elftools.common.exceptions import ELFError
from elftools.elf.constants import SH_FLAGS
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from .assemble import Artifacts
from .entry import EntryState, entry_state
from .errors import GuestError
from .mode import Mode
from .parameters import Parameter

BOOT_SECTION = ".boot"
"""The section of the Multiboot header and the trampoline: in the image, not of the guest."""


@dataclass(frozen=True)
class Segment:
    """A run of bytes in guest-physical memory."""

    gpa: int
    data: bytes
    """As long as its place in memory; zeroes where the file has none."""

    @property
    def end(self) -> int:
        """The first address after it."""
        return self.gpa + len(self.data)


@dataclass(frozen=True)
class Section:
    """A part of the guest, at symbol values (offsets in the segment, in real16)."""

    name: str
    address: int
    size: int
    executable: bool
    data: bytes
    """Nothing for .bss."""


@dataclass(frozen=True)
class Label:
    """A symbol that names a place in the guest."""

    address: int
    name: str
    section: str
    is_object: bool
    """Declared `.type name, @object`: data, wherever it lies."""
    size: int
    """Declared size in bytes; mostly 0."""


@dataclass(frozen=True)
class Image:
    """A guest, built for one mode."""

    name: str
    mode: Mode
    segments: tuple[Segment, ...]
    """What to put into guest memory, the trampoline included, by address."""
    sections: tuple[Section, ...]
    """The guest's sections, without the trampoline's."""
    labels: tuple[Label, ...]
    """The places in those sections by address; of one address, as the source has them."""
    symbols: Mapping[str, int]
    """All symbols: labels (offsets in segment 0x2000, in real16) and constants."""
    multiboot_entry: int
    """Guest-physical address of the trampoline."""
    elf: Path
    """Multiboot 1 ELF file."""
    flat: Path
    """The bytes from `flat_gpa` on, without the trampoline and .bss."""
    flat_gpa: int
    """Where `flat` is loaded."""
    listing: Path
    """The assembler's listing."""
    map: Path
    """The symbol map, as text."""
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    """What the case gave to the template."""
    entry_label: str = "start"
    """Where it begins."""

    def entering(self, label: str) -> Image:
        """The same image, begun at another label: one build for a whole matrix of snippets.

        Its ELF file still begins at `start`.  Raises GuestError where there is no such label.
        """
        self.symbol(label)
        return replace(self, entry_label=label)

    @property
    def code_base(self) -> int:
        """What is added to a symbol's value to make it a linear address."""
        return self.mode.code_base

    @property
    def entry(self) -> int:
        """Where the guest begins: the value of `entry_label`, an offset in CS."""
        return self.symbols[self.entry_label]

    @property
    def entry_state(self) -> EntryState:
        """The processor's state at `entry`."""
        return replace(entry_state(self.mode, self.symbols), rip=self.entry)

    def symbol(self, name: str) -> int:
        """The value of a symbol; GuestError, with near names, where there is none."""
        try:
            return self.symbols[name]
        except KeyError:
            near = difflib.get_close_matches(name, self.symbols, n=3)
            hint = f"; near: {', '.join(near)}" if near else ""
            raise GuestError(
                f"guest {self.name} ({self.mode.value}) has no symbol {name!r}{hint}"
            ) from None

    def linear(self, name: str) -> int:
        """The linear (and, as memory is mapped, physical) address of a symbol."""
        return self.code_base + self.symbol(name)

    def read(self, gpa: int, size: int) -> bytes:
        """`size` bytes of the image as loaded; GuestError where it has not all of them."""
        for segment in self.segments:
            if segment.gpa <= gpa and gpa + size <= segment.end:
                return segment.data[gpa - segment.gpa : gpa - segment.gpa + size]
        raise GuestError(f"guest {self.name} ({self.mode.value}) has nothing at {gpa:#x}+{size:#x}")

    def describe(self, address: int) -> str:
        """An address (as a symbol's value) for people: `0x9 <after_hlt+0x2>`.

        Where several labels name one place, the last of them is taken; an address
        outside of the guest's sections stays a number.
        """
        label = self._label_before(address)
        if label is None:
            return f"{address:#x}"
        distance = address - label.address
        return f"{address:#x} <{label.name}{f'+{distance:#x}' if distance else ''}>"

    def _label_before(self, address: int) -> Label | None:
        index = bisect.bisect_right(self._addresses, address) - 1
        if index < 0:
            return None
        label = self.labels[index]
        section = self._by_name[label.section]
        # One past the end counts: that is where RIP is after a last instruction.
        return label if address <= section.address + section.size else None

    @cached_property
    def _addresses(self) -> tuple[int, ...]:
        return tuple(label.address for label in self.labels)

    @cached_property
    def _by_name(self) -> Mapping[str, Section]:
        return {section.name: section for section in self.sections}


def read_image(name: str, mode: Mode, files: Artifacts) -> Image:
    """Read the image of guest `name` back from its ELF file.

    Raises GuestError where the file is not what `assemble` made.
    """
    try:
        with files.elf.open("rb") as file:
            return _read_elf(name, mode, files, ELFFile(file))
    except (OSError, ELFError) as error:
        raise GuestError(f"{files.elf}: cannot be read: {error}") from None


def _read_elf(name: str, mode: Mode, files: Artifacts, elf: ELFFile) -> Image:
    segments = tuple(
        Segment(part["p_paddr"], part.data().ljust(part["p_memsz"], b"\0"))
        for part in elf.iter_segments("PT_LOAD")
        if part["p_memsz"]
    )
    all_sections = list(elf.iter_sections())
    sections = tuple(
        Section(
            name=part.name,
            address=part["sh_addr"],
            size=part["sh_size"],
            executable=bool(part["sh_flags"] & SH_FLAGS.SHF_EXECINSTR),
            data=b"" if part["sh_type"] == "SHT_NOBITS" else part.data(),
        )
        for part in all_sections
        if part["sh_flags"] & SH_FLAGS.SHF_ALLOC and part["sh_size"] and part.name != BOOT_SECTION
    )
    names = {section.name for section in sections}
    symbols: dict[str, int] = {}
    labels: list[Label] = []
    table = elf.get_section_by_name(".symtab")
    if not isinstance(table, SymbolTableSection) or not sections:
        raise GuestError(f"{files.elf}: not an image of a guest")
    for symbol in table.iter_symbols():
        index = symbol["st_shndx"]
        named = symbol.name and symbol["st_info"]["type"] != "STT_FILE"
        if not named or not (isinstance(index, int) or index == "SHN_ABS"):
            continue
        symbols[symbol.name] = symbol["st_value"]
        if isinstance(index, int) and all_sections[index].name in names:
            labels.append(
                Label(
                    address=symbol["st_value"],
                    name=symbol.name,
                    section=all_sections[index].name,
                    is_object=symbol["st_info"]["type"] == "STT_OBJECT",
                    size=symbol["st_size"],
                )
            )
    # Stable: labels of one address stay in the order of the source.
    labels.sort(key=lambda label: label.address)
    return Image(
        name=name,
        mode=mode,
        segments=tuple(sorted(segments, key=lambda segment: segment.gpa)),
        sections=tuple(sorted(sections, key=lambda section: section.address)),
        labels=tuple(labels),
        symbols=MappingProxyType(symbols),
        multiboot_entry=elf["e_entry"],
        elf=files.elf,
        flat=files.flat,
        flat_gpa=min(section.address for section in sections) + mode.code_base,
        listing=files.listing,
        map=files.map,
    )
