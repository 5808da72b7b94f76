# SPDX-License-Identifier: BSD-2-Clause
"""From assembler source to the four files of an image, each made once.

The cache is a folder with one folder per image, named by a hash of all that
goes into it.  Any number of processes may use it at once: whoever holds an
image's lock builds it under another name and renames it when it is whole.
"""

from __future__ import annotations

import fcntl
import hashlib
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from elftools.common.exceptions import ELFError
from elftools.elf.constants import SH_FLAGS
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from .errors import GuestError
from .mode import Mode
from .render import Rendered
from .toolchain import Toolchain, run_tool

_FORMAT = "1"  # to be counted up when the same input shall give another image

_SOURCE = "source.s"
_OBJECT = "image.o"
_LINKED = "image.elf64"
_ELF = "image.elf"
_FLAT = "image.bin"
_LISTING = "image.lst"
_MAP = "image.map"

_AS_OPTIONS = ("--64", "--fatal-warnings", f"-aln={_LISTING}")
_LD_OPTIONS = (
    *("-m", "elf_x86_64", "-static", "-nostdlib", "--nmagic"),
    *("-z", "noexecstack", "--build-id=none"),
)
_SECTIONS = frozenset({".boot", ".text", ".rodata", ".data", ".tables", ".bss"})

_AS_SAYS = re.compile(rf"^{re.escape(_SOURCE)}:(\d+): +(\w[\w ]*): (.*)$", re.MULTILINE)
_AS_INVOKED = re.compile(rf"^{re.escape(_SOURCE)}:(\d+): +Info: macro invoked", re.MULTILINE)
_LD_UNDEFINED = re.compile(r"undefined reference to [`']([^`']+)'")


@dataclass(frozen=True)
class Artifacts:
    """Where the files of an image are; all exist, and none is changed again."""

    folder: Path

    @property
    def elf(self) -> Path:
        """Multiboot 1 image in a 32-bit ELF container."""
        return self.folder / _ELF

    @property
    def flat(self) -> Path:
        """The guest's bytes as they lie in memory, without the Multiboot trampoline."""
        return self.folder / _FLAT

    @property
    def listing(self) -> Path:
        """The assembler's listing."""
        return self.folder / _LISTING

    @property
    def map(self) -> Path:
        """Symbols by value: hexadecimal value, section, name."""
        return self.folder / _MAP

    @property
    def source(self) -> Path:
        """What the assembler read."""
        return self.folder / _SOURCE


@dataclass(frozen=True)
class Job:
    """One image to be made."""

    name: str
    mode: Mode
    file: str
    """The guest's template, as messages call it."""
    rendered: Rendered
    script: Path
    """The linker script."""


class Assembler:
    """Makes images in a cache folder, with one set of tools.

    The tools are looked at when the first image is asked for, and once.
    """

    def __init__(self, cache: Path, toolchain: Toolchain | None = None) -> None:
        # Absolute, as the tools run in a folder of their own.
        self._cache = cache.absolute()
        self._toolchain = toolchain
        self._versions: str | None = None

    def assemble(self, job: Job) -> Artifacts:
        """The files of `job`, made now or found in the cache.

        Raises GuestError where a tool is missing or refuses the source, and
        where the cache cannot be written.
        """
        toolchain, versions = self._tools()
        script = _read(job.script)
        key = _hash(
            _FORMAT,
            job.name,
            job.mode.value,
            job.rendered.text,
            script,
            versions,
            *_AS_OPTIONS,
            *_LD_OPTIONS,
        )
        final = self._cache / f"{job.name}.{job.mode.value}-{key}"
        if final.is_dir():
            return Artifacts(final)
        try:
            with self._lock(key):
                if not final.is_dir():
                    self._build(job, script, toolchain, final)
        except OSError as error:
            raise GuestError(f"{self._cache}: cannot keep images there: {error}") from None
        return Artifacts(final)

    def _tools(self) -> tuple[Toolchain, str]:
        if self._toolchain is None:
            self._toolchain = Toolchain.find()
        if self._versions is None:
            self._versions = self._toolchain.versions()
        return self._toolchain, self._versions

    @contextmanager
    def _lock(self, key: str) -> Iterator[None]:
        # A few lock files shared by all images, never removed: removing one while
        # another process waits for it would let both in.  A dead process's lock is gone.
        folder = self._cache / "locks"
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / key[:2]).open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _build(self, job: Job, script: str, toolchain: Toolchain, final: Path) -> None:
        work = final.with_name(f"building-{final.name}")
        # Left behind by a process that was killed; nobody else is here.
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        try:
            (work / _SOURCE).write_text(job.rendered.text, encoding="utf-8")
            (work / job.script.name).write_text(script, encoding="utf-8")
            self._run_tools(job, toolchain, work)
            _write_map(job, work)
            for left in (_OBJECT, _LINKED, job.script.name):
                (work / left).unlink()
            work.rename(final)
        finally:
            shutil.rmtree(work, ignore_errors=True)

    def _run_tools(self, job: Job, toolchain: Toolchain, work: Path) -> None:
        done = run_tool([toolchain.assembler, *_AS_OPTIONS, "-o", _OBJECT, _SOURCE], work)
        if done.returncode != 0:
            raise _refused_by_as(job, done.output)
        done = run_tool(
            [toolchain.linker, *_LD_OPTIONS, "-T", job.script.name, "-o", _LINKED, _OBJECT], work
        )
        if done.returncode != 0:
            raise _refused_by_ld(job, toolchain.linker, done.output)
        # The container that Multiboot loaders take, and the guest's bytes alone.
        for options in (["-O", "elf32-i386", _LINKED, _ELF],
                        ["-O", "binary", "-R", ".boot", _LINKED, _FLAT]):  # fmt: skip
            done = run_tool([toolchain.objcopy, *options], work)
            if done.returncode != 0:
                raise GuestError(f"{job.file}: objcopy: {_first_line(done.output)}", done.output)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise GuestError(f"{path}: cannot be read: {error.strerror}") from None


