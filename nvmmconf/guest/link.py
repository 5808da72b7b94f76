# SPDX-License-Identifier: BSD-2-Clause
"""From the assembler's object file to a guest as it lies in memory.

It places and relocates what one object has, no more: a linker's and pyelftools'
start would cost more than all that.  Where things go is what `<mode>.ld`
says to GNU ld, which makes the ELF file when one is asked for.
System V ABI, AMD64 supplement, 4.4.1 (relocations); ELF 1.2.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from .errors import GuestError
from .mode import Mode

BOOT_SECTION = ".boot"
"""The section of the Multiboot header and the trampoline: in the image, not of the guest."""

_PLACES = ((".text", 1), (".rodata", 16), (".data", 16), (".tables", 4096), (".bss", 16))
"""The guest's sections in their order, and the alignment at which each begins."""

_EXECUTABLE, _ALLOCATED = 4, 2  # sh_flags
_SYMTAB, _RELA, _NOBITS, _NOTE = 2, 4, 8, 7  # sh_type
_OBJECT, _FILE = 1, 4  # symbol types
_UNDEFINED, _ABSOLUTE, _COMMON = 0, 0xFFF1, 0xFFF2  # st_shndx

_HEADER = struct.Struct("<II4QII2Q")
_SYMBOL = struct.Struct("<IBBHQQ")
_RELOCATION = struct.Struct("<QIIq")

_KINDS = {
    1: (8, False), 24: (8, True),
    10: (4, False), 11: (4, False), 2: (4, True), 4: (4, True),
    12: (2, False), 13: (2, True),
    14: (1, False), 15: (1, True),
}  # fmt: skip
"""Relocation types: bytes, and whether relative to the place."""
_UNSIGNED, _SIGNED = frozenset({10}), frozenset({11, 2, 4})


class UndefinedSymbolError(Exception):
    """A symbol that the guest uses and nobody defines."""


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
class Linked:
    """A guest at its addresses."""

    segments: tuple[Segment, ...]
    """The trampoline's and the guest's, by address."""
    sections: tuple[Section, ...]
    """The guest's, by address."""
    labels: tuple[Label, ...]
    """By address; of one address, as the source has them."""
    symbols: dict[str, int]
    multiboot_entry: int


@dataclass
class _Input:
    """A section of the object file."""

    name: str
    kind: int
    flags: int
    align: int
    size: int
    link: int
    info: int
    data: bytes
    home: str = ""
    """The output section, where it is loaded."""
    address: int = 0


@dataclass
class _Output:
    name: str
    address: int
    executable: bool
    data: bytearray
    size: int = 0
    loaded: bool = True
    """False for .bss."""

    @property
    def end(self) -> int:
        return self.address + self.size


@dataclass(frozen=True)
class _Symbol:
    name: str
    kind: int
    section: int
    value: int
    size: int


def link(file: str, mode: Mode, data: bytes) -> Linked:
    """Link an object file for `mode`; `file` is the guest's name in messages.

    Raises GuestError where it has a section without a place, does not fit, or is
    no object file of as, and UndefinedSymbolError with the symbol's name.
    """
    try:
        inputs, symbols = _read(data)
    except (struct.error, IndexError, ValueError, UnicodeDecodeError):
        raise GuestError(f"{file}: as made no object file that can be linked") from None
    outputs = _place(file, mode, inputs)
    _relocate(file, inputs, outputs, symbols)
    return _result(mode, inputs, outputs, symbols)


def _read(data: bytes) -> tuple[list[_Input], list[_Symbol]]:
    if data[:6] != b"\x7fELF\x02\x01":
        raise ValueError("not a little-endian ELF64 file")
    (offset,) = struct.unpack_from("<Q", data, 0x28)
    entry_size, count, names_at = struct.unpack_from("<3H", data, 0x3A)
    headers = [_HEADER.unpack_from(data, offset + n * entry_size) for n in range(count)]

    def content(header: tuple[int, ...]) -> bytes:
        return b"" if header[1] == _NOBITS else data[header[4] : header[4] + header[5]]

    names = content(headers[names_at])
    inputs = [
        _Input(
            _string(names, header[0]), header[1], header[2], max(header[8], 1), header[5],
            header[6], header[7], content(header),
        )
        for header in headers
    ]  # fmt: skip
    symbols: list[_Symbol] = []
    for table in inputs:
        if table.kind == _SYMTAB:
            names = inputs[table.link].data
            symbols = [
                _Symbol(_string(names, name), info & 0xF, section, value, size)
                for name, info, _, section, value, size in _SYMBOL.iter_unpack(table.data)
            ]
    return inputs, symbols


def _string(table: bytes, at: int) -> str:
    return table[at : table.index(b"\0", at)].decode()


