# SPDX-License-Identifier: BSD-2-Clause
"""Says what is missing where pytest runs without the installed package.

The hooks and the `vm` fixture are those of `nvmmconf.plugin`, which pytest
finds by its entry point; nothing is defined here.
"""

from __future__ import annotations

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Refuse to run where the plugin is not there."""
    if not config.pluginmanager.hasplugin("nvmmconf"):
        raise pytest.UsageError(
            "nvmmconf is not installed in this Python: run 'make', then '. .venv/bin/activate'"
        )
