# SPDX-License-Identifier: BSD-2-Clause
"""All guests of a folder, built when they are asked for."""

from __future__ import annotations

import re
from pathlib import Path

from .assemble import Assembler, Job
from .image import Image, read_image
from .mode import Mode
from .render import Renderer
from .source import GuestSource, guest_names, read_source
from .toolchain import Toolchain

_START = re.compile(r"^\s*start:", re.MULTILINE)


class GuestLibrary:
    """The guests in a folder, and a cache of their images.

    Every source is read once and every image built or loaded once in the life of
    a library; processes that share a cache share the building.
    """

    def __init__(
        self,
        sources: Path,
        cache: Path,
        *,
        include: Path | None = None,
        toolchain: Toolchain | None = None,
    ) -> None:
        """`sources` holds the guests, `include` (by default its subfolder of that
        name) the files that they share; `cache` is made when needed."""
        self._sources = sources
        self._include = sources / "include" if include is None else include
        self._renderer = Renderer(self._include)
        self._assembler = Assembler(cache, toolchain)
        self._read: dict[str, GuestSource] = {}
        self._images: dict[tuple[str, Mode], Image] = {}

    def names(self) -> tuple[str, ...]:
        """Names of all guests, sorted (GuestError where there is no such folder)."""
        return guest_names(self._sources)

    def source(self, name: str) -> GuestSource:
        """A guest as written (GuestError where there is none, or its header is wrong)."""
        if name not in self._read:
            self._read[name] = read_source(self._sources, name)
        return self._read[name]

    def modes(self, name: str) -> tuple[Mode, ...]:
        """The modes that a guest can be built for; errors as `source`."""
        return self.source(name).modes

    def image(self, name: str, mode: Mode) -> Image:
        """A guest, built for `mode`.

        Raises GuestError as `source` does, where the guest does not support
        `mode`, where a tool is missing and where one refuses the guest.
        """
        key = (name, mode)
        if key not in self._images:
            self._images[key] = self._build(self.source(name), mode)
        return self._images[key]

    def image_from_text(self, name: str, mode: Mode, text: str) -> Image:
        """A guest of a few instructions, given as the body of a template.

        It needs no opening comment, and begins with its first instruction where it
        has no `start:`.  `name` need not be unique.  Errors as `image`.
        """
        source = GuestSource(
            name=name,
            file=f"<{name}>",
            sentence="",
            area="",
            modes=(mode,),
            # On the first line, so that messages count the caller's lines.
            text=text if _START.search(text) else f"start: {text}",
        )
        return self._build(source, mode)

    def _build(self, source: GuestSource, mode: Mode) -> Image:
        job = Job(
            name=source.name,
            mode=mode,
            file=source.file,
            rendered=self._renderer.render(source, mode),
            script=self._include / f"{mode.value}.ld",
        )
        return read_image(source.name, mode, self._assembler.assemble(job))
