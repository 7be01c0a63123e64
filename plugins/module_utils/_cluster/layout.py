# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The layout of a cluster on one host: what the user says -> the parameters of every module. Pure.

The result is plain data (JSON). It is kept on the host as /etc/clustered-openvpn/NAME.json, and the next layout is made
with it, so that buckets move as little as can be and members that were dropped are taken down.
"""

from __future__ import annotations

import ipaddress
import typing as t

from .. import _params as p
from . import buckets, conflicts, health_check
from .cluster import STEER, cluster_name, default_clustermac, hash_parameters, highest
from .conflicts import Addresses, Networks
from .engines import choice
from .engines.registry import own_hash
from .hashing import DEFAULT
from .lan import PREFIX, Lan, lan
from .members import Data, _instances, _members, _pools, _service_addresses, _services, _slices, member_mac
from .parameters import cluster_from
from .retired import retired

# A member routes, answers ARP just for the address that is on the interface asked, never asks with the service address
# as sender, and takes no redirects: its way out is the host.
MEMBER_SYSCTLS = {
    "net.ipv4.ip_forward": "1",
    "net.ipv4.conf.all.arp_ignore": "1",
    "net.ipv4.conf.all.arp_announce": "2",
    "net.ipv4.conf.all.accept_redirects": "0",
}

# The same for IPv6, where it is used. A member's addresses are its own: it need not wait to see whether they are.
MEMBER_SYSCTLS_IPV6 = {
    "net.ipv6.conf.all.forwarding": "1",
    "net.ipv6.conf.default.accept_dad": "0",
}


def layout(wanted: t.Mapping[str, t.Any], previous: t.Mapping[str, t.Any] | None = None) -> Data:
    """Everything there is to be, from what the user says (C(wanted)) and the layout before.

    wanted: name, address, interface, members (name, and perhaps number, weight, cpus; if there are none: size, cores,
    pin), instances (name, protocol, port, pool), slice_prefix, internal_network, total_nodes, hash_init, clustermac;
    services: what is served besides the instances;
    uplink (bridged: bridge, first_member_address, gateway, take_interface; local: one member, which is the host);
    shared (other hosts have the address, too): buckets, those of this host; failover, what the claims' unit is to know;
    facts: what Ansible gathered of the host's interfaces; leaving: the cluster is to go, so it need not fit the host;
    others: the layouts of other clusters on it.
    For IPv6: ipv6_address, ipv6_internal_network, first_member_ipv6_address, ipv6_gateway, pool_ipv6 of instances.
    Raises ParameterError.
    """
    name = cluster_name("name", wanted["name"])
    if previous and "bundles" in previous:
        raise p.ParameterError("name", name, "a bundle of this host is called like this; choose another name")
    addresses = _service_addresses(wanted)
    address = t.cast(ipaddress.IPv4Address, addresses[0][1])
    clustermac = p.mac("clustermac", wanted.get("clustermac") or None, multicast=True)
    instances = _instances(wanted)
    pools_ipv6 = [i["pool_ipv6"] for i in instances if i["pool_ipv6"]]
    place = lan(name, wanted, [4, 6] if len(addresses) > 1 or pools_ipv6 else [4])
    members = _members(name, wanted, place, instances, [one for _parameter, one in addresses])
    networks = _own_networks(place, instances)
    conflicts.among_themselves(addresses, networks)
    if not wanted.get("leaving"):
        ours = [place.bridge] if place.uplink.internal_network else []
        if place.uplink.host_is_member:
            ours = [_device(i) for i in instances]
        conflicts.with_host(wanted, ours, addresses, place, networks)
    total, seed = hash_parameters(wanted)
    previous = previous or {}
    held = {m["name"]: m["local_nodes"] for m in previous.get("members", [])}
    weights = {m["name"]: m["weight"] for m in members}
    owners = _owners(wanted, weights, total, held)
    for member in members:
        member["local_nodes"] = owners[member["name"]]
    result = {
        "name": name,
        "cluster": {
            "address": str(address),
            "uplink": place.uplink.name,
            "interface": p.interface_name("interface", wanted["interface"]),
            "bridge": place.bridge,
            "clustermac": clustermac or default_clustermac(str(address)),
            "shared": bool(wanted.get("shared")),
            "distribution": wanted.get("distribution", STEER),
            "hashmode": wanted.get("hashmode", "sourceip"),
            "engine": wanted.get("engine", DEFAULT),
            "hash_as": wanted.get("hash_as") or own_hash(wanted.get("engine", DEFAULT)),
            "force": wanted.get("force", False),
            # On the LAN, members reach the world by themselves; what comes out of tunnels goes by the host.
            "forward_ipv6": bool(pools_ipv6) or (place.has_ipv6 and place.uplink.internal_network),
            "hash_init": seed,
            "total_nodes": total,
            "services": [{"protocol": i["protocol"], "port": i["port"]} for i in [*instances, *_services(wanted)]],
        },
        # The same cluster under each of them, each a claim with a MAC of its own.
        "addresses": [
            {
                "address": str(one),
                "clustermac": (clustermac if one == address else None) or default_clustermac(str(one)),
            }
            for _parameter, one in addresses
        ],
        "claims": wanted.get("claims", "exact"),
        "failover": dict(wanted.get("failover") or {}),
        "take_interface": bool(wanted.get("take_interface")) and place.uplink.members_on_lan,
        "members": members,
        **(_host_itself(members) if place.uplink.host_is_member else _namespaces(name, place, members, instances)),
        "servers": [_server(m, i, addresses, place, instances) for m in members for i in instances],
        # Which clients a server may hold: those of its member's buckets.
        "holders": [
            {"name": _server_name(m, i), "port": i["port"], "local_nodes": m["local_nodes"]}
            for m in members
            for i in instances
        ],
        # What a client must know of: the pools of all members, and the host by its internal address, if it has one.
        "push": [_pushed(ipaddress.IPv4Network(i["pool"])) for i in instances]
        + ([_pushed(ipaddress.IPv4Network(place.families[0].host))] if place.uplink.internal_network else []),
    }
    # What overlaps a bundle may go all the same: it removes nothing that a bundle has.
    others = [other for other in wanted.get("others") or [] if "cluster" in other or not wanted.get("leaving")]
    conflicts.with_others(result, place, addresses, networks, others)
    if not wanted.get("leaving"):
        _refuse(result)
    result["retired"] = retired(previous, result, wanted.get("facts") or {})
    return result


def _owners(
    wanted: t.Mapping[str, t.Any], weights: dict[str, int], total: int, held: dict[str, list[int]]
) -> dict[str, list[int]]:
    """Of all buckets; or of those that this host has, when it shares the address with others."""
    if not wanted.get("shared"):
        return buckets.owners(weights, total, held or None)
    # None at all may be weighted 0: then each member of the host is drained, and has nothing.
    mine = wanted.get("buckets") or []
    return buckets.shared_out(weights, mine, held) if any(weights.values()) else {name: [] for name in weights}


def _host_itself(members: list[Data]) -> Data:
    return {"nodes": [{"local_nodes": m["local_nodes"]} for m in members], "namespaces": [], "veths": [], "bridges": []}


def _namespaces(cluster: str, place: Lan, members: list[Data], instances: list[Data]) -> Data:
    bridge = {
        "name": place.bridge,
        **_own_bridge(cluster, place),
        # Every address is known: a member that is gone must not have its frames shown to all the others.
        "flood": False,
        "learning": False,
        "ports": [_host_end(m) for m in members],
        "fdb": [{"mac": m["mac"], "port": _host_end(m)} for m in members],
        "routes": [
            {"dst": str(net), "via": m["address"] if net.version == 4 else m["ipv6_address"]}
            for m in members
            for i in instances
            for net in _slices(i, m["number"])
        ],
    }
    return {
        "nodes": [{"netns": m["name"], "mac": m["mac"], "local_nodes": m["local_nodes"]} for m in members],
        "namespaces": [{"name": m["name"], "sysctls": _sysctls(place)} for m in members],
        "veths": [_veth(m, place, instances) for m in members],
        "bridges": [bridge],
    }


def _refuse(result: Data) -> None:
    """What the claims would refuse, before anything is made for them."""
    if result["failover"]:
        health_check.check(result["failover"])
        choice.refuse_failover(result["cluster"]["engine"])
    for address in result["addresses"]:
        claim = {**result["cluster"], **address, "name": result["name"], "nodes": result["nodes"]}
        choice.refuse(cluster_from({**claim, "claims": "exact", "state": "present"}))


def _own_bridge(cluster: str, place: Lan) -> Data:
    """The bridge itself; the LAN's is its owner's."""
    if place.uplink.members_on_lan:
        return {"exclusive": False}
    addresses = [place.interface(family.host, family) for family in place.families]
    return {"mac": member_mac(cluster, "bridge"), "addresses": addresses}


def _own_networks(place: Lan, instances: list[Data]) -> Networks:
    """Networks that are the cluster's alone, with their parameters."""
    families = place.families if place.uplink.internal_network else ()
    internal: Networks = [(f"{PREFIX[family.version]}internal_network", family.network) for family in families]
    return internal + [(parameter, pool) for i in instances for parameter, pool, _prefix in _pools(i)]


