# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Namespaces, veth pairs and bridges: desired state + what the kernel holds -> a plan."""

from __future__ import annotations

import typing as t

from .._kernel.kernel import Kernel
from .._kernel.steps import Planned
from . import bridges as _bridges
from . import interfaces
from . import namespaces as _namespaces
from . import veths as _veths


def namespaces(kernel: Kernel, wanted: t.Sequence[_namespaces.Namespace], present: bool) -> Planned:
    """Network namespaces."""
    sysctls = {n.name: n.sysctls for n in wanted}
    return Planned(_namespaces.plan_namespaces(wanted, present, kernel.observe(sysctls, (), sysctls)))


def veths(kernel: Kernel, wanted: t.Sequence[_veths.Veth], present: bool) -> Planned:
    """veth pairs."""
    ends = [end for veth in wanted for end in (veth.end, veth.peer)]
    views = kernel.observe((end.netns for end in ends), ("addresses", "routes"))
    missing = interfaces.missing(ends, views) if present else []
    return Planned(_veths.plan_veths(wanted, present, views), missing)


def bridges(kernel: Kernel, wanted: t.Sequence[_bridges.Bridge], present: bool) -> Planned:
    """Bridges."""
    views = kernel.observe((b.interface.netns for b in wanted), ("addresses", "routes", "fdb"))
    missing = _bridges.missing(wanted, views) if present else []
    return Planned(_bridges.plan_bridges(wanted, present, views), missing)
