# SPDX-License-Identifier: BSD-2-Clause
"""What holds for all tests of the project itself."""

from hypothesis import settings

# A busy machine is no defect: nothing here asserts how long it takes.
settings.register_profile("nvmmconf", deadline=None)
settings.load_profile("nvmmconf")