def _sysctls(place: Lan) -> dict[str, str]:
    return {**MEMBER_SYSCTLS, **(MEMBER_SYSCTLS_IPV6 if place.has_ipv6 else {})}


def _host_end(member: Data) -> str:
    return f"ve-{member['name']}"


def _veth(member: Data, place: Lan, instances: list[Data]) -> Data:
    routes, addresses = [], []
    for family in place.families:
        prefix = PREFIX[family.version]
        addresses.append(place.interface(ipaddress.ip_address(member[f"{prefix}address"]), family))
        if family.gateway:
            routes.append({"dst": "default", "via": str(family.gateway)})
        if place.uplink.members_on_lan:  # the host knows which member has which slice
            pools = [pool for i in instances for _parameter, pool, _prefix in _pools(i)]
            ours = [pool for pool in pools if pool.version == family.version]
            routes += [{"dst": str(pool), "via": str(family.host)} for pool in ours]
    # The bridge of the LAN would take a smaller MTU of its ports, and the lowest of their MACs.
    mtu = {"mtu": place.mtu} if place.mtu else {}
    return {
        "name": _host_end(member),
        **({"mac": highest(member["mac"])} if place.uplink.members_on_lan else {}),
        **mtu,
        "peer": {
            "name": "eth0",
            "netns": member["name"],
            "mac": member["mac"],
            **mtu,
            "addresses": addresses,
            "routes": routes,
        },
    }


