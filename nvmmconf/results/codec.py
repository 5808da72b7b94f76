# SPDX-License-Identifier: BSD-2-Clause
"""A record as one line of JSON, and back.

Reading is strict: the types are those of the dataclass, and every field is
there, with none beside.  A difference is a difference of format, and that is
what `FORMAT` is for.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import cattrs
from cattrs.gen import make_dict_structure_fn

from nvmmconf.results.records import FORMAT, Ended, Planned, RunHeader, Started

Record: TypeAlias = RunHeader | Planned | Started | Ended
"""What a line of a results file holds."""

_KINDS: dict[str, type[Record]] = {
    "header": RunHeader,
    "planned": Planned,
    "started": Started,
    "ended": Ended,
}
_NAMES = {kind: name for name, kind in _KINDS.items()}


class RecordError(ValueError):
    """A line holds no record of ours; the text says what is wrong with it."""


def encode(record: Record) -> bytes:
    r"""The line for `record`, ASCII, with its `\n`.

    Raises ValueError for a number that JSON does not have (NaN, infinity).
    """
    fields = {"record": _NAMES[type(record)], **_converter.unstructure(record)}
    text = json.dumps(fields, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.encode("ascii") + b"\n"


def decode(line: bytes) -> Record:
    """The record in `line` (with or without its line end).  Raises RecordError."""
    try:
        fields = json.loads(line.decode("utf-8"), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise RecordError(f"not a line of JSON: {error}") from None
    if not isinstance(fields, dict) or not isinstance(fields.get("record"), str):
        raise RecordError('no record of nvmmconf: it has no "record"')
    name = fields.pop("record")
    kind = _KINDS.get(name)
    if kind is None:
        raise RecordError(f"unknown record {name!r}")
    # Before the fields are looked at: those of another format are others.
    if kind is RunHeader and fields.get("format") != FORMAT:
        raise RecordError(f"record format {fields.get('format')!r}; this nvmmconf reads {FORMAT}")
    try:
        return _converter.structure(fields, kind)
    except (cattrs.BaseValidationError, ValueError, TypeError) as error:
        problems = cattrs.transform_error(error, format_exception=_problem)
        raise RecordError(f"record {name!r}: {'; '.join(problems)}") from None


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no number in JSON")


def _problem(error: BaseException, kind: type | None) -> str:
    if isinstance(error, KeyError):
        return "missing field"
    if isinstance(error, cattrs.ForbiddenExtraKeysError):
        return f"unknown fields {sorted(error.extra_fields)}"
    return str(error)


def _strict(expected: type, *accepted: type) -> Callable[[Any, Any], Any]:
    """A hook that takes values of exactly these JSON types, where cattrs would convert."""
    kinds = (expected, *accepted)

    def check(value: Any, _: Any) -> Any:
        if type(value) not in kinds:
            raise TypeError(f"{value!r} is no {expected.__name__}")
        try:
            value = expected(value)
        except OverflowError:
            value = math.inf
        if expected is float and not math.isfinite(value):
            raise ValueError("a number is too large")
        return value

    return check


def _strict_mapping(value: Any, _: Any) -> dict[str, str]:
    if type(value) is not dict:
        raise TypeError(f"{value!r} is no object")
    for key, word in value.items():
        if type(word) is not str:
            raise TypeError(f"{word!r} of {key!r} is no str")
    return value


def _strict_sequence(kind: Any, converter: cattrs.Converter) -> Callable[[Any, Any], Any]:
    inner = kind.__args__[0]

    def check(value: Any, _: Any) -> Any:
        if type(value) is not list:
            raise TypeError(f"{value!r} is no list")
        return tuple(converter.structure(item, inner) for item in value)

    return check


def _strict_record(kind: type, converter: cattrs.Converter) -> Callable[[Any, Any], Any]:
    structure: Callable[[Any, Any], Any] = make_dict_structure_fn(
        kind, converter, _cattrs_forbid_extra_keys=True
    )
    names = [field.name for field in dataclasses.fields(kind)]

    def check(value: Any, as_kind: Any) -> Any:
        if type(value) is not dict:
            raise TypeError(f"{value!r} is no object")
        # cattrs would fill in a default.
        missing = [name for name in names if name not in value]
        if missing:
            raise TypeError(f"missing fields {missing}")
        return structure(value, as_kind)

    return check


def _make_converter() -> cattrs.Converter:
    converter = cattrs.Converter()
    converter.register_structure_hook(str, _strict(str))
    converter.register_structure_hook(int, _strict(int))
    converter.register_structure_hook(float, _strict(float, int))
    converter.register_structure_hook_func(
        lambda kind: getattr(kind, "__origin__", None) is tuple,
        lambda value, kind: _strict_sequence(kind, converter)(value, kind),
    )
    converter.register_structure_hook_factory(
        dataclasses.is_dataclass, lambda kind: _strict_record(kind, converter)
    )
    converter.register_structure_hook_func(
        lambda kind: getattr(kind, "__origin__", None) is Mapping, _strict_mapping
    )
    return converter


_converter = _make_converter()
