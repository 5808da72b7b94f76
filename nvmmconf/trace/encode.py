# SPDX-License-Identifier: BSD-2-Clause
"""Exits and events as JSON values, and back."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from nvmmconf.abi import EventType, ExitReason, Prot, Segment
from nvmmconf.nvmm import (
    BareExit,
    Exit,
    ExitState,
    InsnExit,
    InvalidExit,
    IoExit,
    MemoryExit,
    RdmsrExit,
    WrmsrExit,
)
from nvmmconf.trace.recorder import Event

_KINDS = {
    kind.__name__: kind
    for kind in (BareExit, InsnExit, InvalidExit, IoExit, MemoryExit, RdmsrExit, WrmsrExit)
}
_REASONS = {int(reason): reason for reason in ExitReason}
_SEGMENTS = {int(segment): segment for segment in Segment}


def encode_exit(taken: Exit) -> dict[str, Any]:
    """Return `taken` as a JSON object: its class's name, its fields, numbers as numbers."""
    found: dict[str, Any] = {"kind": type(taken).__name__}
    for field in fields(taken):
        value = getattr(taken, field.name)
        match value:
            case ExitState():
                found[field.name] = [int(getattr(value, part.name)) for part in fields(ExitState)]
            case bytes():
                found[field.name] = value.hex()
            case bool() | None:
                found[field.name] = value
            case _:
                found[field.name] = int(value)
    return found


def decode_exit(found: dict[str, Any]) -> Exit:
    """Inverse of `encode_exit`.  Raises KeyError, TypeError or ValueError for anything else."""
    kind = _KINDS[found["kind"]]
    values = {field.name: found[field.name] for field in fields(kind)}
    rflags, cr8, *flags = values["state"]
    values["state"] = ExitState(rflags, cr8, *(bool(flag) for flag in flags))
    values["reason"] = _REASONS.get(values["reason"], values["reason"])
    if kind is MemoryExit:
        values["prot"] = Prot(values["prot"])
        values["inst_bytes"] = bytes.fromhex(values["inst_bytes"])
    if kind is IoExit and values["segment"] is not None:
        values["segment"] = _SEGMENTS.get(values["segment"], values["segment"])
    taken: Exit = kind(**values)
    return taken


def encode_event(event: Event | None) -> list[int] | None:
    """Return `event` as type and vector."""
    return None if event is None else [int(event.kind), event.vector]


def decode_event(found: list[int] | None) -> Event | None:
    """Inverse of `encode_event`."""
    return None if found is None else Event(EventType(found[0]), found[1])
