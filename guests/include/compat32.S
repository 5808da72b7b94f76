# SPDX-License-Identifier: BSD-2-Clause
# Layout of a compat32 image: 32-bit code under long mode, identity-mapped.
{% include "flat.inc" %}

