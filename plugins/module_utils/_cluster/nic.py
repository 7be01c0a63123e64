# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""NICs that cannot carry a service address, and the names to give instead. Pure."""

from __future__ import annotations

import ipaddress
import typing as t

from .._kernel.observed import Link
from .._params import ParameterError
from .._state.cluster import ClusterState
from .uplinks.registry import UPLINKS

MASTERS = ("bridge", "bond", "team", "openvswitch")  # what receives the packets in place of their ports


def error(now: ClusterState, links: t.Mapping[str, Link]) -> str | None:
    """The reason why the NIC cannot be used, with a better one."""
    name, link = now.cluster.interface, links.get(now.cluster.interface)
    if link is None:  # an earlier check has said so, or the host has no facts of interfaces
        return None
    if not _has_mac(link):
        others = ", ".join(_candidates(now, links)) or "none"
        reason = f"has no MAC address (tun, ppp, WireGuard, loopback), and ARP needs one; use one of: {others}"
        return str(ParameterError("interface", name, reason))
    returned = {nic.bridge for nic in now.retired.nics if nic.interface == name}
    master = links.get(link.master or "")
    if master is None or master.kind not in MASTERS or master.name in returned:
        return None
    if not UPLINKS[now.cluster.uplink].internal_network:
        return None
    reason = f"is a port of {master.name}, which receives its packets; use interface {master.name}"
    return str(ParameterError("interface", name, reason))


def _candidates(now: ClusterState, links: t.Mapping[str, Link]) -> list[str]:
    """Those in the network of the service address; or else all that have an address."""
    ours = {bridge.name for bridge in now.bridges}
    usable = [link for link in links.values() if _has_mac(link) and link.addresses and link.name not in ours]
    address = ipaddress.ip_address(now.cluster.address)
    on_lan = [link for link in usable if any(address in ipaddress.ip_interface(one).network for one in link.addresses)]
    return sorted(link.name for link in on_lan or usable)


def _has_mac(link: Link) -> bool:
    return bool(link.mac) and len(link.mac or "") == 17 and link.mac != "00:00:00:00:00:00"
