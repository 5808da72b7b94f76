# SPDX-License-Identifier: BSD-2-Clause
"""Records of a run, their files, and merging them."""
