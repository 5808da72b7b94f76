# SPDX-License-Identifier: BSD-2-Clause
"""What carries messages between the APICs of a machine (SDM 3A 10.6 and 10.7)."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from nvmmconf.board.apic_registers import BROADCAST, DeliveryMode, Message, Shorthand
from nvmmconf.board.local_apic import LocalApic


class ApicBus:
    """The local APICs of a machine; each message arrives at once.

    A lowest-priority message goes to the one of its destinations that accepts
    fixed interrupts and whose processor priority (PPR) is lowest, the one with
    the lowest APIC ID among equals.  That is one of the ways the SDM allows
    (10.6.2.4); no focus processor is looked for.
    """

    def __init__(self) -> None:
        self._apics: list[LocalApic] = []
        self._eoi: list[Callable[[int], None]] = []

    def attach(self, apic: LocalApic) -> None:
        """Put `apic` on this bus."""
        self._apics.append(apic)

    def on_eoi(self, callback: Callable[[int], None]) -> None:
        """Call `callback` with the vector of each level-triggered interrupt that has ended."""
        self._eoi.append(callback)

    def eoi(self, vector: int) -> None:
        """A local APIC's EOI message (10.8.5)."""
        for callback in self._eoi:
            callback(vector)

    def send(self, message: Message, sender: LocalApic | None = None) -> bool:
        """Deliver `message`; True where anybody took it.

        `sender` is the APIC whose ICR it is from, None for others' messages.
        Where nobody takes it, it is lost: the "send accept" error is older processors' (10.5.3).
        """
        targets = list(self._targets(message, sender))
        if message.mode is DeliveryMode.LOWEST_PRIORITY:
            able = [apic for apic in targets if apic.accepts_fixed]
            targets = [min(able, key=lambda apic: (apic.ppr, apic.apic_id))] if able else []
        taken = [apic.receive(message) for apic in targets]
        return any(taken)

    def _targets(self, message: Message, sender: LocalApic | None) -> Iterable[LocalApic]:
        present = [apic for apic in self._apics if apic.is_enabled]
        if message.shorthand is Shorthand.SELF:
            return [apic for apic in present if apic is sender]
        if message.shorthand is Shorthand.ALL:
            return present
        if message.shorthand is Shorthand.OTHERS:
            return [apic for apic in present if apic is not sender]
        if message.destination == BROADCAST:
            return present
        if message.logical:
            return [apic for apic in present if apic.is_logical_target(message.destination)]
        return [apic for apic in present if apic.apic_id == message.destination]
