# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The interface of an uplink: how packets for the service address reach the members of this host. Pure.

A new uplink is one file beside this one, with a class that implements Uplink, and one line in C(registry.py).
"""

from __future__ import annotations

import typing as t

from ..._kernel.observed import Link, View
from ..._kernel.steps import Step
from ..cluster import Cluster

FORWARDING = "net/ipv6/conf/all/forwarding"


class Uplink(t.Protocol):
    """How packets for the service address reach the members, and how the host claims the address on the LAN."""

    name: str  # the value of C(uplink)
    host_is_member: bool  # the only member is the host itself: no namespaces and no bridge
    members_on_lan: bool  # the NIC is a port of the members' bridge, so members have addresses of the LAN
    family: str  # the nftables family of the host's rules that choose the owner
    families: frozenset[str]  # the nftables families without which it does not work, whichever engine

    @property
    def internal_network(self) -> bool:
        """Whether members are on a network inside the host, which routes for them."""
        return not (self.host_is_member or self.members_on_lan)

    def unresolved_mac(self, cluster: Cluster) -> str:
        """The destination MAC address of the host's own frames for the address, until their owner is looked up."""
        return cluster.unicast_mac

    def host_sysctls(self, cluster: Cluster) -> dict[str, str]:
        """The host's sysctls that it needs, and their values."""

    def host_links(self, name: str, version: int) -> tuple[str, ...]:
        """Links that it makes on the host for a service address of that cluster and IP version."""
        del name, version
        return ()

    def checked_sysctls(self, cluster: Cluster) -> list[str]:
        """Further sysctls that C(refuse) checks."""
        del cluster
        return []

    def refuse(self, cluster: Cluster, view: View) -> None:
        """Refuse a configuration that cannot work on this host. Raises ParameterError."""
        del cluster, view

    def plan_host(self, cluster: Cluster, view: View) -> list[Step]:
        """Steps that make the host receive packets for the address; the one that attracts them is the last."""

    def plan_no_host(self, cluster: Cluster, view: View) -> list[Step]:
        """Steps that undo this, in reverse order."""


def link_of(view: View, name: str) -> Link:
    """An interface; one without any state if it is missing."""
    return view.links.get(name, Link(name, None))


def ipv6_forwarding(cluster: Cluster) -> dict[str, str]:
    """The sysctl that an IPv4 cluster needs if IPv6 is to be forwarded, too."""
    return {FORWARDING: "1"} if cluster.forward_ipv6 else {}
