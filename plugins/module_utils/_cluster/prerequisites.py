# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Prerequisites of a claim that other tasks must have created: interfaces, namespaces, sysctls. Pure."""

from __future__ import annotations

from .._kernel.observed import RTPROT_RA, Views
from .cluster import Cluster
from .uplinks.registry import uplink_of
from .uplinks.uplink import FORWARDING


def accept_ra(interface: str) -> str:
    """The sysctl for router advertisements: 1 accepts them unless the host forwards, 2 always."""
    return f"net/ipv6/conf/{interface}/accept_ra"


def missing(cluster: Cluster, views: Views) -> list[str]:
    """A sentence about each missing prerequisite."""
    links = views[""].links
    result = [
        f"{parameter}: {name!r}: no such interface on this host{hint}"
        for parameter, name, hint in (
            ("interface", cluster.interface, ""),
            ("bridge", cluster.bridge, "; make it first with clustered.openvpn.bridge"),
        )
        if name and name not in links
    ]
    # Otherwise the host would lose its IPv6 default route, and with it perhaps the administrator: docs/ipv6.md.
    forwards = FORWARDING in uplink_of(cluster).host_sysctls(cluster)
    if forwards and views[""].sysctls.get(FORWARDING) == "0":
        result += [
            f"interface: {name!r}: the host has its default route from router advertisements there, which it ignores"
            f" when it forwards IPv6; set {accept_ra(name)} to 2 first"
            for name, link in sorted(links.items())
            if any(route.dst == "::/0" for route in link.routes.get(RTPROT_RA, ()))
            and views[""].sysctls.get(accept_ra(name)) == "1"
        ]
    if cluster.bridge in links and not links[cluster.bridge].up:
        result.append(f"bridge: {cluster.bridge!r}: is down; set it up first with clustered.openvpn.bridge")
    result.extend(
        f"nodes.netns: {member.netns!r}: no such network namespace; make it first with clustered.openvpn.netns"
        for member in cluster.namespaces
        if not views[member.netns].exists
    )
    return result
