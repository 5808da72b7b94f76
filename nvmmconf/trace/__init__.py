# SPDX-License-Identifier: BSD-2-Clause
"""What happened, as data: the exits that a machine's vCPUs took."""

from nvmmconf.trace.recorder import Event, Trace, TracedExit

__all__ = ["Event", "Trace", "TracedExit"]
