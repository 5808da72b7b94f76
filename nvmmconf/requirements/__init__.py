# SPDX-License-Identifier: BSD-2-Clause
"""The requirements that cases and tests prove, and which of them prove it, as data."""

from nvmmconf.requirements.citations import Citation, Coverage, coverage
from nvmmconf.requirements.table import (
    Requirement,
    UnknownRequirementError,
    requirement_row,
    requirements,
)

__all__ = [
    "Citation",
    "Coverage",
    "Requirement",
    "UnknownRequirementError",
    "coverage",
    "requirement_row",
    "requirements",
]
