# SPDX-License-Identifier: BSD-2-Clause
"""`@requirement(...)`: which promises a case proves."""

from __future__ import annotations

import pytest

from nvmmconf.requirements import Requirement, UnknownRequirementError, requirement_row

MARKER = "requirement"


def requirement(*identifiers: str) -> pytest.MarkDecorator:
    """Mark a case with the requirements that it proves, `"K-HLT-1", "A-EXIT-6"`.

    An id that the requirement table does not have is an error at collection.
    """
    return pytest.mark.requirement(*identifiers)


def cited(item: pytest.Item) -> tuple[Requirement, ...]:
    """Return the requirements that a case cites, in its order.

    Raises pytest.UsageError where there is none, or one that does not exist.
    """
    identifiers = [
        identifier for mark in reversed(list(item.iter_markers(MARKER))) for identifier in mark.args
    ]
    if not identifiers:
        raise pytest.UsageError(
            f"{item.nodeid}: a case names what it proves: add @requirement(...)"
        )
    strange = [one for one in identifiers if not isinstance(one, str)]
    if strange:
        raise pytest.UsageError(f"{item.nodeid}: {strange[0]!r} is no requirement's id")
    try:
        return tuple(requirement_row(identifier) for identifier in dict.fromkeys(identifiers))
    except UnknownRequirementError as error:
        raise pytest.UsageError(f"{item.nodeid}: {error}") from None
