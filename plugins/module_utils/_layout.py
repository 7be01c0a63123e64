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

from ansible_collections.clustered.openvpn.plugins.module_utils import _buckets
from ansible_collections.clustered.openvpn.plugins.module_utils import _params as p
from ansible_collections.clustered.openvpn.plugins.module_utils._cluster import (
    cluster_name,
    default_clustermac,
    hash_parameters,
)

FIRST_MEMBER = 10  # member 1 has the internal network's address .11; .1 is the host's; those between are free
SMALLEST_SLICE = 29  # OpenVPN's "server" needs a network of eight addresses at least

# A member routes, answers ARP just for the address that is on the interface asked, never asks with the service address
# as sender, and takes no redirects: its way out is the host.
MEMBER_SYSCTLS = {
    "net.ipv4.ip_forward": "1",
    "net.ipv4.conf.all.arp_ignore": "1",
    "net.ipv4.conf.all.arp_announce": "2",
    "net.ipv4.conf.all.accept_redirects": "0",
}

Data = dict[str, t.Any]


def layout(wanted: t.Mapping[str, t.Any], previous: t.Mapping[str, t.Any] | None = None) -> Data:
    """Everything there is to be, from what the user says (C(wanted)) and the layout before.

    wanted: name, address, interface, members (name, and perhaps number, weight, cpus; if there are none: size, cores,
    pin), instances (name, protocol, port, pool), slice_prefix, internal_network, total_nodes, hash_init, clustermac;
    facts: what Ansible gathered of the host's interfaces; others: the layouts of other clusters on the host. Raises
    ParameterError.
    """
    name = cluster_name("name", wanted["name"])
    p.address("address", wanted["address"], version=4)
    address = ipaddress.IPv4Address(p.service_address("address", wanted["address"]))
    internal = t.cast(ipaddress.IPv4Network, p.network("internal_network", wanted["internal_network"], version=4))
    instances = _instances(wanted)
    members = _members(name, wanted, internal, instances)
    bridge = p.interface_name("name", f"br-{name}")
    _no_overlaps(address, internal, instances)
    _fits_host(wanted["interface"], address, internal, instances, _host_networks(wanted.get("facts") or {}, bridge))
    total, seed = hash_parameters(wanted)
    previous = previous or {}
    held = {m["name"]: m["local_nodes"] for m in previous.get("members", [])}
    weights = {m["name"]: m["weight"] for m in members}
    owners = _buckets.owners(weights, total, held or None)
    for member in members:
        member["local_nodes"] = owners[member["name"]]
    gateway = internal.network_address + 1
    result = {
        "name": name,
        "cluster": {
            "address": str(address),
            "interface": p.interface_name("interface", wanted["interface"]),
            "bridge": bridge,
            "clustermac": p.mac("clustermac", wanted.get("clustermac") or None, multicast=True)
            or default_clustermac(str(address)),
            "distribution": wanted.get("distribution", "steer"),
            "hashmode": wanted.get("hashmode", "sourceip"),
            "force": wanted.get("force", False),
            "hash_init": seed,
            "total_nodes": total,
            "services": [{"protocol": i["protocol"], "port": i["port"]} for i in instances],
        },
        "members": members,
        "nodes": [{"netns": m["name"], "mac": m["mac"], "local_nodes": m["local_nodes"]} for m in members],
        "namespaces": [{"name": m["name"], "sysctls": MEMBER_SYSCTLS} for m in members],
        "veths": [_veth(m, internal, gateway) for m in members],
        "bridges": [
            {
                "name": bridge,
                "mac": member_mac(name, "bridge"),
                "addresses": [f"{gateway}/{internal.prefixlen}"],
                # Every address is known: a member that is gone must not have its frames shown to all the others.
                "flood": False,
                "learning": False,
                "ports": [_host_end(m) for m in members],
                "fdb": [{"mac": m["mac"], "port": _host_end(m)} for m in members],
                "routes": [
                    {"dst": str(_slice(i, m["number"])), "via": m["address"]} for m in members for i in instances
                ],
            }
        ],
        "servers": [_server(m, i, address) for m in members for i in instances],
        # Which clients a server may hold: those of its member's buckets.
        "holders": [
            {"name": _server_name(m, i), "port": i["port"], "local_nodes": m["local_nodes"]}
            for m in members
            for i in instances
        ],
        # What a client must know of: the pools of all members, and the host by its internal address.
        "push": [_pushed(ipaddress.ip_network(i["pool"])) for i in instances]
        + [_pushed(ipaddress.ip_network(gateway))],
    }
    _apart(result, instances, wanted.get("others") or [])
    result["retired"] = _retired(previous, result, wanted.get("facts") or {})
    return result


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
        result.append({**item, "pool": str(pool), "slice_prefix": slice_prefix})
    if not result:
        raise p.ParameterError("instances", [], "name one at least, like name=udp protocol=udp port=1194")
    p.unique("instances.name", (i["name"] for i in result))
    p.unique("instances.port", ((i["protocol"], i["port"]) for i in result))
    return result


