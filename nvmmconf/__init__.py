# SPDX-License-Identifier: BSD-2-Clause
"""nvmmconf: a conformance suite for NVMM, NetBSD's hypervisor.

Cases are written with `nvmmconf.suite`; docs/architecture.md shows the house.
"""
