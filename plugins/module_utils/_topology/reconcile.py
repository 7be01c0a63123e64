# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Observes the kernel and plans namespaces, veth pairs and bridges."""

from __future__ import annotations

import typing as t

from .._kernel.kernel import Kernel
from .._kernel.steps import Planned
from . import bridges as _bridges
from . import interfaces
from . import namespaces as _namespaces
from . import veths as _veths


def namespaces(kernel: Kernel, desired: t.Sequence[_namespaces.Namespace], present: bool) -> Planned:
    """Observe and plan network namespaces."""
    sysctls = {n.name: n.sysctls for n in desired}
    return Planned(_namespaces.plan_namespaces(desired, present, kernel.observe(sysctls, (), sysctls)))


def veths(kernel: Kernel, desired: t.Sequence[_veths.Veth], present: bool) -> Planned:
    """Observe and plan veth pairs."""
    ends = [end for veth in desired for end in (veth.end, veth.peer)]
    views = kernel.observe((end.netns for end in ends), ("addresses", "routes"))
    missing = interfaces.missing(ends, views) if present else []
    return Planned(_veths.plan_veths(desired, present, views), missing)


def bridges(kernel: Kernel, desired: t.Sequence[_bridges.Bridge], present: bool) -> Planned:
    """Observe and plan bridges."""
    views = kernel.observe((b.interface.netns for b in desired), ("addresses", "routes", "fdb"))
    missing = _bridges.missing(desired, views) if present else []
    return Planned(_bridges.plan_bridges(desired, present, views), missing)
