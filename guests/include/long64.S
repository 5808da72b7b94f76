# SPDX-License-Identifier: BSD-2-Clause
# Layout of a long64 image: 64-bit mode, identity-mapped.
{% include "flat.inc" %}

