# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What all uplinks share: sysctls of the host, what must be there, a member's loopback. Pure."""

from __future__ import annotations

import typing as t

from ..._kernel.observed import RTPROT_RA, Link, View, Views
from ..._kernel.steps import Step, step
from ..._topology.sysctls import plan_sysctls
from ..cluster import Cluster

FORWARDING = "net/ipv6/conf/all/forwarding"


def accept_ra(interface: str) -> str:
    """The sysctl that says whether it heeds router advertisements: 1 unless the host forwards, 2 always."""
    return f"net/ipv6/conf/{interface}/accept_ra"


def host_sysctls(cluster: Cluster) -> dict[str, str]:
    """Forwarding on the two interfaces concerned, not on all; proxy ARP without its random delay of up to 0.8 s."""
    nic, bridge = cluster.interface, cluster.bridge
    if cluster.uplink == "local":
        return {FORWARDING: "1"} if cluster.forward_ipv6 else {}
    if cluster.uplink == "bridged":  # the NIC's ports need nothing; the host routes to the members' VPN networks
        inner = {f"net/ipv4/conf/{bridge}/forwarding": "1", f"net/ipv4/conf/{bridge}/send_redirects": "0"}
        forward = {FORWARDING: "1"} if cluster.forward_ipv6 else {}
        return {**(inner if cluster.version == 4 else {}), **forward}
    if cluster.version == 6:
        # IPv6 knows forwarding for the whole host only.
        return {
            FORWARDING: "1",
            f"net/ipv6/conf/{nic}/proxy_ndp": "1",
            f"net/ipv6/neigh/{nic}/proxy_delay": "0",
        }
    return {
        f"net/ipv4/conf/{bridge}/forwarding": "1",
        f"net/ipv4/conf/{bridge}/send_redirects": "0",
        f"net/ipv4/conf/{nic}/forwarding": "1",
        f"net/ipv4/neigh/{nic}/proxy_delay": "0",
        **({FORWARDING: "1"} if cluster.forward_ipv6 else {}),
    }


def missing(cluster: Cluster, views: Views) -> list[str]:
    """Sentences about what must be there before the claim."""
    links = views[""].links
    result = [
        f"{parameter}: {name!r}: no such interface on this host{hint}"
        for parameter, name, hint in (
            ("interface", cluster.interface, ""),
            ("bridge", cluster.bridge, "; make it first with clustered.openvpn.bridge"),
        )
        if name and name not in links
    ]
    # Or the host would lose its way out by IPv6, and whoever came in by it would be locked out: docs/ipv6.md.
    if FORWARDING in host_sysctls(cluster) and views[""].sysctls.get(FORWARDING) == "0":
        result += [
            f"interface: {name!r}: the host has its default route from router advertisements there, ignored when"
            f" it forwards IPv6; set {accept_ra(name)} to 2 first"
            for name, link in sorted(links.items())
            if any(route.dst == "::/0" for route in link.routes.get(RTPROT_RA, ()))
            and views[""].sysctls.get(accept_ra(name)) == "1"
        ]
    if cluster.bridge in links and not links[cluster.bridge].up:
        result.append(f"bridge: {cluster.bridge!r}: is down; set it up first with clustered.openvpn.bridge")
    result.extend(
        f"nodes.netns: {node.netns!r}: no such network namespace; make it first with clustered.openvpn.netns"
        for node in cluster.members
        if not views[node.netns].exists
    )
    return result


def plan_join(cluster: Cluster, view: View, present: bool) -> list[Step]:
    """The NIC hears the cluster's MAC address when other hosts have it, too. A bridge's port hears everything."""
    nic = _link(view, cluster.interface)
    wanted = present and cluster.shared and cluster.uplink != "bridged"
    if cluster.engine == "clusterip" and cluster.uplink == "local":
        wanted = False  # the kernel does it by itself
    if (cluster.clustermac in nic.multicast) == wanted:
        return []
    return [step("maddr_add" if wanted else "maddr_del", dev=cluster.interface, mac=cluster.clustermac)]


def plan_sysctls_back(before: t.Mapping[str, str], elsewhere: t.Collection[str], view: View) -> list[Step]:
    """The host's sysctls as they were; but those that another cluster needs, which takes them back at its end."""
    there = {key: value for key, value in before.items() if key not in elsewhere and key in view.sysctls}
    return plan_sysctls("", there, view)


def plan_member(cluster: Cluster, view: View, present: bool) -> list[Step]:
    """The service address on a member's loopback; the drop rule is there before it, and goes after it."""
    address = cluster.host_address
    have = address in _link(view, "lo").addresses
    if have == present:
        return []
    return [step("addr_add" if present else "addr_del", view.netns, dev="lo", address=address)]


def _link(view: View, name: str) -> Link:
    return view.links.get(name, Link(name, None))