def _members(
    cluster: str, wanted: t.Mapping[str, t.Any], internal: ipaddress.IPv4Network, instances: list[Data]
) -> list[Data]:
    result = []
    for i, item in enumerate(wanted["members"] or _by_size(cluster, wanted)):
        where = f"members[{i}]"
        name = p.netns_name(f"{where}.name", item["name"])
        p.interface_name(f"{where}.name", f"ve-{name}")
        number = item.get("number") or _trailing_number(f"{where}.name", name)
        if number < 1:
            raise p.ParameterError(f"{where}.number", number, "a member's number is 1 or more")
        if FIRST_MEMBER + number >= internal.num_addresses - 1:
            raise p.ParameterError("internal_network", str(internal), f"too small for member number {number}")
        for instance in instances:
            room = 2 ** (instance["slice_prefix"] - ipaddress.ip_network(instance["pool"]).prefixlen)
            if number > room:
                raise p.ParameterError(
                    f"instances[{instance['name']}].pool",
                    instance["pool"],
                    f"holds {room} slices of /{instance['slice_prefix']}, too few for member number {number}",
                )
        result.append(
            {
                "name": name,
                "number": number,
                "weight": item.get("weight", 1),
                "cpus": list(item.get("cpus") or []),
                "mac": member_mac(cluster, name),
                "address": str(internal.network_address + FIRST_MEMBER + number),
            }
        )
    p.unique("members.name", (m["name"] for m in result))
    p.unique("members.number", (m["number"] for m in result))
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


def _no_overlaps(address: ipaddress.IPv4Address, internal: ipaddress.IPv4Network, instances: list[Data]) -> None:
    networks = [("internal_network", internal)]
    networks += [(f"instances[{i['name']}].pool", _pool(i)) for i in instances]
    for n, (parameter, net) in enumerate(networks):
        if address in net:
            raise p.ParameterError(parameter, str(net), f"must not contain the service address {address}")
        for other, other_net in networks[:n]:
            if net.overlaps(other_net):
                raise p.ParameterError(parameter, str(net), f"overlaps {other} {other_net}; choose another network")


def _host_networks(facts: t.Mapping[str, t.Any], bridge: str) -> dict[str, list[ipaddress.IPv4Interface]] | None:
    """Interface -> its IPv4 addresses, from facts; without our own bridge. None when nothing was gathered."""
    if "interfaces" not in facts:
        return None
    result: dict[str, list[ipaddress.IPv4Interface]] = {}
    for name in facts["interfaces"]:
        found = facts.get(re.sub(r"[-:]", "_", name), {})
        items = [found.get("ipv4"), *found.get("ipv4_secondaries", [])]
        if name != bridge:
            result[name] = [
                ipaddress.IPv4Interface(f"{i['address']}/{i['netmask']}") for i in items if i and "netmask" in i
            ]
    return result


def _fits_host(
    interface: str,
    address: ipaddress.IPv4Address,
    internal: ipaddress.IPv4Network,
    instances: list[Data],
    host: dict[str, list[ipaddress.IPv4Interface]] | None,
) -> None:
    if host is None:
        return
    if interface not in host:
        raise p.ParameterError("interface", interface, f"no such interface; this host has {', '.join(sorted(host))}")
    ours = [("internal_network", internal)] + [(f"instances[{i['name']}].pool", _pool(i)) for i in instances]
    for name, addresses in host.items():
        for one in addresses:
            if one.ip == address:
                raise p.ParameterError(
                    "address",
                    str(address),
                    f"{name} carries it; take it off the host, or choose an address that no host has",
                )
            for parameter, net in ours:
                if net.overlaps(one.network):
                    raise p.ParameterError(parameter, str(net), f"overlaps {one} of {name}; choose another network")


def _pool(instance: Data) -> ipaddress.IPv4Network:
    return ipaddress.IPv4Network(instance["pool"])


def _slice(instance: Data, number: int) -> ipaddress.IPv4Network:
    """The part of an instance's pool that is one member's: by its number, so others may come and go."""
    pool = _pool(instance)
    size = 2 ** (32 - instance["slice_prefix"])
    return ipaddress.IPv4Network((int(pool.network_address) + (number - 1) * size, instance["slice_prefix"]))


def _host_end(member: Data) -> str:
    return f"ve-{member['name']}"


def _veth(member: Data, internal: ipaddress.IPv4Network, gateway: ipaddress.IPv4Address) -> Data:
    return {
        "name": _host_end(member),
        "peer": {
            "name": "eth0",
            "netns": member["name"],
            "mac": member["mac"],
            "addresses": [f"{member['address']}/{internal.prefixlen}"],
            "routes": [{"dst": "default", "via": str(gateway)}],
        },
    }


