# SPDX-License-Identifier: BSD-2-Clause
# Layout of a prot32 image: 32-bit protected mode without paging.
{% include "flat.inc" %}

