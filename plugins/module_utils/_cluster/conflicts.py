# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Refuse a cluster that collides with itself, with the host, or with other clusters and bundles of the host. Pure."""

from __future__ import annotations

import ipaddress
import typing as t

from .. import _params as p
from .._state.cluster import ClusterState
from .._state.files import State
from .lan import PREFIX, Interface, Lan, Network, host_networks
from .request import Address, Request

Networks = list[tuple[str, Network]]  # each with the parameter that it comes from


def networks_of(request: Request, lan: Lan) -> Networks:
    """Networks that must be the cluster's alone: the internal ones and the pools."""
    families = lan.families if lan.uplink.internal_network else ()
    internal: Networks = [(f"{PREFIX[family.version]}internal_network", family.network) for family in families]
    return internal + [(pool.parameter, pool.network) for pool in request.pools]


def among_themselves(request: Request, networks: Networks) -> None:
    """Refuse networks of the cluster that overlap, or hold a service address."""
    for n, (parameter, net) in enumerate(networks):
        for _parameter, address in request.addresses:
            if address in net:
                raise p.ParameterError(parameter, str(net), f"must not contain the service address {address}")
        for other, other_net in networks[:n]:
            if net.overlaps(other_net):
                raise p.ParameterError(parameter, str(net), f"overlaps {other} {other_net}; choose another network")


def with_host(request: Request, lan: Lan, networks: Networks) -> None:
    """Refuse addresses and networks that the host has on other interfaces than the cluster's."""
    ours = [lan.bridge] if lan.uplink.internal_network else []
    if lan.uplink.host_is_member:
        ours = [instance.device for instance in request.instances]
    host = host_networks(request.facts, ours)
    if host is None:
        return
    interface = request.interface
    if interface not in host:
        raise p.ParameterError("interface", interface, f"no such interface; this host has {', '.join(sorted(host))}")
    if lan.has_ipv6 and not any(one.version == 6 for found in host.values() for one in found):
        raise p.ParameterError(
            "ipv6_internal_network",
            str(lan.families[1].network),
            "IPv6 is disabled on this host; enable it, or remove IPv6 from the cluster",
        )
    for name, found in host.items():
        for one in found:
            for parameter, address in request.addresses:
                _no_host(parameter, address, name, one)
                # On a host that is the member itself, the cluster adds the address there.
                at_ours = lan.uplink.host_is_member and name == ("lo" if one.version == 4 else interface)
                if one.ip == address and not (at_ours and one.network.num_addresses == 1):
                    raise p.ParameterError(
                        parameter,
                        str(address),
                        f"{name} of this host has it; remove it there, or choose an address that no host has",
                    )
            for parameter, net in networks:
                if net.overlaps(one.network):
                    raise p.ParameterError(parameter, str(net), f"overlaps {one} of {name}; choose another network")


def _no_host(parameter: str, address: Address, name: str, one: Interface) -> None:
    """Refuse the addresses of a network that are not for a single host."""
    network = one.network
    if network.num_addresses <= 2 or one.is_link_local:
        return
    words = {network.network_address: "network address" if one.version == 4 else "subnet-router anycast address"}
    if one.version == 4:
        words[network.broadcast_address] = "broadcast address"
    if address in words:
        reason = f"is the {words[address]} of {network} on {name}; choose an address between"
        raise p.ParameterError(parameter, str(address), reason)


def with_others(now: ClusterState, request: Request, lan: Lan, networks: Networks, others: t.Iterable[State]) -> None:
    """Refuse anything that another cluster, or a bundle, of the host has already."""
    for other in others:
        if other.name == now.name:
            continue
        kind = "cluster" if isinstance(other, ClusterState) else "bundle"
        holder = f"the {kind} {other.name} of this host has it"
        if isinstance(other, ClusterState):
            _with_cluster(now, request, lan, other, holder)
        taken = _networks_of(other)
        for parameter, net in networks:
            for one in taken:
                if net.overlaps(one):
                    raise p.ParameterError(parameter, str(net), f"overlaps {one}: {holder}; choose another network")


def _with_cluster(now: ClusterState, request: Request, lan: Lan, other: ClusterState, holder: str) -> None:
    for parameter, address in request.addresses:
        if str(address) in {one.address for one in other.addresses}:
            raise p.ParameterError(parameter, str(address), f"{holder}; choose another")
    taken = {namespace.name for namespace in other.namespaces}
    for member in now.members:
        if member.name in taken:
            raise p.ParameterError("members.name", member.name, f"{holder}; choose another")
    for key in ("address", "ipv6_address") if lan.uplink.members_on_lan else ():
        addresses = {getattr(member, key) for member in other.members} - {None}
        for member in now.members:
            if getattr(member, key) in addresses:
                raise p.ParameterError(f"members.{key}", getattr(member, key), f"{holder}; choose another")
    if now.failover and other.failover and now.failover.placeholders == other.failover.placeholders:
        raise p.ParameterError(
            "failover.placeholders",
            now.failover.placeholders,
            f"{holder}; choose another clusterip_cluster_first_vrid",
        )


def _networks_of(other: State) -> list[Network]:
    """Networks that the host routes to another cluster or bundle."""
    if isinstance(other, ClusterState):
        bridges = [ipaddress.ip_interface(one).network for bridge in other.bridges for one in bridge.addresses]
        slices = [one for server in other.servers for one in (server.network, server.network_ipv6) if one]
        return bridges + [ipaddress.ip_network(one) for one in slices]
    if other.bundle.netns:
        return []
    return [ipaddress.ip_network(one) for one in (*other.bundle.networks, *other.bundle.addresses)]