def _server(member: Data, instance: Data, addresses: Addresses, place: Lan, instances: list[Data]) -> Data:
    pushed_ipv6 = _pushed_ipv6(place, instances)
    network, *ipv6 = _slices(instance, member["number"])
    # One process serves both families by one socket, which cannot be bound to two addresses.
    listen: Data = {"dual_stack": True} if len(addresses) > 1 else {"local": str(addresses[0][1])}
    return {
        "name": _server_name(member, instance),
        "netns": "" if place.uplink.host_is_member else member["name"],
        "cpus": member["cpus"],
        "protocol": instance["protocol"],
        **listen,
        "port": instance["port"],
        "network": str(network),
        **({"network_ipv6": str(ipv6[0]), "extra_options": pushed_ipv6} if ipv6 else {}),
        "device": _device(instance),
    }


def _device(instance: t.Mapping[str, t.Any]) -> str:
    return f"tun-{instance['name']}"


def _server_name(member: Data, instance: Data) -> str:
    return f"{member['name']}-{instance['name']}"


def _pushed(network: ipaddress.IPv4Network) -> str:
    return f"route {network.network_address} {network.netmask}"


def _pushed_ipv6(place: Lan, instances: list[Data]) -> list[str]:
    """The same for clients that have an IPv6 address. Others could not take such a route."""
    networks = [i["pool_ipv6"] for i in instances if i["pool_ipv6"]]
    if place.uplink.internal_network:
        networks += [f"{family.host}/128" for family in place.families if family.version == 6]
    return [f'push "route-ipv6 {net}"' for net in networks]
