# SPDX-License-Identifier: BSD-2-Clause
"""Guest sources: finding them, and reading the comment that opens each."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from .errors import GuestError
from .mode import Mode
from .parameters import check_name

SUFFIX = ".S"
"""How the file of a guest ends; the rest of its name is the guest's name."""

_NAME = re.compile(r"[a-z][a-z0-9_-]*")
_FIELD = re.compile(r"(area|modes|parameters):\s*(.*)")


@dataclass(frozen=True)
class GuestSource:
    """A guest as its author wrote it."""

    name: str
    """The guest's name, that of its file without the suffix."""
    file: str
    """How messages call the file."""
    sentence: str
    """What the guest does."""
    area: str
    """The area of requirements that it serves."""
    modes: tuple[Mode, ...]
    """The modes that it can be built for, in its own order."""
    text: str
    """The whole template, header included."""
    parameters: tuple[str, ...] = ()
    """The names of what a case has to give."""


def guest_names(folder: Path) -> tuple[str, ...]:
    """Names of all guests in `folder`, sorted.

    Raises GuestError where there is no such folder.
    """
    if not folder.is_dir():
        raise GuestError(f"{folder}: no such folder of guests")
    return tuple(sorted(path.stem for path in folder.glob(f"*{SUFFIX}")))


def read_source(folder: Path, name: str) -> GuestSource:
    """The guest `name` from `folder`.

    Raises GuestError where there is none, or its header is not as it should be.
    """
    path = folder / f"{name}{SUFFIX}"
    if not _NAME.fullmatch(name):
        raise GuestError(f"{path}: {name!r} is no name for a guest (a-z, 0-9, '_', '-')")
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        known = ", ".join(guest_names(folder)) or "none"
        raise GuestError(f"{path}: no such guest (there are: {known})") from None
    except (OSError, UnicodeDecodeError) as error:
        raise GuestError(f"{path}: cannot be read: {error}") from None
    return parse_source(name, str(path), text)


def parse_source(name: str, file: str, text: str) -> GuestSource:
    """The guest whose template is `text`; `file` is its name in messages.

    Raises GuestError where the opening comment lacks the sentence, the area or
    the modes, says one twice, names an unknown mode or a parameter that cannot be.
    """
    sentence: list[str] = []
    sentence_ended = False
    fields: dict[str, tuple[int, str]] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.startswith("#"):
            break
        comment = line[1:].strip()
        if comment.startswith("SPDX-"):
            continue
        if match := _FIELD.fullmatch(comment):
            key, value = match.groups()
            if key in fields:
                raise GuestError(f"{file}:{number}: a second '{key}:' line")
            fields[key] = (number, value)
        elif comment and not sentence_ended:
            sentence.append(comment)
        sentence_ended = bool(sentence) and (not comment or bool(fields))
    for key, example in (("area", "pio"), ("modes", " ".join(mode.value for mode in Mode))):
        if key not in fields or not fields[key][1]:
            raise GuestError(
                f"{file}: the opening comment has no '{key}:' line (such as '# {key}: {example}')"
            )
    if not sentence:
        raise GuestError(f"{file}: the opening comment does not say what the guest does")
    return GuestSource(
        name=name,
        file=file,
        sentence=" ".join(sentence),
        area=fields["area"][1],
        modes=_parse_modes(file, *fields["modes"]),
        text=text,
        parameters=_parse_parameters(file, *fields.get("parameters", (0, ""))),
    )


def _parse_parameters(file: str, number: int, words: str) -> tuple[str, ...]:
    names: list[str] = []
    for word in words.split():
        check_name(f"{file}:{number}", word)
        if word in names:
            raise GuestError(f"{file}:{number}: parameter {word!r} is named twice")
        names.append(word)
    return tuple(names)


def _parse_modes(file: str, number: int, words: str) -> tuple[Mode, ...]:
    modes: list[Mode] = []
    for word in words.split():
        try:
            mode = Mode(word)
        except ValueError:
            known = ", ".join(mode.value for mode in Mode)
            raise GuestError(f"{file}:{number}: unknown mode {word!r} (known: {known})") from None
        if mode in modes:
            raise GuestError(f"{file}:{number}: mode {word!r} is named twice")
        modes.append(mode)
    return tuple(modes)