def _hash(*parts: str) -> str:
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode()
        digest.update(b"%d:" % len(data) + data)
    return digest.hexdigest()[:20]


def _first_line(output: str) -> str:
    return next((line.strip() for line in output.splitlines() if line.strip()), "no message")


def _refused_by_as(job: Job, output: str) -> GuestError:
    """Name the template's line, not the one in the rendered source."""
    complaints = [match for match in _AS_SAYS.finditer(output) if match[2] != "Info"]
    if not complaints:
        return GuestError(f"{job.file}: as: {_first_line(output)}", output)
    number, text = int(complaints[0][1]), complaints[0][3]
    note = ""
    # Inside an assembler macro: the line that used it is what the author knows.
    rest = output[complaints[0].end() :].lstrip("\n").partition("\n")[0]
    if used := _AS_INVOKED.match(rest):
        note = f" (in a macro, {job.rendered.origin(number)})"
        number = int(used[1])
    message = f"{job.rendered.origin(number) or job.file}: {text}"
    if line := job.rendered.line(number):
        message += f" in: {line}"
    message += note
    return GuestError(message, output)


def _refused_by_ld(job: Job, linker: str, output: str) -> GuestError:
    match = _LD_UNDEFINED.search(output)
    if match is None:
        line = _first_line(output).removeprefix(f"{linker}: ")
        return GuestError(f"{job.file}: ld: {line}", output)
    name = match[1]
    if name == "start":
        return GuestError(f"{job.file}: no label 'start:' for the guest to begin at", output)
    word = re.compile(rf"(?<![\w.$]){re.escape(name)}(?![\w.$])")
    for number, line in enumerate(job.rendered.text.splitlines(), start=1):
        if word.search(line.partition("#")[0]):
            where = job.rendered.origin(number)
            return GuestError(f"{where}: undefined symbol {name!r} in: {line.strip()}", output)
    return GuestError(f"{job.file}: undefined symbol {name!r}", output)


def _write_map(job: Job, work: Path) -> None:
    """Write the symbol map, and refuse what no linker script placed."""
    try:
        with (work / _ELF).open("rb") as file:
            elf = ELFFile(file)
            sections = list(elf.iter_sections())
            for section in sections:
                loaded = section["sh_flags"] & SH_FLAGS.SHF_ALLOC and section["sh_size"]
                if loaded and section.name not in _SECTIONS:
                    raise GuestError(
                        f"{job.file}: no place for section {section.name!r} "
                        f"(there are: {', '.join(sorted(_SECTIONS - {'.boot'}))})"
                    )
            table = elf.get_section_by_name(".symtab")
            assert isinstance(table, SymbolTableSection)
            rows = []
            for symbol in table.iter_symbols():
                index = symbol["st_shndx"]
                named = symbol.name and symbol["st_info"]["type"] != "STT_FILE"
                if named and (isinstance(index, int) or index == "SHN_ABS"):
                    place = sections[index].name if isinstance(index, int) else "*ABS*"
                    rows.append((symbol["st_value"], place, symbol.name))
    except ELFError as error:
        raise GuestError(f"{job.file}: objcopy made no ELF file: {error}") from None
    text = "".join(f"{value:08x} {place:<8} {name}\n" for value, place, name in sorted(rows))
    (work / _MAP).write_text(text, encoding="utf-8")
