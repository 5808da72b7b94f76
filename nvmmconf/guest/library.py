# SPDX-License-Identifier: BSD-2-Clause
"""All guests of a folder, built when they are asked for."""

from __future__ import annotations

import re
import textwrap
from collections import OrderedDict
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from .assemble import Assembler, Job
from .image import Image, make_image
from .mode import Mode
from .parameters import Parameter, check_name, check_parameters
from .render import Renderer
from .source import GuestSource, guest_names, read_source
from .toolchain import Toolchain

KEPT = 256
"""Images that a library keeps in memory, the ones used last; a few 10 KiB each."""

_NO_NAME = re.compile(r"[^a-z0-9_]+")
_START = re.compile(r"^\s*start:", re.MULTILINE)

_Key = tuple[str, str, Mode, tuple[tuple[str, Parameter], ...]]


class GuestLibrary:
    """The guests in a folder, and a cache of their images.

    Every source is read once in the life of a library, and the images used last
    are kept; processes that share a cache share the building.
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
        self._inline = lru_cache(KEPT)(self._inline_source)
        self._images: OrderedDict[_Key, Image] = OrderedDict()

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

    def image(self, name: str, mode: Mode, /, **parameters: Parameter) -> Image:
        """A guest, built for `mode` with values for its parameters.

        Raises GuestError as `source` does, where the guest does not support
        `mode`, where a parameter is unknown, missing or of a wrong type, where
        a tool is missing and where one refuses the guest.
        """
        source = self.source(name)
        return self._image(source, mode, parameters)

    def inline(
        self, text: str, mode: Mode, /, *, name: str = "inline", **parameters: Parameter
    ) -> Image:
        """A guest of a few instructions, given as the body of a template.

        It needs no opening comment, and begins with its first instruction where it
        has no `start:`.  `name` is whose guest it is, for messages and files (what a
        file's name cannot have becomes '-'), and need not be unique.  Errors as
        `image`; a parameter that the text does not use is one, too.
        """
        source = self._inline(text, mode, name, tuple(parameters))
        return self._image(source, mode, parameters)

    def image_from_text(self, name: str, mode: Mode, text: str) -> Image:
        """`inline`, without parameters."""
        return self.inline(text, mode, name=name)

    def _inline_source(
        self, text: str, mode: Mode, name: str, given: tuple[str, ...]
    ) -> GuestSource:
        text = textwrap.dedent(text).removeprefix("\n")
        name = _NO_NAME.sub("-", name.lower()).strip("-") or "inline"
        for word in given:
            check_name(f"<{name}>", word)
        # Only then: what the text leaves open without being given is said by its line.
        used = self._renderer.variables(text) if given else frozenset()
        return GuestSource(
            name=name,
            file=f"<{name}>",
            sentence="",
            area="",
            modes=(mode,),
            # On the first line, so that messages count the caller's lines.
            text=text if _START.search(text) else f"start: {text}",
            parameters=tuple(word for word in given if word in used),
        )

    def _image(self, source: GuestSource, mode: Mode, parameters: Mapping[str, Parameter]) -> Image:
        parameters = {
            name: int(value) if isinstance(value, bool) else value
            for name, value in sorted(parameters.items())
        }
        check_parameters(source.file, source.parameters, parameters)
        key = (source.name, source.text, mode, tuple(parameters.items()))
        image = self._images.get(key)
        if image is None:
            image = self._build(source, mode, parameters)
            self._images[key] = image
            if len(self._images) > KEPT:
                self._images.popitem(last=False)
        else:
            self._images.move_to_end(key)
        return image

    def _build(self, source: GuestSource, mode: Mode, parameters: Mapping[str, Parameter]) -> Image:
        job = Job(
            name=source.name,
            mode=mode,
            file=source.file,
            rendered=self._renderer.render(source, mode, parameters),
            script=self._include / f"{mode.value}.ld",
        )
        return make_image(source.name, mode, self._assembler.assemble(job), parameters)
