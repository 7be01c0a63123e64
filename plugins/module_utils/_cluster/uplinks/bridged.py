# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""C(uplink: bridged): the members are on the LAN itself, by a bridge. Observed state -> steps. Pure.

The bridge answers ARP and neighbour solicitations for the service address by itself, whichever members are alive. It
does so for a neighbour entry of its own whose MAC address it knows at a port with C(neigh_suppress). That port is one
end of a veth pair that stays down: a place in the forwarding database, and what is forwarded to it is dropped.
"""

from __future__ import annotations

import typing as t

from ... import _params as p
from ..._kernel.observed import RTPROT_CLUSTERIP, Link, Route, View
from ..._kernel.steps import Step, step
from ..._topology.sysctls import plan_sysctls
from ..cluster import Cluster, highest
from . import common


def arp_port(cluster: Cluster) -> tuple[str, str]:
    """The port that answers for the address, and its other end. A cluster's name has ten bytes, an interface's 15."""
    kind = "arp" if cluster.version == 4 else "ndp"
    return f"{kind}-{cluster.name}", f"{kind}x-{cluster.name}"


def refuse(cluster: Cluster, view: View) -> None:
    """What cannot work on this bridge; raises ParameterError."""
    bridge = view.links.get(cluster.bridge)
    if bridge is None:
        return
    if bridge.kind != "bridge":
        raise p.ParameterError("bridge", cluster.bridge, "is no bridge; name the one that the members' LAN is on")
    if (nic := view.links.get(cluster.interface)) and nic.master != cluster.bridge:
        raise p.ParameterError(
            "interface", cluster.interface, f"is no port of {cluster.bridge}; name the port that leads to the LAN"
        )
    if cluster.distribution == "flood" and bridge.mcast_snooping:
        raise p.ParameterError(
            "distribution",
            "flood",
            f"{cluster.bridge} has mcast_snooping on, and with a querier on the LAN it stops flooding: switch it off"
            f" (ip link set dev {cluster.bridge} type bridge mcast_snooping 0), or take steer",
        )


def plan_host(cluster: Cluster, view: View) -> list[Step]:
    """The port, its entries, and last the neighbour entry: from then on ARP is answered."""
    name, other = arp_port(cluster)
    bridge = view.links.get(cluster.bridge, Link(cluster.bridge, "bridge"))
    port = view.links.get(name)
    steps = plan_sysctls("", common.host_sysctls(cluster), view)
    if port is None:
        # With the bridge's MTU, or the bridge would take that of its new port; and its MAC, if that were lower.
        pair: dict[str, t.Any] = {"dev": name, "mac": highest(cluster.routed_mac), "mtu": bridge.mtu}
        steps.append(step("veth_add", "", **pair, peer=other, peer_netns=None, peer_mac=None, peer_mtu=bridge.mtu))
        port = Link(name, "veth")
    if port.kind != "veth":
        raise p.ParameterError("name", cluster.name, f"the interface {name} is none of ours; remove it first")
    if port.up:
        steps.append(step("link_down", dev=name))
    joined = port.master == cluster.bridge
    if not joined:
        steps.append(step("link_master", dev=name, master=cluster.bridge))
    if not (joined and port.neigh_suppress):
        steps.append(step("port_suppress", dev=name))
    if not (joined and cluster.routed_mac in port.fdb):
        steps.append(step("fdb_replace", dev=name, mac=cluster.routed_mac))
    if Route(cluster.host_address) not in bridge.routes.get(RTPROT_CLUSTERIP, frozenset()):
        dst: dict[str, t.Any] = {"dst": cluster.host_address, "via": None, "src": None}
        steps.append(step("route_replace", "", dev=cluster.bridge, **dst, proto=RTPROT_CLUSTERIP))
    if bridge.neighbours.get(cluster.address) != cluster.routed_mac:
        mac = cluster.routed_mac
        steps.append(step("neigh_replace", dev=cluster.bridge, address=cluster.address, lladdr=mac))
    return steps


def plan_no_host(cluster: Cluster, view: View) -> list[Step]:
    """The same, taken back; the neighbour entry first."""
    name = arp_port(cluster)[0]
    bridge = view.links.get(cluster.bridge, Link(cluster.bridge, None))
    steps = []
    if cluster.address in bridge.neighbours:
        steps.append(step("neigh_del", dev=cluster.bridge, address=cluster.address))
    if Route(cluster.host_address) in bridge.routes.get(RTPROT_CLUSTERIP, frozenset()):
        steps.append(step("route_del", dev=cluster.bridge, dst=cluster.host_address, via=None, proto=RTPROT_CLUSTERIP))
    if name in view.links:
        steps.append(step("link_del", dev=name))
    return steps
