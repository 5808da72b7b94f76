# SPDX-License-Identifier: BSD-2-Clause
"""The requirements that cases prove, as data."""

from nvmmconf.requirements.table import (
    Requirement,
    UnknownRequirementError,
    requirement_row,
    requirements,
)

__all__ = ["Requirement", "UnknownRequirementError", "requirement_row", "requirements"]