def _place(file: str, mode: Mode, inputs: list[_Input]) -> dict[str, _Output]:
    known = {BOOT_SECTION, *(name for name, _ in _PLACES if mode.has_tables or name != ".tables")}
    for part in inputs:
        if part.flags & _ALLOCATED and part.kind != _NOTE:
            stem = ".".join(part.name.split(".")[:2])
            part.home = part.name if part.name in known else stem
            if part.home not in known and part.size:
                listed = ", ".join(sorted(known - {BOOT_SECTION}))
                raise GuestError(
                    f"{file}: no place for section {part.name!r} (there are: {listed})"
                )
    at = mode.boot_address
    outputs: dict[str, _Output] = {}
    for name, align in ((BOOT_SECTION, 1), *_PLACES):
        if name == ".text":
            at = mode.guest_address
        pieces = [part for part in inputs if part.home == name]
        start = _up(at, align)
        output = _Output(name, start, False, bytearray())
        outputs[name] = output
        for part in pieces:
            part.address = _up(output.end, part.align)
            output.size = part.address + part.size - start
            output.executable |= bool(part.flags & _EXECUTABLE)
            if name == ".bss":
                output.loaded = False
            else:
                output.data += bytes(part.address - start - len(output.data)) + part.data
                output.data += bytes(output.size - len(output.data))
        if output.size:
            at = output.end
    if at > mode.guest_limit:
        raise GuestError(
            f"{file}: the guest does not fit: it ends at {at:#x},"
            f" beyond the {mode.guest_limit:#x} of {mode.value}"
        )
    return outputs


def _up(address: int, align: int) -> int:
    return (address + align - 1) // align * align


def _relocate(
    file: str, inputs: list[_Input], outputs: dict[str, _Output], symbols: list[_Symbol]
) -> None:
    for table in inputs:
        if table.kind != _RELA or not inputs[table.info].home:
            continue
        part = inputs[table.info]
        output = outputs[part.home]
        for offset, kind, index, addend in _RELOCATION.iter_unpack(table.data):
            symbol = symbols[index]
            if index and symbol.section in (_UNDEFINED, _COMMON):
                raise UndefinedSymbolError(symbol.name)
            if kind not in _KINDS:
                raise GuestError(f"{file}: a relocation of type {kind} for {symbol.name!r}")
            size, relative = _KINDS[kind]
            fixed = index == 0 or symbol.section == _ABSOLUTE
            base = 0 if fixed else inputs[symbol.section].address
            place = part.address + offset
            value = base + symbol.value + addend - (place if relative else 0)
            bits = 8 * size
            low = 0 if kind in _UNSIGNED else -(1 << bits - 1)
            high = 1 << (bits - 1 if kind in _SIGNED else bits)
            if size < 8 and not low <= value < high:
                raise GuestError(
                    f"{file}: {symbol.name or 'a place'}{addend:+#x} does not fit into {bits} bits"
                    f" at {part.home}+{place - output.address:#x}"
                )
            at = place - output.address
            output.data[at : at + size] = (value & (1 << bits) - 1).to_bytes(size, "little")


def _result(
    mode: Mode, inputs: list[_Input], outputs: dict[str, _Output], symbols: list[_Symbol]
) -> Linked:
    values: dict[str, int] = {}
    labels: list[Label] = []
    for symbol in symbols:
        if not symbol.name or symbol.kind == _FILE or symbol.section in (_UNDEFINED, _COMMON):
            continue
        if symbol.section == _ABSOLUTE:
            values[symbol.name] = symbol.value
            continue
        part = inputs[symbol.section]
        values[symbol.name] = part.address + symbol.value
        if part.home not in ("", BOOT_SECTION) and outputs[part.home].size:
            labels.append(
                Label(
                    address=values[symbol.name],
                    name=symbol.name,
                    section=part.home,
                    is_object=symbol.kind == _OBJECT,
                    size=symbol.size,
                )
            )
    boot = outputs.pop(BOOT_SECTION)
    guest = [output for output in outputs.values() if output.size]
    memory = bytearray(guest[-1].end - guest[0].address) if guest else bytearray()
    for output in guest:
        at = output.address - mode.guest_address
        memory[at : at + len(output.data)] = output.data
    values["guest_end"] = guest[-1].end if guest else mode.guest_address
    labels.sort(key=lambda label: label.address)  # stable
    return Linked(
        segments=(
            Segment(boot.address, bytes(boot.data)),
            Segment(mode.guest_address + mode.code_base, bytes(memory)),
        ),
        sections=tuple(
            Section(
                output.name,
                output.address,
                output.size,
                output.executable,
                bytes(output.data) if output.loaded else b"",
            )
            for output in guest
        ),
        labels=tuple(labels),
        symbols=values,
        multiboot_entry=values["boot"],
    )
