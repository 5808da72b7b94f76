# SPDX-License-Identifier: BSD-2-Clause
"""The one exception that this package raises about guests."""

from __future__ import annotations


class GuestError(Exception):
    """A guest cannot be found, read, rendered, assembled or asked for a symbol.

    The message is one line for a person, and names the file where there is one.
    `details` holds what a tool printed, or nothing.
    """

    def __init__(self, message: str, details: str = "") -> None:
        super().__init__(message)
        self.details = details
