# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Retired resources: those of the former state that the new one lacks. They stay listed until removed. Pure."""

from __future__ import annotations

import ipaddress
import typing as t
from dataclasses import replace

from .._state.cluster import (
    Bridge,
    ClusterState,
    FdbEntry,
    FormerCluster,
    Namespace,
    Retired,
    Server,
    Settings,
    TakenInterface,
    Veth,
)

Named = t.TypeVar("Named", Server, Veth, Namespace)


def retired(previous: ClusterState | None, now: ClusterState, interfaces: t.Collection[str]) -> Retired:
    """Resources to remove. C(interfaces): those that the host has at present."""
    if previous is None:
        return Retired()
    before = previous.retired
    servers = _gone(previous.servers + before.servers, now.servers)
    veths = _gone(previous.veths + before.veths, now.veths)
    # Servers that are in the way of a new one stop first, the others when all buckets have moved.
    ends = {end for server in now.servers for end in _ends(server)}
    former_bridges = _former_bridges(previous, now)
    names = {bridge.name for bridge in former_bridges}
    bridges, left = _still_joined(previous, now, [veth for veth in veths if veth.name in interfaces])
    return Retired(
        clusters=_former_clusters(previous, now),
        failover=None if now.failover else previous.failover or before.failover,
        servers=servers,
        in_the_way=tuple(server for server in servers if _ends(server) & ends),
        veths=veths,
        namespaces=_gone(previous.namespaces + before.namespaces, now.namespaces),
        former_bridges=former_bridges,
        nics=tuple(nic for nic in (*_taken(previous), *before.nics) if nic.bridge in names),
        bridges=bridges,
        left=left,
    )


def _gone(former: tuple[Named, ...], now: tuple[Named, ...]) -> tuple[Named, ...]:
    kept = {item.name for item in now}
    return tuple(item for item in {item.name: item for item in former}.values() if item.name not in kept)


def _ends(server: Server) -> set[tuple[str, object, object]]:
    """Resources that only one server of a namespace can have."""
    values = (server.network, server.network_ipv6, server.device, (server.protocol, server.port))
    keys = ("network", "network_ipv6", "device", "port")
    return {(server.netns, key, value) for key, value in zip(keys, values) if value is not None}


def _former_clusters(previous: ClusterState, now: ClusterState) -> tuple[FormerCluster, ...]:
    """Service addresses that have left their interface or bridge, with their nodes."""
    former = list(previous.retired.clusters)
    for one in previous.addresses:
        former.append(FormerCluster(**{**vars(previous.cluster), **vars(one), "nodes": previous.nodes}))

    def place(settings: Settings, address: str) -> tuple[str, str, str, str]:
        return address, settings.interface, settings.bridge, settings.uplink

    kept = {place(now.cluster, one.address) for one in now.addresses}
    places = {place(one, one.address): one for one in former}
    return tuple(one for where, one in places.items() if where not in kept)


def _former_bridges(previous: ClusterState, now: ClusterState) -> tuple[Bridge, ...]:
    """Bridges that the cluster has left, each with the members that were about to leave it."""
    before = previous.retired
    kept = {bridge.name for bridge in now.bridges}
    about_to = {bridge.name: bridge.ports for bridge in before.left}
    former = {bridge.name: bridge for bridge in (*previous.bridges, *before.former_bridges)}
    return tuple(
        replace(bridge, ports=bridge.ports + about_to.get(name, ()))
        for name, bridge in former.items()
        if name not in kept
    )


def _taken(previous: ClusterState) -> list[TakenInterface]:
    """The NIC that was made a port of the bridge."""
    if not previous.take_interface:
        return []
    return [TakenInterface(previous.cluster.bridge, previous.cluster.interface)]


def _still_joined(
    previous: ClusterState, now: ClusterState, leaving: list[Veth]
) -> tuple[tuple[Bridge, ...], tuple[Bridge, ...]]:
    """The bridge with leaving members: their clients are served until their buckets have moved.

    And, if the bridge is not the cluster's own, the ports and routes to remove from it then.
    """
    if not now.bridges:
        return (), ()
    (bridge,) = now.bridges
    former = [one for one in (*previous.bridges, *previous.retired.bridges) if one.name == bridge.name]
    if not leaving or not former:
        return (), ()
    ports = tuple(sorted(veth.name for veth in leaving))
    gateways = {address.split("/")[0] for veth in leaving for address in veth.peer.addresses}
    kept = {route.dst for route in bridge.routes}
    routes = {r.dst: r for one in former for r in one.routes if r.via in gateways and r.dst not in kept}
    # A gateway cannot be reached in a network that the bridge no longer has.
    nets = [ipaddress.ip_interface(address).network for address in bridge.addresses]
    if nets:
        routes = {dst: r for dst, r in routes.items() if any(ipaddress.ip_address(r.via) in net for net in nets)}
    rest = tuple(routes.values())
    macs = {veth.peer.mac: veth.name for veth in leaving}
    joined = replace(
        bridge,
        ports=bridge.ports + ports,
        fdb=bridge.fdb + tuple(FdbEntry(mac, port) for mac, port in macs.items()),
        routes=bridge.routes + rest,
    )
    left = Bridge(name=bridge.name, exclusive=False, ports=ports, routes=rest)
    return (joined,), () if bridge.exclusive else (left,)
