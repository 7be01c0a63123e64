# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The uplinks by name. Pure."""

from __future__ import annotations

import typing as t

from ... import _params as p
from ..cluster import Cluster
from .bridged import Bridged
from .local import Local
from .routed import Routed
from .uplink import Uplink

UPLINKS: t.Mapping[str, Uplink] = {uplink.name: uplink for uplink in (Routed(), Bridged(), Local())}


def uplink_named(name: str) -> Uplink:
    """The uplink with this name. Raises ParameterError."""
    if name not in UPLINKS:
        raise p.ParameterError("uplink", name, f"no such uplink; use one of {', '.join(UPLINKS)}")
    return UPLINKS[name]


def uplink_of(cluster: Cluster) -> Uplink:
    """The uplink of a cluster."""
    return UPLINKS[cluster.uplink]
