# SPDX-License-Identifier: BSD-2-Clause
"""The one exception of this package."""

from __future__ import annotations


class BootError(Exception):
    """An image, or what goes with it, cannot be loaded; one line for a person."""
