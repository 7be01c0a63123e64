# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The uplink: how packets for the service address reach the host and leave it. Observed state -> steps. Pure.

C(uplink: routed). The NIC is no bridge port and keeps its addresses. The host answers ARP for the service address as a
proxy, whichever members are alive, and routes what the members send.
"""

from __future__ import annotations

from ..._kernel.observed import RTPROT_CLUSTERIP, Route, View
from ..._kernel.steps import Step, step
from ..._topology.sysctls import plan_sysctls
from ..cluster import Cluster
from .common import _link, host_sysctls


def plan_host(cluster: Cluster, view: View) -> list[Step]:
    """Routes and neighbours of the host. The proxy entry is last: from then on the world sends packets here."""
    address, bridge, nic = cluster.address, cluster.bridge, cluster.interface
    inner, outer = _link(view, bridge), _link(view, nic)
    route = cluster.host_address
    steps = plan_sysctls("", host_sysctls(cluster), view)
    if inner.neighbours.get(address) != cluster.routed_mac:
        steps.append(step("neigh_replace", dev=bridge, address=address, lladdr=cluster.routed_mac))
    if Route(route) not in inner.routes.get(RTPROT_CLUSTERIP, frozenset()):
        steps.append(step("route_replace", dev=bridge, dst=route, via=None, src=None, proto=RTPROT_CLUSTERIP))
    if address not in outer.proxies:
        steps.append(step("proxy_add", dev=nic, address=address))
    return steps


def plan_no_host(cluster: Cluster, view: View) -> list[Step]:
    """The same, taken back; the proxy entry first."""
    address, bridge, nic = cluster.address, cluster.bridge, cluster.interface
    inner, outer = _link(view, bridge), _link(view, nic)
    steps = []
    if address in outer.proxies:
        steps.append(step("proxy_del", dev=nic, address=address))
    if Route(cluster.host_address) in inner.routes.get(RTPROT_CLUSTERIP, frozenset()):
        steps.append(step("route_del", dev=bridge, dst=cluster.host_address, via=None, proto=RTPROT_CLUSTERIP))
    if address in inner.neighbours:
        steps.append(step("neigh_del", dev=bridge, address=address))
    return steps
