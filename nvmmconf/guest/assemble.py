# SPDX-License-Identifier: BSD-2-Clause
"""From assembler source to an image and its files, each made once.

The cache is a folder with one folder per image, named by a hash of all that
goes into it.  Any number of processes may use it at once: whoever holds an
image's lock builds it under another name and renames it when it is whole.
"""

from __future__ import annotations

import fcntl
import hashlib
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from .errors import GuestError
from .link import Linked, UndefinedSymbolError, link
from .mode import Mode
from .render import Rendered
from .toolchain import Toolchain, run_tool

_FORMAT = "2"  # to be counted up when the same input shall give another image

_SOURCE = "source.s"
_OBJECT = "image.o"
_SCRIPT = "image.ld"
_LINKED = "image.elf64"
_ELF = "image.elf"
_FLAT = "image.bin"
_LISTING = "image.lst"
_MAP = "image.map"

_AS_OPTIONS = ("--64", "--fatal-warnings")
_LD_OPTIONS = (
    *("-m", "elf_x86_64", "-static", "-nostdlib", "--nmagic"),
    *("-z", "noexecstack", "--build-id=none"),
)

_AS_SAYS = re.compile(rf"^{re.escape(_SOURCE)}:(\d+): +(\w[\w ]*): (.*)$", re.MULTILINE)
_AS_INVOKED = re.compile(rf"^{re.escape(_SOURCE)}:(\d+): +Info: macro invoked", re.MULTILINE)


@dataclass(frozen=True)
class Artifacts:
    """The files of an image.  The source and the object are there, the others are made
    when they are asked for; each appears whole, and none is changed again.
    """

    folder: Path
    mode: Mode
    file: str
    """The guest's template, as messages call it."""
    toolchain: Toolchain = field(compare=False)

    @property
    def source(self) -> Path:
        """What the assembler read."""
        return self.folder / _SOURCE

    @property
    def elf(self) -> Path:
        """Multiboot 1 image in a 32-bit ELF container."""

        def make(work: Path) -> None:
            inputs = ["-T", str(self.folder / _SCRIPT), str(self.folder / _OBJECT)]
            self._run(work, self.toolchain.linker, *_LD_OPTIONS, "-o", _LINKED, *inputs)
            # The container that Multiboot loaders take.
            self._run(work, self.toolchain.objcopy, "-O", "elf32-i386", _LINKED, _ELF)

        return self._made(_ELF, make)

    @property
    def flat(self) -> Path:
        """The guest's bytes as they lie in memory, without the Multiboot trampoline."""

        def make(work: Path) -> None:
            linked = self.linked()
            loaded = [part for part in linked.sections if part.data]
            size = max((part.address + part.size for part in loaded), default=0)
            data = linked.segments[-1].data[: size - self.mode.guest_address]
            (work / _FLAT).write_bytes(data)

        return self._made(_FLAT, make)

    @property
    def listing(self) -> Path:
        """The assembler's listing."""

        def make(work: Path) -> None:
            options = [*_AS_OPTIONS, f"-aln={_LISTING}", "-o", _OBJECT]
            shutil.copyfile(self.source, work / _SOURCE)
            self._run(work, self.toolchain.assembler, *options, _SOURCE)

        return self._made(_LISTING, make)

    @property
    def map(self) -> Path:
        """Symbols by value: hexadecimal value, section, name."""

        def make(work: Path) -> None:
            linked = self.linked()
            places = {label.name: label.section for label in linked.labels}
            rows = sorted(
                (value, places.get(name, "*ABS*"), name) for name, value in linked.symbols.items()
            )
            text = "".join(f"{value:08x} {place:<8} {name}\n" for value, place, name in rows)
            (work / _MAP).write_text(text, encoding="utf-8")

        return self._made(_MAP, make)

    def linked(self) -> Linked:
        """The guest at its addresses.  Raises GuestError where the object cannot be read."""
        try:
            return link(self.file, self.mode, (self.folder / _OBJECT).read_bytes())
        except OSError as error:
            raise GuestError(f"{self.folder / _OBJECT}: cannot be read: {error.strerror}") from None

    def _made(self, name: str, make: Callable[[Path], None]) -> Path:
        """The file `name`, made in a folder of its own and renamed: others may do the same."""
        final = self.folder / name
        if final.exists():
            return final
        try:
            with tempfile.TemporaryDirectory(prefix="building-", dir=self.folder.parent) as work:
                make(Path(work))
                (Path(work) / name).rename(final)
        except OSError as error:
            raise GuestError(f"{final}: cannot be made: {error}") from None
        return final

    def _run(self, work: Path, tool: str, *arguments: str) -> None:
        done = run_tool([tool, *arguments], work)
        if done.returncode != 0:
            name = Path(tool).name
            raise GuestError(f"{self.file}: {name}: {_first_line(done.output)}", done.output)


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
        artifacts = Artifacts(final, job.mode, job.file, toolchain)
        if final.is_dir():
            return artifacts
        try:
            with self._lock(key):
                if not final.is_dir():
                    self._build(job, script, toolchain, final)
        except OSError as error:
            raise GuestError(f"{self._cache}: cannot keep images there: {error}") from None
        return artifacts

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
            (work / _SCRIPT).write_text(script, encoding="utf-8")
            done = run_tool([toolchain.assembler, *_AS_OPTIONS, "-o", _OBJECT, _SOURCE], work)
            if done.returncode != 0:
                raise _refused_by_as(job, done.output)
            # What cannot be linked is not kept.
            try:
                link(job.file, job.mode, (work / _OBJECT).read_bytes())
            except UndefinedSymbolError as error:
                raise _undefined(job, str(error)) from None
            work.rename(final)
        finally:
            shutil.rmtree(work, ignore_errors=True)


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


def _undefined(job: Job, name: str) -> GuestError:
    if name == "start":
        return GuestError(f"{job.file}: no label 'start:' for the guest to begin at")
    word = re.compile(rf"(?<![\w.$]){re.escape(name)}(?![\w.$])")
    for number, line in enumerate(job.rendered.text.splitlines(), start=1):
        if word.search(line.partition("#")[0]):
            where = job.rendered.origin(number)
            return GuestError(f"{where}: undefined symbol {name!r} in: {job.rendered.line(number)}")
    return GuestError(f"{job.file}: undefined symbol {name!r}")
