# SPDX-License-Identifier: BSD-2-Clause
"""What happened, as data: the exits that a machine's vCPUs took.

Recorded (recorder.py), printed (text.py), kept in files (files.py), compared
(compare.py), and made to happen again without any libnvmm (journal.py, replay.py).
"""

from nvmmconf.trace.compare import Difference, first_difference
from nvmmconf.trace.files import SavedTrace, TraceFileError, load_trace, save_trace
from nvmmconf.trace.recorder import Event, Trace, TracedExit
from nvmmconf.trace.text import line, lines

__all__ = [
    "Difference",
    "Event",
    "SavedTrace",
    "Trace",
    "TraceFileError",
    "TracedExit",
    "first_difference",
    "line",
    "lines",
    "load_trace",
    "save_trace",
]
