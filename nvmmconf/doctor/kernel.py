# SPDX-License-Identifier: BSD-2-Clause
"""NetBSD's kernel side: the module nvmm, and /dev/nvmm with its group."""

from __future__ import annotations

from nvmmconf.doctor.findings import Finding, note, ok, problem
from nvmmconf.doctor.surroundings import DEVICE, Surroundings

MODULE = "nvmm"
GROUP = "nvmm"

_LOAD = (
    "as root: modload nvmm",
    "at every start: a line 'nvmm' in /etc/modules.conf, and modules=YES in /etc/rc.conf",
)


def module(around: Surroundings, *, opened: bool) -> Finding:
    """Whether the driver is in the kernel.  `opened`: the device answers, so it is."""
    if around.modules is not None and MODULE in around.modules:
        return ok("module", "nvmm is in the kernel (modstat)")
    if opened:
        return note("module", "modstat does not list nvmm, but the device answers")
    if around.modules is None:
        return note("module", "unknown: there is no modstat, or it fails", *_LOAD)
    return problem(
        "module",
        "nvmm is not loaded (modstat)",
        *_LOAD,
        "modload says 'Not supported' where the processor lacks what nvmm(4) needs",
    )


def device(around: Surroundings, *, opened: bool) -> Finding:
    """Whether the user may open the device, which libnvmm does for reading (L-INIT-2)."""
    node = around.device
    name = str(DEVICE)
    if opened:
        return ok("device", f"{name} opens" + (f" ({node.in_words()})" if node else ""))
    if node is None:
        return problem("device", f"there is no {name}", "as root: cd /dev && sh MAKEDEV nvmm")
    words = f"{name} is {node.in_words()}"
    if not node.is_device:
        return problem(
            "device", f"{words}: no device", f"as root: rm {name}; cd /dev && sh MAKEDEV nvmm"
        )
    if node.readable:
        return ok("device", f"{words}: {around.user} may open it")
    if node.group in around.groups:
        return problem(
            "device",
            f"{words}: {around.user} is in {node.group}, which may not read it",
            f"as root: chmod g+r {name}",
        )
    if node.group != GROUP:
        return problem(
            "device",
            f"{words}: not the group {GROUP}'s, as usual",
            f"as root: chgrp {GROUP} {name} && chmod 640 {name}",
            f"as root: usermod -G {GROUP} {around.user}; then log in again",
        )
    return problem(
        "device",
        f"{words}, and {around.user} is not in the group {GROUP}",
        f"as root: usermod -G {GROUP} {around.user}; then log in again",
    )
