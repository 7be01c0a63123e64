# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""C(uplink: routed): the host routes between the LAN and an internal bridge. Observed state -> steps. Pure.

The NIC is no bridge port and keeps its addresses. The host answers ARP for the service address as a proxy, whichever
members are alive, and routes the members' packets.
"""

from __future__ import annotations

from ..._kernel.observed import RTPROT_CLUSTERIP, Route, View
from ..._kernel.steps import Step, step
from ..._topology.sysctls import plan_sysctls
from ..cluster import STEER, Cluster
from .uplink import FORWARDING, Uplink, ipv6_forwarding, link_of


class Routed(Uplink):
    """An internal bridge, proxy ARP or proxy ND at the NIC, and a route."""

    name = "routed"
    host_is_member, members_on_lan = False, False
    family, families = "netdev", frozenset({"netdev"})

    def unresolved_mac(self, cluster: Cluster) -> str:
        # On an internal bridge, a flood to all members is harmless.
        return cluster.unicast_mac if cluster.distribution == STEER else cluster.clustermac

    def host_sysctls(self, cluster: Cluster) -> dict[str, str]:
        nic, bridge = cluster.interface, cluster.bridge
        if cluster.version == 6:
            # IPv6 has forwarding for the whole host only.
            return {
                FORWARDING: "1",
                f"net/ipv6/conf/{nic}/proxy_ndp": "1",
                f"net/ipv6/neigh/{nic}/proxy_delay": "0",
            }
        return {
            f"net/ipv4/conf/{bridge}/forwarding": "1",
            f"net/ipv4/conf/{bridge}/send_redirects": "0",
            f"net/ipv4/conf/{nic}/forwarding": "1",
            f"net/ipv4/neigh/{nic}/proxy_delay": "0",  # the default is a random delay of up to 0.8 s
            **ipv6_forwarding(cluster),
        }

    def plan_host(self, cluster: Cluster, view: View) -> list[Step]:
        address, bridge, nic = cluster.address, cluster.bridge, cluster.interface
        inner, outer = link_of(view, bridge), link_of(view, nic)
        route, mac = cluster.host_address, self.unresolved_mac(cluster)
        steps = plan_sysctls("", self.host_sysctls(cluster), view)
        if inner.neighbours.get(address) != mac:
            steps.append(step("neigh_replace", dev=bridge, address=address, lladdr=mac))
        if Route(route) not in inner.routes.get(RTPROT_CLUSTERIP, frozenset()):
            steps.append(step("route_replace", dev=bridge, dst=route, via=None, src=None, proto=RTPROT_CLUSTERIP))
        if address not in outer.proxies:
            steps.append(step("proxy_add", dev=nic, address=address))
        return steps

    def plan_no_host(self, cluster: Cluster, view: View) -> list[Step]:
        address, bridge, nic = cluster.address, cluster.bridge, cluster.interface
        inner, outer = link_of(view, bridge), link_of(view, nic)
        steps = []
        if address in outer.proxies:
            steps.append(step("proxy_del", dev=nic, address=address))
        if Route(cluster.host_address) in inner.routes.get(RTPROT_CLUSTERIP, frozenset()):
            steps.append(step("route_del", dev=bridge, dst=cluster.host_address, via=None, proto=RTPROT_CLUSTERIP))
        if address in inner.neighbours:
            steps.append(step("neigh_del", dev=bridge, address=address))
        return steps
