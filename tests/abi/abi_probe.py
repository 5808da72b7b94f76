# SPDX-License-Identifier: BSD-2-Clause
"""Asks a C compiler for sizes, offsets, bits and constants, by way of an object file.

Nothing is run, so the compiler may be one for another system.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from nvmmconf.abi import ffi


class ProbeError(Exception):
    """The compiler refused the probe; the message is what it said."""


@dataclass(frozen=True)
class Compiler:
    """A command that makes an object file of C, and what a probe includes."""

    command: Sequence[str]
    includes: Sequence[str]
    environment: Mapping[str, str]

    def objects(self, source: str, where: Path) -> dict[str, bytes]:
        """Compile `source`; return the initial bytes of every object that it defines."""
        file, output = where / "probe.c", where / "probe.o"
        lines = [*(f"#include <{name}>" for name in self.includes), source]
        file.write_text("\n".join(lines))
        done = subprocess.run(
            [*self.command, "-c", "-o", str(output), str(file)],
            capture_output=True,
            text=True,
            check=False,
            env=dict(self.environment),
        )
        if done.returncode != 0:
            raise ProbeError(done.stderr)
        with output.open("rb") as stream:
            elf = ELFFile(stream)
            table = elf.get_section_by_name(".symtab")
            assert isinstance(table, SymbolTableSection)
            found = {}
            for symbol in table.iter_symbols():
                if symbol["st_info"]["type"] == "STT_OBJECT":
                    section = elf.get_section(symbol["st_shndx"])
                    start = symbol["st_value"]
                    found[symbol.name] = section.data()[start : start + symbol["st_size"]]
            return found

    def numbers(self, expressions: Sequence[str], where: Path) -> dict[str, int]:
        """Return the value of each constant expression."""
        body = ",\n".join(f"(unsigned long long)({one})" for one in expressions)
        data = self.objects(f"const unsigned long long numbers[] = {{\n{body}\n}};\n", where)
        words = memoryview(data["numbers"]).cast("Q").tolist()
        return dict(zip(expressions, words, strict=True))


@dataclass(frozen=True)
class Member:
    """A member of a structure: `attrib.dpl` of `struct nvmm_x64_state_seg`."""

    owner: str
    path: str
    is_bits: bool

    @property
    def expressions(self) -> tuple[str, str]:
        """Its offset and its size, as C."""
        return (
            f"offsetof({self.owner}, {self.path})",
            f"sizeof((({self.owner} *)0)->{self.path})",
        )


def members(name: str) -> list[Member]:
    """Return the members of a structure in `libnvmm.cdef.h`, those of unnamed ones within too."""
    return list(_members(name, "", ffi.typeof(name)))


def _members(owner: str, prefix: str, kind: object) -> list[Member]:
    found = []
    for name, field in kind.fields:  # type: ignore[attr-defined]
        path = f"{prefix}{name}"
        found.append(Member(owner, path, field.bitsize >= 0))
        # A named structure is in the list by itself.
        if field.type.kind in ("struct", "union") and "$" in field.type.cname:
            found += _members(owner, f"{path}.", field.type)
    return found


def bit_objects(compiler: Compiler, wanted: Sequence[Member], where: Path) -> dict[Member, bytes]:
    """Return for each bit-field the bytes of its structure with all its bits set, others clear."""
    lines = [
        f"const {member.owner} bits_{index} = {{ .{member.path} = -1 }};"
        for index, member in enumerate(wanted)
    ]
    # -1 in an unsigned field is all its bits; compilers may say so.
    found = compiler.objects("\n".join(lines), where)
    return {member: found[f"bits_{index}"] for index, member in enumerate(wanted)}
