# SPDX-License-Identifier: BSD-2-Clause
"""Things that belong to whoever made them and have to be given back."""

from __future__ import annotations

import abc
from types import TracebackType
from typing import Self


class Owned(abc.ABC):
    """A context manager that calls `close` at its end."""

    @abc.abstractmethod
    def close(self) -> None:
        """Give everything back.  Idempotent."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