def _server(member: Data, instance: Data, address: ipaddress.IPv4Address) -> Data:
    return {
        "name": _server_name(member, instance),
        "netns": member["name"],
        "cpus": member["cpus"],
        "protocol": instance["protocol"],
        "local": str(address),
        "port": instance["port"],
        "network": str(_slice(instance, member["number"])),
        "device": f"tun-{instance['name']}",
    }


def _server_name(member: Data, instance: Data) -> str:
    return f"{member['name']}-{instance['name']}"


def _pushed(network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> str:
    return f"route {network.network_address} {network.netmask}"


def _retired(previous: t.Mapping[str, t.Any], now: Data, facts: t.Mapping[str, t.Any]) -> Data:
    """What was there before and is not wanted now, whole. It stays on the list until it was taken down."""
    before = previous.get("retired", {})
    gone: Data = {"clusters": _former_clusters(previous, now["cluster"])}
    for kind in ("servers", "veths", "namespaces"):
        kept = {item["name"] for item in now[kind]}
        items = [*previous.get(kind, []), *before.get(kind, [])]
        gone[kind] = [item for item in {item["name"]: item for item in items}.values() if item["name"] not in kept]
    # Servers that would be in the way of a new one: they stop first, the others when all buckets have moved.
    ends = {
        (s["netns"], end) for s in now["servers"] for end in ((s["protocol"], s["port"]), s["network"], s["device"])
    }
    gone["in_the_way"] = [
        s
        for s in gone["servers"]
        if {(s["netns"], e) for e in ((s["protocol"], s["port"]), s["network"], s["device"])} & ends
    ]
    gone["bridges"] = _still_joined(previous, now, gone["veths"], facts)
    return gone


def _ends(server: Data) -> set[tuple[t.Any, ...]]:
    """What only one server of a namespace can have."""
    return {(server["netns"], key, server[key]) for key in ("network", "device")} | {
        (server["netns"], server["protocol"], server["port"])
    }


def _former_clusters(previous: t.Mapping[str, t.Any], cluster: Data) -> list[Data]:
    """Service addresses that the cluster had before, at which interface and bridge, and of which nodes."""
    former = list(previous.get("retired", {}).get("clusters", []))
    if "cluster" in previous:
        former.append({**previous["cluster"], "nodes": previous["nodes"]})

    def place(one: Data) -> tuple[str, str, str]:
        return one["address"], one["interface"], one["bridge"]

    return [one for one in {place(one): one for one in former}.values() if place(one) != place(cluster)]


def _apart(now: Data, instances: list[Data], others: t.Iterable[t.Mapping[str, t.Any]]) -> None:
    """Refuse what another cluster of the host has already."""
    for other in others:
        if other["name"] == now["name"]:
            continue
        whose = f"the cluster {other['name']} of this host has it"
        if other["cluster"]["address"] == now["cluster"]["address"]:
            raise p.ParameterError("address", now["cluster"]["address"], f"{whose}; choose another")
        taken = {n["name"] for n in other["namespaces"]}
        for member in now["members"]:
            if member["name"] in taken:
                raise p.ParameterError("members.name", member["name"], f"{whose}; choose another")
        theirs = [ipaddress.IPv4Interface(a).network for b in other["bridges"] for a in b["addresses"]]
        theirs += [ipaddress.IPv4Network(s["network"]) for s in other["servers"]]
        ours = [
            ("internal_network", ipaddress.IPv4Interface(a).network) for b in now["bridges"] for a in b["addresses"]
        ]
        ours += [(f"instances[{i['name']}].pool", _pool(i)) for i in instances]
        for parameter, net in ours:
            for their in theirs:
                if net.overlaps(their):
                    raise p.ParameterError(parameter, str(net), f"overlaps {their}: {whose}; choose another network")


def _still_joined(
    previous: t.Mapping[str, t.Any], now: Data, veths: list[Data], facts: t.Mapping[str, t.Any]
) -> list[Data]:
    """The bridge with the members that go still on it: their clients are served until their buckets have moved."""
    leaving = {v["name"] for v in veths} & set(facts.get("interfaces", []))
    gateways = {a.split("/")[0] for v in veths if v["name"] in leaving for a in v["peer"]["addresses"]}
    macs = {v["peer"]["mac"]: v["name"] for v in veths if v["name"] in leaving}
    if not leaving:
        return []
    (bridge,) = now["bridges"]
    known = {route["dst"] for route in bridge["routes"]}
    former = [*previous.get("bridges", []), *previous.get("retired", {}).get("bridges", [])]
    routes = {r["dst"]: r for b in former for r in b["routes"] if r["via"] in gateways and r["dst"] not in known}
    return [
        {
            **bridge,
            "ports": bridge["ports"] + sorted(leaving),
            "fdb": bridge["fdb"] + [{"mac": mac, "port": port} for mac, port in macs.items()],
            "routes": bridge["routes"] + list(routes.values()),
        }
    ]
