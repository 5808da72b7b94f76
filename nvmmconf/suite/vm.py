# SPDX-License-Identifier: BSD-2-Clause
"""The `vm` fixture's object: boots guests on one target, in one mode."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence

from nvmmconf.guest import GuestLibrary, Image, Mode
from nvmmconf.nvmm import Owned
from nvmmconf.suite.board import Layout, Mmio, PortAnswer
from nvmmconf.suite.prepared import PreparedGuest
from nvmmconf.suite.run import VmRun
from nvmmconf.suite.target import Target

DEFAULT_TIMEOUT = 20.0
"""Seconds of wall time that a guest may run before the watchdog stops it."""

Parameter = str | int | bool
"""A parameter of a guest's template."""


class VirtualMachine(Owned):
    """Boots guests on `target` in `mode`; each boot is a machine of its own.

    The machines live until the case ends, so that a run can be resumed.

    All four ways to a guest raise GuestError where it cannot be built,
    AcceleratorError where no machine can be made, ValueError for a layout that
    makes no sense; where they run it, GuestHangError where it does not stop by
    itself.  `entry`, `ports`, `mmio`, `readonly`, `unmapped` and `vcpus` are as in
    docs/writing-cases.md.
    """

    def __init__(
        self,
        target: Target,
        mode: Mode,
        guests: GuestLibrary,
        timeout: float = DEFAULT_TIMEOUT,
        inline_name: str = "inline",
    ) -> None:
        """`inline_name` is what guests are called that have no file."""
        self.target = target
        self.mode = mode
        self._guests = guests
        self._timeout = timeout
        self._inline_name = inline_name
        self._prepared: list[PreparedGuest] = []

    @property
    def runs(self) -> tuple[VmRun, ...]:
        """The latest run of each guest booted, in order: the evidence of a verdict."""
        return tuple(one.latest for one in self._prepared if one.latest is not None)

    def boot(
        self,
        name: str,
        /,
        *,
        entry: str = "",
        ports: Mapping[int, PortAnswer] | None = None,
        mmio: Sequence[Mmio] = (),
        readonly: Sequence[tuple[int, int]] = (),
        unmapped: Sequence[tuple[int, int]] = (),
        vcpus: int = 1,
        **parameters: Parameter,
    ) -> VmRun:
        """Assemble guest `name`, load it into a fresh machine and run it until it stops."""
        layout = Layout(ports or {}, mmio, readonly, unmapped, vcpus)
        return self._load(self._named(name, parameters), layout, entry).run()

    def run_code(
        self,
        source: str,
        /,
        *,
        entry: str = "",
        ports: Mapping[int, PortAnswer] | None = None,
        mmio: Sequence[Mmio] = (),
        readonly: Sequence[tuple[int, int]] = (),
        unmapped: Sequence[tuple[int, int]] = (),
        vcpus: int = 1,
        **parameters: Parameter,
    ) -> VmRun:
        """`boot`, of the instructions in `source`."""
        layout = Layout(ports or {}, mmio, readonly, unmapped, vcpus)
        return self._load(self._inline(source, parameters), layout, entry).run()

    def prepare(
        self,
        name: str,
        /,
        *,
        entry: str = "",
        ports: Mapping[int, PortAnswer] | None = None,
        mmio: Sequence[Mmio] = (),
        readonly: Sequence[tuple[int, int]] = (),
        unmapped: Sequence[tuple[int, int]] = (),
        vcpus: int = 1,
        **parameters: Parameter,
    ) -> PreparedGuest:
        """`boot`, up to the first instruction."""
        layout = Layout(ports or {}, mmio, readonly, unmapped, vcpus)
        return self._load(self._named(name, parameters), layout, entry)

    def prepare_code(
        self,
        source: str,
        /,
        *,
        entry: str = "",
        ports: Mapping[int, PortAnswer] | None = None,
        mmio: Sequence[Mmio] = (),
        readonly: Sequence[tuple[int, int]] = (),
        unmapped: Sequence[tuple[int, int]] = (),
        vcpus: int = 1,
        **parameters: Parameter,
    ) -> PreparedGuest:
        """`run_code`, up to the first instruction."""
        layout = Layout(ports or {}, mmio, readonly, unmapped, vcpus)
        return self._load(self._inline(source, parameters), layout, entry)

    def moved(self, guest: PreparedGuest) -> PreparedGuest:
        """A new machine with all that `guest` is, which has stopped and is destroyed.

        Raises SnapshotError where it cannot be saved or restored.
        """
        new = self._load(guest.image, guest.layout)
        new.take_over(guest)
        self._prepared.remove(guest)
        guest.close()
        return new

    def boot_image(self, image: Image) -> VmRun:
        """`boot`, of an image that was built already."""
        return self._load(image, Layout()).run()

    def _named(self, name: str, parameters: Mapping[str, Parameter]) -> Image:
        return self._guests.image(name, self.mode, **parameters)

    def _inline(self, source: str, parameters: Mapping[str, Parameter]) -> Image:
        return self._guests.inline(source, self.mode, name=self._inline_name, **parameters)

    def _load(self, image: Image, layout: Layout, entry: str = "") -> PreparedGuest:
        if entry:
            image = image.entering(entry)
        prepared = PreparedGuest(self.target, image, self._timeout, layout)
        self._prepared.append(prepared)
        return prepared

    def close(self) -> None:
        """Destroy the machines, all of them also where one fails."""
        with contextlib.ExitStack() as everything:
            while self._prepared:
                everything.callback(self._prepared.pop(0).close)
