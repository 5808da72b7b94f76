# SPDX-License-Identifier: BSD-2-Clause
"""The larger subcommands of `nvmmconf`, a module each: `add_to(commands)` and what it runs."""
