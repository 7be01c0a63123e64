# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""C(uplink: bridged): the members are on the LAN itself, by a bridge. Observed state -> steps. Pure.

The bridge answers ARP and neighbour solicitations for the service address by itself, whichever members are alive. It
does so for a neighbour entry of its own whose MAC address is in the forwarding database of a port with
C(neigh_suppress). That port is one end of a veth pair that stays down, so frames that are forwarded to it are dropped.
"""

from __future__ import annotations

import typing as t

from ... import _params as p
from ..._kernel.observed import RTPROT_CLUSTERIP, Link, Route, View
from ..._kernel.steps import Step, step
from ..._topology.sysctls import plan_sysctls
from ..cluster import STEER, Cluster, highest
from .uplink import Uplink, ipv6_forwarding, link_of


class Bridged(Uplink):
    """The LAN's bridge, of which the NIC is a port."""

    name = "bridged"
    host_is_member, members_on_lan = False, True
    family, families = "bridge", frozenset({"bridge"})

    def host_links(self, name: str, version: int) -> tuple[str, ...]:
        return _arp_port(name, version)

    def host_sysctls(self, cluster: Cluster) -> dict[str, str]:
        # The NIC needs nothing. The host routes to the members' VPN networks.
        bridge = cluster.bridge
        forward = {f"net/ipv4/conf/{bridge}/forwarding": "1", f"net/ipv4/conf/{bridge}/send_redirects": "0"}
        return {**(forward if cluster.version == 4 else {}), **ipv6_forwarding(cluster)}

    def refuse(self, cluster: Cluster, view: View) -> None:
        bridge = view.links.get(cluster.bridge)
        if bridge is None:
            return
        if bridge.kind != "bridge":
            raise p.ParameterError("bridge", cluster.bridge, "is not a bridge; name the bridge of the members' LAN")
        if (nic := view.links.get(cluster.interface)) and nic.master != cluster.bridge:
            remedy = f"is not a port of {cluster.bridge}; name the port that leads to the LAN"
            raise p.ParameterError("interface", cluster.interface, remedy)
        if cluster.distribution != STEER and bridge.mcast_snooping:
            raise p.ParameterError(
                "distribution",
                cluster.distribution,
                f"{cluster.bridge} has mcast_snooping on, and stops flooding when the LAN has a querier; switch it off"
                f" (ip link set dev {cluster.bridge} type bridge mcast_snooping 0), or use steer",
            )

    def plan_host(self, cluster: Cluster, view: View) -> list[Step]:
        name, other = _arp_port(cluster.name, cluster.version)
        bridge = view.links.get(cluster.bridge, Link(cluster.bridge, "bridge"))
        port = view.links.get(name)
        mac = cluster.unicast_mac
        steps = plan_sysctls("", self.host_sysctls(cluster), view)
        if port is None:
            # With the bridge's MTU, since a bridge takes a smaller one of a port, and with a high MAC address, since
            # it takes the lowest.
            pair: dict[str, t.Any] = {"dev": name, "mac": highest(mac), "mtu": bridge.mtu}
            steps.append(step("veth_add", "", **pair, peer=other, peer_netns=None, peer_mac=None, peer_mtu=bridge.mtu))
            port = Link(name, "veth")
        if port.kind != "veth":
            remedy = f"an interface {name} exists that the collection has not made; remove it, or use another name"
            raise p.ParameterError("name", cluster.name, remedy)
        if port.up:
            steps.append(step("link_down", dev=name))
        joined = port.master == cluster.bridge
        if not joined:
            steps.append(step("link_master", dev=name, master=cluster.bridge))
        if not (joined and port.neigh_suppress):
            steps.append(step("port_suppress", dev=name))
        if not (joined and mac in port.fdb):
            steps.append(step("fdb_replace", dev=name, mac=mac))
        if Route(cluster.host_address) not in bridge.routes.get(RTPROT_CLUSTERIP, frozenset()):
            dst: dict[str, t.Any] = {"dst": cluster.host_address, "via": None, "src": None}
            steps.append(step("route_replace", "", dev=cluster.bridge, **dst, proto=RTPROT_CLUSTERIP))
        if bridge.neighbours.get(cluster.address) != mac:
            steps.append(step("neigh_replace", dev=cluster.bridge, address=cluster.address, lladdr=mac))
        return steps

    def plan_no_host(self, cluster: Cluster, view: View) -> list[Step]:
        name, _other = _arp_port(cluster.name, cluster.version)
        bridge = link_of(view, cluster.bridge)
        steps = []
        if cluster.address in bridge.neighbours:
            steps.append(step("neigh_del", dev=cluster.bridge, address=cluster.address))
        if Route(cluster.host_address) in bridge.routes.get(RTPROT_CLUSTERIP, frozenset()):
            steps.append(
                step("route_del", dev=cluster.bridge, dst=cluster.host_address, via=None, proto=RTPROT_CLUSTERIP)
            )
        if name in view.links:
            steps.append(step("link_del", dev=name))
        return steps


def _arp_port(name: str, version: int) -> tuple[str, str]:
    """The port that answers for the address, and its other end. A cluster's name has up to 10 bytes, a link's 15."""
    kind = "arp" if version == 4 else "ndp"
    return f"{kind}-{name}", f"{kind}x-{name}"
