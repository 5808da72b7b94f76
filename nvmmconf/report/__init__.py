# SPDX-License-Identifier: BSD-2-Clause
"""Results to pages that people read."""

from nvmmconf.report.html import write_report
from nvmmconf.report.site import ReportError

__all__ = ["ReportError", "write_report"]
