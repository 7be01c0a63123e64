# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The layout of a cluster on one host: a request and the former state -> the desired state. Pure.

The result is stored on the host. The next layout starts from it, so that as few buckets as possible move, and members
that were dropped are removed.
"""

from __future__ import annotations

import ipaddress
import typing as t
from dataclasses import replace

from .. import _params as p
from .._state.bundle import BundleState
from .._state.cluster import (
    Bridge,
    ClusterState,
    FdbEntry,
    Holder,
    Member,
    Namespace,
    Node,
    Peer,
    Route,
    Server,
    ServiceAddress,
    Settings,
    Veth,
)
from .._state.files import State
from .._state.schema import plain
from . import conflicts
from .cluster import default_clustermac, highest
from .engines import choice
from .lan import Family, Lan, lan
from .members import member_mac, members_of
from .parameters import cluster_from
from .request import Instance, Request
from .retired import retired

DEFAULT_MTU = 1500  # of veth pairs and bridges

# A member routes, answers ARP only for addresses of the interface asked, never uses the service address as the sender
# of an ARP request, and ignores redirects: its way out is the host.
MEMBER_SYSCTLS = {
    "net.ipv4.ip_forward": "1",
    "net.ipv4.conf.all.arp_ignore": "1",
    "net.ipv4.conf.all.arp_announce": "2",
    "net.ipv4.conf.all.accept_redirects": "0",
}

# The same for IPv6, where it is used. A member's addresses are unique: duplicate address detection would only delay it.
MEMBER_SYSCTLS_IPV6 = {
    "net.ipv6.conf.all.forwarding": "1",
    "net.ipv6.conf.default.accept_dad": "0",
}


def layout(request: Request, previous: State | None = None, others: t.Iterable[State] = ()) -> ClusterState:
    """The desired state. C(others): those of other clusters and bundles of the host. Raises ParameterError."""
    if isinstance(previous, BundleState):
        raise p.ParameterError("name", request.name, "a bundle of this host has this name; choose another one")
    net = _with_mtu(lan(request), previous)
    networks = conflicts.networks_of(request, net)
    conflicts.among_themselves(request, networks)
    if not request.leaving:
        conflicts.with_host(request, net, networks)
    members = members_of(request, net, previous.members if previous else ())
    on_bridge = not net.uplink.host_is_member
    state = ClusterState(
        name=request.name,
        cluster=_settings(request, net),
        addresses=tuple(_service_address(request, one) for _parameter, one in request.addresses),
        claims=request.claims,
        failover=request.failover,
        take_interface=request.take_interface,
        members=members,
        nodes=tuple(Node(m.local_nodes, m.name, m.mac) if on_bridge else Node(m.local_nodes) for m in members),
        namespaces=tuple(Namespace(m.name, _sysctls(net)) for m in members) if on_bridge else (),
        veths=tuple(_veth(m, net, request) for m in members) if on_bridge else (),
        bridges=(_bridge(net, request, members),) if on_bridge else (),
        servers=tuple(_server(m, i, net, request) for m in members for i in request.instances),
        holders=tuple(Holder(_server_name(m, i), i.port, m.local_nodes) for m in members for i in request.instances),
        push=tuple(_pushed(net, request)),
    )
    # A cluster that leaves may overlap a bundle: it removes nothing that a bundle has.
    relevant = [other for other in others if isinstance(other, ClusterState) or not request.leaving]
    conflicts.with_others(state, request, net, networks, relevant)
    if not request.leaving:
        _refuse(state)
    return replace(state, retired=retired(previous, state, request.facts.get("interfaces", ())))


def _with_mtu(net: Lan, previous: ClusterState | None) -> Lan:
    """Links of a routed cluster have the kernel's default MTU anyway: it is stored only after another one."""
    stored = previous and any(veth.mtu for veth in previous.veths)
    return replace(net, mtu=None) if net.uplink.internal_network and net.mtu == DEFAULT_MTU and not stored else net


def _settings(request: Request, net: Lan) -> Settings:
    service = request.addresses[0][1]
    return Settings(
        address=str(service),
        interface=request.interface,
        bridge=net.bridge,
        clustermac=_service_address(request, service).clustermac,
        services=(*(instance.service for instance in request.instances), *request.services),
        uplink=t.cast(t.Any, request.uplink.name),
        shared=request.shared,
        distribution=request.distribution,
        hashmode=request.hashmode,
        engine=request.engine,
        hash_as=request.hash_as,
        force=request.force,
        # On the LAN, members reach other networks by themselves; packets out of tunnels go by way of the host.
        forward_ipv6=any(i.pool_ipv6 for i in request.instances) or (net.has_ipv6 and net.uplink.internal_network),
        hash_init=request.hash_init,
        total_nodes=request.total_nodes,
    )


