# SPDX-License-Identifier: BSD-2-Clause
"""Results to pages that people read."""

from nvmmconf.report.html import REPORTED_RUNS, write_report, write_site
from nvmmconf.report.site import ReportError
from nvmmconf.report.store import Store

__all__ = ["REPORTED_RUNS", "ReportError", "Store", "write_report", "write_site"]
