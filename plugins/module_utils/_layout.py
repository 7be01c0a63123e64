# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The layout of a cluster on one host: what the user says -> the parameters of every module. Pure.

The result is plain data (JSON). It is kept on the host as /etc/clustered-openvpn/NAME.json, and the next layout is made
with it, so that buckets move as little as can be and members that were dropped are taken down.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
import typing as t
from dataclasses import dataclass, replace

from ansible_collections.clustered.openvpn.plugins.module_utils import _buckets
from ansible_collections.clustered.openvpn.plugins.module_utils import _params as p
from ansible_collections.clustered.openvpn.plugins.module_utils._cluster import (
    cluster_name,
    default_clustermac,
    hash_parameters,
)

FIRST_MEMBER = 10  # member 1 has the internal network's address .11; .1 is the host's; those between are free
SMALLEST_SLICE = 29  # OpenVPN's "server" needs a network of eight addresses at least
IPV6_SLICE = 64  # the largest that OpenVPN's "server-ipv6" takes

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

Data = dict[str, t.Any]
Address = t.Union[ipaddress.IPv4Address, ipaddress.IPv6Address]
Interface = t.Union[ipaddress.IPv4Interface, ipaddress.IPv6Interface]
Network = t.Union[ipaddress.IPv4Network, ipaddress.IPv6Network]
# Each with the parameter that it comes from.
Addresses = list[tuple[str, Address]]
Networks = list[tuple[str, Network]]