def _service_address(request: Request, address: object) -> ServiceAddress:
    """Each service address has a cluster MAC of its own; a given one is that of IPv4."""
    given = request.clustermac if address == request.addresses[0][1] else None
    return ServiceAddress(str(address), given or default_clustermac(str(address)))


def _refuse(state: ClusterState) -> None:
    """Refuse settings here, before the first change, that a module would refuse in the middle of a run."""
    if state.failover:
        choice.refuse_failover(state.cluster.engine)
    for address in state.addresses:
        params = {**plain(state.cluster), **plain(address), "name": state.name, "claims": "exact", "state": "present"}
        choice.refuse(cluster_from({**params, "nodes": plain(state.nodes)}))


def _bridge(net: Lan, request: Request, members: tuple[Member, ...]) -> Bridge:
    """Ports neither flood nor learn: all addresses are known, and a missing member's frames must not reach others."""
    bridge = Bridge(
        name=net.bridge,
        flood=False,
        learning=False,
        ports=tuple(_host_end(m) for m in members),
        fdb=tuple(FdbEntry(m.mac, _host_end(m)) for m in members),
        routes=tuple(_route_to(m, pool.slice_of(m.number)) for m in members for pool in request.pools),
    )
    if net.uplink.members_on_lan:  # its addresses and MAC are configured elsewhere
        return replace(bridge, exclusive=False)
    addresses = tuple(family.interface(family.host) for family in net.families)
    return replace(bridge, mac=member_mac(request.name, "bridge"), mtu=net.mtu, addresses=addresses)


def _route_to(member: Member, net: ipaddress.IPv4Network | ipaddress.IPv6Network) -> Route:
    return Route(str(net), t.cast(str, _address_of(member, net.version)))


def _address_of(member: Member, version: int) -> str | None:
    return member.address if version == 4 else member.ipv6_address


def _sysctls(net: Lan) -> dict[str, str]:
    return {**MEMBER_SYSCTLS, **(MEMBER_SYSCTLS_IPV6 if net.has_ipv6 else {})}


def _host_end(member: Member) -> str:
    return f"ve-{member.name}"


def _veth(member: Member, net: Lan, request: Request) -> Veth:
    return Veth(
        name=_host_end(member),
        # The LAN's bridge takes the smallest MTU of its ports, and the lowest MAC, unless it has one of its own.
        mac=highest(member.mac) if net.uplink.members_on_lan else None,
        mtu=net.mtu,
        peer=Peer(
            name="eth0",
            netns=member.name,
            mac=member.mac,
            mtu=net.mtu,
            addresses=tuple(family.interface(str(_address_of(member, family.version))) for family in net.families),
            routes=tuple(route for family in net.families for route in _routes(family, net, request)),
        ),
    )


def _routes(family: Family, net: Lan, request: Request) -> t.Iterator[Route]:
    if family.gateway:
        yield Route("default", str(family.gateway))
    if net.uplink.members_on_lan:  # the host has a route for each member's slice
        for pool in request.pools:
            if pool.network.version == family.version:
                yield Route(str(pool.network), str(family.host))


def _server(member: Member, instance: Instance, net: Lan, request: Request) -> Server:
    # One process serves both families by one socket, which cannot be bound to two addresses.
    dual_stack = len(request.addresses) > 1
    ipv6 = instance.pool_ipv6
    return Server(
        name=_server_name(member, instance),
        netns="" if net.uplink.host_is_member else member.name,
        cpus=member.cpus,
        protocol=instance.protocol,
        port=instance.port,
        network=str(instance.pool.slice_of(member.number)),
        device=instance.device,
        local=None if dual_stack else str(request.addresses[0][1]),
        dual_stack=dual_stack,
        network_ipv6=str(ipv6.slice_of(member.number)) if ipv6 else None,
        extra_options=(*(_pushed_ipv6(net, request) if ipv6 else ()), *instance.extra_options),
    )


def _server_name(member: Member, instance: Instance) -> str:
    return f"{member.name}-{instance.name}"


def _pushed(net: Lan, request: Request) -> t.Iterator[str]:
    """Routes that clients need: to the pools of all members, and to the host's internal address, if it has one."""
    networks = [instance.pool.network for instance in request.instances]
    if net.uplink.internal_network:
        networks.append(ipaddress.ip_network(str(net.families[0].host)))
    for network in networks:
        yield f"route {network.network_address} {network.netmask}"


def _pushed_ipv6(net: Lan, request: Request) -> t.Iterator[str]:
    """The same for clients with an IPv6 address. Others could not use such routes."""
    networks = [str(instance.pool_ipv6.network) for instance in request.instances if instance.pool_ipv6]
    if net.uplink.internal_network:
        networks += [f"{family.host}/128" for family in net.families if family.version == 6]
    return (f'push "route-ipv6 {network}"' for network in networks)
