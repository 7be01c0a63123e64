# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The links that a cluster makes in the host's own namespace. Pure."""

from __future__ import annotations

from .._state.cluster import ClusterState
from .uplinks.registry import uplink_named


def host_links(state: ClusterState) -> list[str]:
    """Their names; those of retired resources, too, until they are removed."""
    retired = state.retired
    names = {veth.name for veth in (*state.veths, *retired.veths)}
    names |= {bridge.name for bridge in (*state.bridges, *retired.former_bridges) if bridge.exclusive}
    names |= {nic.bridge for nic in retired.nics}
    if state.take_interface:
        names.add(state.cluster.bridge)
    names |= {server.device for server in (*state.servers, *retired.servers) if not server.netns}
    claims = [(state.cluster.uplink, one.address) for one in state.addresses]
    claims += [(former.uplink, former.address) for former in retired.clusters]
    for uplink, address in claims:
        names |= set(uplink_named(uplink).host_links(state.name, 6 if ":" in address else 4))
    return sorted(names)
