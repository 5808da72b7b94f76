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

from .assemble import Artifacts
from .entry import EntryState, entry_state
from .errors import GuestError
from .link import Label, Section, Segment
from .mode import Mode
from .parameters import Parameter


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
    files: Artifacts
    """Where its files are, made when they are asked for."""
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    """What the case gave to the template."""
    entry_label: str = "start"
    """Where it begins."""

    @property
    def elf(self) -> Path:
        """Multiboot 1 ELF file.  Raises GuestError where it cannot be made, as the next three."""
        return self.files.elf

    @property
    def flat(self) -> Path:
        """The bytes from `flat_gpa` on, without the trampoline and .bss."""
        return self.files.flat

    @property
    def listing(self) -> Path:
        """The assembler's listing."""
        return self.files.listing

    @property
    def map(self) -> Path:
        """The symbol map, as text."""
        return self.files.map

    @property
    def flat_gpa(self) -> int:
        """Where `flat` is loaded."""
        return self.mode.guest_address + self.mode.code_base

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


def make_image(
    name: str, mode: Mode, files: Artifacts, parameters: Mapping[str, Parameter]
) -> Image:
    """The image of guest `name`.

    Raises GuestError where its object file cannot be read.
    """
    linked = files.linked()
    return Image(
        name=name,
        mode=mode,
        segments=linked.segments,
        sections=linked.sections,
        labels=linked.labels,
        symbols=MappingProxyType(linked.symbols),
        multiboot_entry=linked.multiboot_entry,
        files=files,
        parameters=MappingProxyType(dict(parameters)),
    )
