# SPDX-License-Identifier: BSD-2-Clause
"""Sub-checks: what a case looked at, and what did not hold.

A case goes on after a check that fails; all that failed are its verdict.  One
in which nothing was looked at has none.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from nvmmconf.nvmm import NvmmError
from nvmmconf.nvmm.errors import errno_name


@dataclass(frozen=True)
class Failure:
    """A check that did not hold."""

    what: str
    observed: str
    wanted: str

    def __str__(self) -> str:
        return f"{self.what}: wanted {self.wanted}, got {self.observed}"


class ChecksFailedError(AssertionError):
    """Checks of the case did not hold."""


class NoVerdictError(Exception):
    """The case ended without having looked at anything."""


@dataclass
class Checks:
    """What the case that is running has looked at."""

    count: int = 0
    """Checks that were made, whatever came out."""
    failures: list[Failure] = field(default_factory=list)

    def add(self, holds: bool, what: str, observed: object, wanted: object) -> None:
        """One check was made."""
        self.count += 1
        if not holds:
            self.failures.append(Failure(what, _shown(observed), _shown(wanted)))

    def raise_failed(self) -> None:
        """Raise ChecksFailedError where a check did not hold."""
        if not self.failures:
            return
        first = str(self.failures[0])
        if self.count > 1:
            raise ChecksFailedError(f"{len(self.failures)} of {self.count} checks failed: {first}")
        raise ChecksFailedError(first)


_current = Checks()


def begin() -> Checks:
    """A case begins: what is checked from now on is its."""
    global _current
    _current = Checks()
    return _current


def current() -> Checks:
    """The checks of the case that is running."""
    return _current


class _Check:
    """`check(condition, what)` and `check.equal(observed, wanted, what)`."""

    def __call__(self, condition: object, what: str) -> bool:
        """Note whether `condition` is true; the case goes on.  Returns it."""
        holds = bool(condition)
        _current.add(holds, what, condition, True)
        return holds

    def equal(self, observed: object, wanted: object, what: str) -> bool:
        """Note whether `observed == wanted`; the case goes on.  Returns it."""
        holds = bool(observed == wanted)
        _current.add(holds, what, observed, wanted)
        return holds


check = _Check()


@contextmanager
def expect_errno(*wanted: int) -> Iterator[None]:
    """The call within fails with (one of) this errno.

    Raises AssertionError where it succeeds or fails otherwise; the calls before
    the one that is meant belong outside.
    """
    words = " or ".join(errno_name(number) for number in wanted)
    if not wanted:
        raise ValueError("expect_errno needs the errno, errno.EINVAL")
    _current.count += 1
    try:
        yield
    except NvmmError as error:
        if error.errno not in wanted:
            _current.failures.append(Failure(error.call, error.name, words))
            raise AssertionError(f"wanted {words}, got {error}") from None
    else:
        _current.failures.append(Failure("call", "success", words))
        raise AssertionError(f"wanted {words}, and the call succeeded")


def _shown(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, int):
        return value if isinstance(value, str) else repr(value)
    # An enum and an address show themselves; a plain number is easier to compare in hex.
    if type(value) is int and abs(value) > 9:
        return f"{value:#x}"
    return repr(value)


__all__ = [
    "Checks",
    "ChecksFailedError",
    "Failure",
    "NoVerdictError",
    "begin",
    "check",
    "current",
    "expect_errno",
]