def layout(wanted: t.Mapping[str, t.Any], previous: t.Mapping[str, t.Any] | None = None) -> Data:
    """Everything there is to be, from what the user says (C(wanted)) and the layout before.

    wanted: name, address, interface, members (name, and perhaps number, weight, cpus; if there are none: size, cores,
    pin), instances (name, protocol, port, pool), slice_prefix, internal_network, total_nodes, hash_init, clustermac;
    uplink (bridged: bridge, first_member_address, gateway); facts: what Ansible gathered of the host's interfaces;
    leaving: the cluster is to go, so it need not fit the host; others: the layouts of other clusters on the host. For
    IPv6: ipv6_address, ipv6_internal_network, and pool_ipv6 of instances. Raises ParameterError.
    """
    name = cluster_name("name", wanted["name"])
    addresses = _service_addresses(wanted)
    address = t.cast(ipaddress.IPv4Address, addresses[0][1])
    clustermac = p.mac("clustermac", wanted.get("clustermac") or None, multicast=True)
    instances = _instances(wanted)
    lan = _with_ipv6(_lan(name, wanted, address), wanted, addresses, instances)
    members = _members(name, wanted, lan, instances)
    networks = _own_networks(lan, instances)
    _no_overlaps(addresses, networks)
    if not wanted.get("leaving"):
        _fits_host(wanted, addresses, lan, networks)
    total, seed = hash_parameters(wanted)
    previous = previous or {}
    held = {m["name"]: m["local_nodes"] for m in previous.get("members", [])}
    weights = {m["name"]: m["weight"] for m in members}
    owners = _buckets.owners(weights, total, held or None)
    for member in members:
        member["local_nodes"] = owners[member["name"]]
    result = {
        "name": name,
        "cluster": {
            "address": str(address),
            "uplink": lan.uplink,
            "interface": p.interface_name("interface", wanted["interface"]),
            "bridge": lan.bridge,
            "clustermac": clustermac or default_clustermac(str(address)),
            "distribution": wanted.get("distribution", "steer"),
            "hashmode": wanted.get("hashmode", "sourceip"),
            "force": wanted.get("force", False),
            "forward_ipv6": lan.ipv6 is not None,
            "hash_init": seed,
            "total_nodes": total,
            "services": [{"protocol": i["protocol"], "port": i["port"]} for i in instances],
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
        "take_interface": bool(wanted.get("take_interface")) and lan.uplink == "bridged",
        "members": members,
        "nodes": [{"netns": m["name"], "mac": m["mac"], "local_nodes": m["local_nodes"]} for m in members],
        "namespaces": [{"name": m["name"], "sysctls": _sysctls(lan)} for m in members],
        "veths": [_veth(m, lan, instances) for m in members],
        "bridges": [
            {
                "name": lan.bridge,
                **lan.own_bridge(name),
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
        ],
        "servers": [_server(m, i, addresses, _pushed_ipv6(lan, instances)) for m in members for i in instances],
        # Which clients a server may hold: those of its member's buckets.
        "holders": [
            {"name": _server_name(m, i), "port": i["port"], "local_nodes": m["local_nodes"]}
            for m in members
            for i in instances
        ],
        # What a client must know of: the pools of all members, and the host by its internal address, if it has one.
        "push": [_pushed(ipaddress.IPv4Network(i["pool"])) for i in instances]
        + ([_pushed(ipaddress.IPv4Network(lan.host))] if lan.uplink == "routed" else []),
    }
    _apart(result, lan, addresses, networks, wanted.get("others") or [])
    result["retired"] = _retired(previous, result, wanted.get("facts") or {})
    return result


@dataclass(frozen=True)
class _Lan:
    """What the members' own addresses are of: the internal network, or the LAN itself."""

    uplink: str
    bridge: str
    network: ipaddress.IPv4Network
    host: ipaddress.IPv4Address | None  # the host's own address there
    gateway: ipaddress.IPv4Address | None  # the members' way out
    first: ipaddress.IPv4Address | None  # of member 1
    service: ipaddress.IPv4Address
    mtu: int | None = None
    ipv6: ipaddress.IPv6Network | None = None  # the internal network's like

    @property
    def host_ipv6(self) -> ipaddress.IPv6Address | None:
        """The host's own address there, and the members' way out."""
        return self.ipv6.network_address + 1 if self.ipv6 else None

    def own_bridge(self, cluster: str) -> Data:
        """The bridge itself; the LAN's is its owner's."""
        if self.uplink == "bridged":
            return {"exclusive": False}
        addresses = [f"{self.host}/{self.network.prefixlen}"]
        if self.ipv6:
            addresses.append(f"{self.host_ipv6}/{self.ipv6.prefixlen}")
        return {"mac": member_mac(cluster, "bridge"), "addresses": addresses}

    def member_address(self, where: str, number: int, given: str | None) -> ipaddress.IPv4Address:
        """A member's own address: as given, or counted from the first."""
        if self.uplink == "routed" and given:
            raise p.ParameterError(f"{where}.address", given, "uplink=routed derives it from the number: leave it out")
        if given:
            address = ipaddress.IPv4Address(p.address(f"{where}.address", given, version=4))
        elif self.first is None:
            raise p.ParameterError(
                "first_member_address", "", "uplink=bridged needs the LAN address of member 1, or each member's address"
            )
        elif self.uplink == "routed" and FIRST_MEMBER + number >= self.network.num_addresses - 1:
            raise p.ParameterError("internal_network", str(self.network), f"too small for member number {number}")
        else:
            address = self.first + (number - 1)
        usable = self.network.prefixlen > 30 or self.network[0] < address < self.network[-1]
        if address not in self.network or not usable or address in (self.host, self.gateway, self.service):
            parameter = f"{where}.address" if given else "first_member_address"
            raise p.ParameterError(
                parameter,
                str(address),
                f"member number {number} needs a free address of {self.network} on {self.bridge}",
            )
        return address

    def member_ipv6(self, number: int) -> dict[str, str]:
        """A member's own IPv6 address, if it is to have one."""
        if not self.ipv6:
            return {}
        if FIRST_MEMBER + number >= self.ipv6.num_addresses:
            raise p.ParameterError("ipv6_internal_network", str(self.ipv6), f"too small for member number {number}")
        return {"ipv6_address": str(self.ipv6.network_address + FIRST_MEMBER + number)}


def _service_addresses(wanted: t.Mapping[str, t.Any]) -> Addresses:
    """That of IPv4, and that of IPv6 if there is one."""
    result = []
    for parameter, version in (("address", 4), ("ipv6_address", 6)):
        if version == 4 or wanted.get(parameter):
            p.address(parameter, wanted[parameter], version=version)
            result.append((parameter, ipaddress.ip_address(p.service_address(parameter, wanted[parameter]))))
    return result


def _with_ipv6(lan: _Lan, wanted: t.Mapping[str, t.Any], addresses: Addresses, instances: list[Data]) -> _Lan:
    """The internal network of IPv6, as soon as the cluster has an address of it or a pool."""
    used = [(name, str(one)) for name, one in addresses[1:]]
    used += [(f"instances[{i['name']}].pool_ipv6", i["pool_ipv6"]) for i in instances if i["pool_ipv6"]]
    if not used:
        return lan
    if lan.uplink == "bridged":
        raise p.ParameterError(*used[0], "uplink=bridged is for IPv4 alone: leave it out, or take uplink=routed")
    net = p.network("ipv6_internal_network", wanted.get("ipv6_internal_network") or "", version=6)
    return replace(lan, ipv6=t.cast(ipaddress.IPv6Network, net))


def _lan(cluster: str, wanted: t.Mapping[str, t.Any], service: ipaddress.IPv4Address) -> _Lan:
    if wanted.get("uplink", "routed") == "routed":
        network = t.cast(ipaddress.IPv4Network, p.network("internal_network", wanted["internal_network"], version=4))
        host = network.network_address + 1
        bridge = p.interface_name("name", f"br-{cluster}")
        return _Lan("routed", bridge, network, host, host, network.network_address + FIRST_MEMBER + 1, service)
    if not wanted.get("bridge"):
        raise p.ParameterError("bridge", "", "uplink=bridged needs the bridge that the LAN is on")
    bridge = p.interface_name("bridge", wanted["bridge"])
    facts = wanted.get("facts") or {}
    first = wanted.get("first_member_address") or None
    if first is not None:
        first = p.address("first_member_address", first, version=4)
    # Until the NIC has become its port, the bridge's addresses are the NIC's.
    here = [one for name in (bridge, wanted["interface"]) for one in _addresses(facts, name)]
    if not here and not wanted.get("leaving"):
        raise p.ParameterError("bridge", bridge, "neither it nor the NIC has an IPv4 address on this host")
    among = [one for one in here if first is None or ipaddress.IPv4Address(first) in one.network] or here
    own = among[0] if among else ipaddress.IPv4Interface("0.0.0.0/0")
    default = facts.get("default_ipv4", {})
    gateway = wanted.get("gateway") or (
        default.get("gateway") if default.get("interface") in (bridge, wanted["interface"]) else None
    )
    return _Lan(
        "bridged",
        bridge,
        own.network,
        own.ip,
        ipaddress.IPv4Address(p.address("gateway", gateway, version=4)) if gateway else None,
        ipaddress.IPv4Address(first) if first else None,
        service,
        (_fact(facts, bridge) or _fact(facts, wanted["interface"])).get("mtu"),
    )


def member_mac(cluster: str, member: str) -> str:
    """A MAC address made from the names: stable, unicast, locally administered."""
    digest = hashlib.sha256(f"{cluster}/{member}".encode()).digest()
    return "02:" + ":".join(f"{byte:02x}" for byte in digest[:5])


def _instances(wanted: t.Mapping[str, t.Any]) -> list[Data]:
    result = []
    for i, item in enumerate(wanted["instances"]):
        where = f"instances[{i}]"
        if not re.match(r"^[a-z0-9]{1,8}\Z", item["name"]):
            raise p.ParameterError(f"{where}.name", item["name"], "an instance's name has 1 to 8 of a-z and 0-9")
        if item["protocol"] not in ("udp", "tcp"):
            raise p.ParameterError(f"{where}.protocol", item["protocol"], "udp or tcp")
        if not 1 <= item["port"] <= 65535:
            raise p.ParameterError(f"{where}.port", item["port"], "a port lies between 1 and 65535")
        pool = p.network(f"{where}.pool", item["pool"], version=4)
        slice_prefix = wanted["slice_prefix"]
        if not pool.prefixlen <= slice_prefix <= SMALLEST_SLICE:
            raise p.ParameterError(
                "slice_prefix",
                slice_prefix,
                f"between the length of pool {pool} and {SMALLEST_SLICE} for each instance",
            )
        pool_ipv6 = item.get("pool_ipv6") or ""
        if pool_ipv6:
            net = p.network(f"{where}.pool_ipv6", pool_ipv6, version=6)
            if net.prefixlen > IPV6_SLICE:
                raise p.ParameterError(
                    f"{where}.pool_ipv6",
                    pool_ipv6,
                    f"each member has a /{IPV6_SLICE} of it: take a /56 for 256 members",
                )
            pool_ipv6 = str(net)
        result.append({**item, "pool": str(pool), "slice_prefix": slice_prefix, "pool_ipv6": pool_ipv6})
    if not result:
        raise p.ParameterError("instances", [], "name one at least, like name=udp protocol=udp port=1194")
    p.unique("instances.name", (i["name"] for i in result))
    p.unique("instances.port", ((i["protocol"], i["port"]) for i in result))
    return result


def _members(cluster: str, wanted: t.Mapping[str, t.Any], lan: _Lan, instances: list[Data]) -> list[Data]:
    result = []
    for i, item in enumerate(wanted["members"] or _by_size(cluster, wanted)):
        where = f"members[{i}]"
        name = p.netns_name(f"{where}.name", item["name"])
        p.interface_name(f"{where}.name", f"ve-{name}")
        number = item.get("number") or _trailing_number(f"{where}.name", name)
        if number < 1:
            raise p.ParameterError(f"{where}.number", number, "a member's number is 1 or more")
        for parameter, pool, prefix in (found for instance in instances for found in _pools(instance)):
            room = 2 ** (prefix - pool.prefixlen)
            if number > room:
                raise p.ParameterError(
                    parameter,
                    str(pool),
                    f"holds {room} slices of /{prefix}, too few for member number {number};"
                    f" take a /{prefix - (number - 1).bit_length()}",
                )
        result.append(
            {
                "name": name,
                "number": number,
                "weight": item.get("weight", 1),
                "cpus": list(item.get("cpus") or []),
                "mac": member_mac(cluster, name),
                "address": str(lan.member_address(where, number, item.get("address"))),
                **lan.member_ipv6(number),
            }
        )
    p.unique("members.name", (m["name"] for m in result))
    p.unique("members.number", (m["number"] for m in result))
    p.unique("members.address", (m["address"] for m in result))
    return result


def _by_size(cluster: str, wanted: t.Mapping[str, t.Any]) -> list[Data]:
    """NAME1 … NAMEn, one a core but at least two unless a size is given; pinned in turn."""
    cores = wanted.get("cores", 1)
    size = wanted.get("size") or max(2, cores)
    if size < 0:
        raise p.ParameterError("size", size, "a number of members, or 0 for one a core")
    pin = wanted.get("pin", False)
    return [{"name": f"{cluster}{k + 1}", "number": k + 1, "cpus": [k % cores] if pin else []} for k in range(size)]


def _trailing_number(parameter: str, name: str) -> int:
    match = re.search(r"([0-9]+)$", name)
    if not match or int(match.group(1)) < 1:
        raise p.ParameterError(
            parameter, name, "end the name with a number from 1 on, or give 'number': it stands for the member's slice"
        )
    return int(match.group(1))


def _own_networks(lan: _Lan, instances: list[Data]) -> Networks:
    """Networks that are the cluster's alone, with their parameters."""
    internal: Networks = [("internal_network", lan.network)] if lan.uplink == "routed" else []
    internal += [("ipv6_internal_network", lan.ipv6)] if lan.ipv6 else []
    return internal + [(parameter, pool) for i in instances for parameter, pool, _prefix in _pools(i)]


def _no_overlaps(addresses: Addresses, networks: Networks) -> None:
    for n, (parameter, net) in enumerate(networks):
        for _parameter, address in addresses:
            if address in net:
                raise p.ParameterError(parameter, str(net), f"must not contain the service address {address}")
        for other, other_net in networks[:n]:
            if net.overlaps(other_net):
                raise p.ParameterError(parameter, str(net), f"overlaps {other} {other_net}; choose another network")


def _host_networks(facts: t.Mapping[str, t.Any], bridge: str) -> dict[str, list[Interface]] | None:
    """Interface -> its addresses, from facts; without our own bridge. None when nothing was gathered."""
    if "interfaces" not in facts:
        return None
    return {
        name: [*_addresses(facts, name), *_ipv6_addresses(facts, name)]
        for name in facts["interfaces"]
        if name != bridge
    }


def _addresses(facts: t.Mapping[str, t.Any], name: str) -> list[ipaddress.IPv4Interface]:
    found = _fact(facts, name)
    items = [found.get("ipv4"), *found.get("ipv4_secondaries", [])]
    return [ipaddress.IPv4Interface(f"{i['address']}/{i['netmask']}") for i in items if i and "netmask" in i]


def _ipv6_addresses(facts: t.Mapping[str, t.Any], name: str) -> list[ipaddress.IPv6Interface]:
    return [ipaddress.IPv6Interface(f"{i['address']}/{i['prefix']}") for i in _fact(facts, name).get("ipv6", [])]


def _fact(facts: t.Mapping[str, t.Any], interface: str) -> t.Mapping[str, t.Any]:
    return t.cast(t.Mapping[str, t.Any], facts.get(re.sub(r"[-:]", "_", interface), {}))


def _fits_host(wanted: t.Mapping[str, t.Any], addresses: Addresses, lan: _Lan, networks: Networks) -> None:
    host = _host_networks(wanted.get("facts") or {}, lan.bridge if lan.uplink == "routed" else "")
    if host is None:
        return
    interface = wanted["interface"]
    if interface not in host:
        raise p.ParameterError("interface", interface, f"no such interface; this host has {', '.join(sorted(host))}")
    if lan.ipv6 and not any(one.version == 6 for found in host.values() for one in found):
        raise p.ParameterError(
            "ipv6_internal_network",
            str(lan.ipv6),
            "this host has IPv6 switched off; switch it on, or leave IPv6 out of the cluster",
        )
    for name, found in host.items():
        for one in found:
            for parameter, address in addresses:
                if one.ip == address:
                    raise p.ParameterError(
                        parameter,
                        str(address),
                        f"{name} carries it; take it off the host, or choose an address that no host has",
                    )
            for parameter, net in networks:
                if net.overlaps(one.network):
                    raise p.ParameterError(parameter, str(net), f"overlaps {one} of {name}; choose another network")


def _pools(instance: Data) -> list[tuple[str, Network, int]]:
    """An instance's pool, and that of IPv6 if it has one: parameter, network, prefix length of a member's slice."""
    pools = {"pool": instance["slice_prefix"], "pool_ipv6": IPV6_SLICE}
    return [
        (f"instances[{instance['name']}].{key}", ipaddress.ip_network(instance[key]), prefix)
        for key, prefix in pools.items()
        if instance[key]
    ]


def _slices(instance: Data, number: int) -> list[Network]:
    """The parts of an instance's pools that are one member's: by its number, so others may come and go."""
    return [
        type(pool)((int(pool.network_address) + (number - 1) * 2 ** (pool.max_prefixlen - prefix), prefix))
        for _parameter, pool, prefix in _pools(instance)
    ]


def _sysctls(lan: _Lan) -> dict[str, str]:
    return {**MEMBER_SYSCTLS, **(MEMBER_SYSCTLS_IPV6 if lan.ipv6 else {})}


def _host_end(member: Data) -> str:
    return f"ve-{member['name']}"


def _veth(member: Data, lan: _Lan, instances: list[Data]) -> Data:
    routes = [{"dst": "default", "via": str(lan.gateway)}] if lan.gateway else []
    if lan.uplink == "bridged":  # the host knows which member has which slice
        routes += [{"dst": i["pool"], "via": str(lan.host)} for i in instances]
    addresses = [f"{member['address']}/{lan.network.prefixlen}"]
    if lan.ipv6:
        routes.append({"dst": "default", "via": str(lan.host_ipv6)})
        addresses.append(f"{member['ipv6_address']}/{lan.ipv6.prefixlen}")
    # The bridge of the LAN would take a smaller MTU of its ports.
    mtu = {"mtu": lan.mtu} if lan.mtu else {}
    return {
        "name": _host_end(member),
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


def _server(member: Data, instance: Data, addresses: Addresses, pushed_ipv6: list[str]) -> Data:
    network, *ipv6 = _slices(instance, member["number"])
    # One process serves both families by one socket, which cannot be bound to two addresses.
    listen: Data = {"dual_stack": True} if len(addresses) > 1 else {"local": str(addresses[0][1])}
    return {
        "name": _server_name(member, instance),
        "netns": member["name"],
        "cpus": member["cpus"],
        "protocol": instance["protocol"],
        **listen,
        "port": instance["port"],
        "network": str(network),
        **({"network_ipv6": str(ipv6[0]), "extra_options": pushed_ipv6} if ipv6 else {}),
        "device": f"tun-{instance['name']}",
    }


def _server_name(member: Data, instance: Data) -> str:
    return f"{member['name']}-{instance['name']}"


def _pushed(network: ipaddress.IPv4Network) -> str:
    return f"route {network.network_address} {network.netmask}"


def _pushed_ipv6(lan: _Lan, instances: list[Data]) -> list[str]:
    """The same for clients that have an IPv6 address. Others could not take such a route."""
    networks = [i["pool_ipv6"] for i in instances if i["pool_ipv6"]] + [f"{lan.host_ipv6}/128"]
    return [f'push "route-ipv6 {net}"' for net in networks]


def _retired(previous: t.Mapping[str, t.Any], now: Data, facts: t.Mapping[str, t.Any]) -> Data:
    """What was there before and is not wanted now, whole. It stays on the list until it was taken down."""
    before = previous.get("retired", {})
    gone: Data = {"clusters": _former_clusters(previous, now)}
    for kind in ("servers", "veths", "namespaces"):
        kept = {item["name"] for item in now[kind]}
        items = [*previous.get(kind, []), *before.get(kind, [])]
        gone[kind] = [item for item in {item["name"]: item for item in items}.values() if item["name"] not in kept]
    # Servers that would be in the way of a new one: they stop first, the others when all buckets have moved.
    ends = {end for s in now["servers"] for end in _ends(s)}
    gone["in_the_way"] = [s for s in gone["servers"] if _ends(s) & ends]
    bridges = [*previous.get("bridges", []), *before.get("former_bridges", [])]
    at = {bridge["name"] for bridge in now["bridges"]}
    gone["former_bridges"] = [b for b in {b["name"]: b for b in bridges}.values() if b["name"] not in at]
    gone["bridges"], gone["left"] = _still_joined(previous, now, gone["veths"], facts)
    return gone


def _ends(server: Data) -> set[tuple[t.Any, ...]]:
    """What only one server of a namespace can have."""
    keys = ("network", "network_ipv6", "device")
    return {(server["netns"], key, server[key]) for key in keys if key in server} | {
        (server["netns"], server["protocol"], server["port"])
    }


def _former_clusters(previous: t.Mapping[str, t.Any], now: Data) -> list[Data]:
    """Service addresses that the cluster had before, at which interface and bridge, and of which nodes."""
    former = list(previous.get("retired", {}).get("clusters", []))
    if "cluster" in previous:
        held = {**previous["cluster"], "nodes": previous["nodes"]}
        former += [{**held, **one} for one in _addresses_of(previous)]

    def place(one: Data) -> tuple[str, str, str, str]:
        return one["address"], one["interface"], one["bridge"], one.get("uplink", "routed")

    kept = {place({**now["cluster"], **one}) for one in _addresses_of(now)}
    return [one for one in {place(one): one for one in former}.values() if place(one) not in kept]


def _addresses_of(some: t.Mapping[str, t.Any]) -> list[Data]:
    """The service addresses of a layout, which may be older than IPv6."""
    return some.get("addresses") or [{"address": some["cluster"]["address"]}]


def _apart(
    now: Data, lan: _Lan, addresses: Addresses, networks: Networks, others: t.Iterable[t.Mapping[str, t.Any]]
) -> None:
    """Refuse what another cluster of the host has already."""
    for other in others:
        if other["name"] == now["name"]:
            continue
        whose = f"the cluster {other['name']} of this host has it"
        for parameter, address in addresses:
            if str(address) in {one["address"] for one in _addresses_of(other)}:
                raise p.ParameterError(parameter, str(address), f"{whose}; choose another")
        taken = {n["name"] for n in other["namespaces"]}
        for member in now["members"]:
            if member["name"] in taken:
                raise p.ParameterError("members.name", member["name"], f"{whose}; choose another")
        their_addresses = {m["address"] for m in other["members"]}
        for member in now["members"]:
            if lan.uplink == "bridged" and member["address"] in their_addresses:
                raise p.ParameterError("members.address", member["address"], f"{whose}; choose another")
        theirs: list[Network] = [
            ipaddress.ip_interface(a).network for b in other["bridges"] for a in b.get("addresses", [])
        ]
        slices = [s[key] for s in other["servers"] for key in ("network", "network_ipv6") if key in s]
        theirs += [ipaddress.ip_network(one) for one in slices]
        for parameter, net in networks:
            for their in theirs:
                if net.overlaps(their):
                    raise p.ParameterError(parameter, str(net), f"overlaps {their}: {whose}; choose another network")


def _still_joined(
    previous: t.Mapping[str, t.Any], now: Data, veths: list[Data], facts: t.Mapping[str, t.Any]
) -> tuple[list[Data], list[Data]]:
    """The bridge with the members that go still on it: their clients are served until their buckets have moved.

    And, of a bridge that is somebody else's, what is to leave it then.
    """
    leaving = {v["name"] for v in veths} & set(facts.get("interfaces", []))
    gateways = {a.split("/")[0] for v in veths if v["name"] in leaving for a in v["peer"]["addresses"]}
    macs = {v["peer"]["mac"]: v["name"] for v in veths if v["name"] in leaving}
    (bridge,) = now["bridges"]
    former = [*previous.get("bridges", []), *previous.get("retired", {}).get("bridges", [])]
    former = [b for b in former if b["name"] == bridge["name"]]
    if not leaving or not former:
        return [], []
    known = {route["dst"] for route in bridge["routes"]}
    routes = {r["dst"]: r for b in former for r in b["routes"] if r["via"] in gateways and r["dst"] not in known}
    # A gateway cannot be reached in a network that was the bridge's.
    nets = [ipaddress.ip_interface(a).network for a in bridge.get("addresses", [])]
    if nets:
        routes = {dst: r for dst, r in routes.items() if any(ipaddress.ip_address(r["via"]) in net for net in nets)}
    joined = {
        **bridge,
        "ports": bridge["ports"] + sorted(leaving),
        "fdb": bridge["fdb"] + [{"mac": mac, "port": port} for mac, port in macs.items()],
        "routes": bridge["routes"] + list(routes.values()),
    }
    left = {"name": bridge["name"], "exclusive": False, "ports": sorted(leaving), "routes": list(routes.values())}
    return [joined], [] if bridge.get("exclusive", True) else [left]
