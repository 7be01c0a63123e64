# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A cluster as the user asks for it: the C(clusterip) module's parameters, validated. Pure."""

from __future__ import annotations

import ipaddress
import re
import typing as t
from dataclasses import dataclass

from .. import _params as p

SIX = ".v6"  # what the names of an IPv6 address's tables end in
MAX_NODES = 65536  # a bound of ours: the hash has 32 bits, and more buckets than this help nobody


@dataclass(frozen=True)
class Service:
    """What is served at the service address: a protocol (udp, tcp) and a port."""

    protocol: str
    port: int


@dataclass(frozen=True)
class Node:
    """What owns buckets. Without C(netns) and C(mac), the host itself. C(local_nodes): None for unknown ones."""

    netns: str
    mac: str
    interface: str
    local_nodes: tuple[int, ...] | None


@dataclass(frozen=True)
class Cluster:
    """One service address. Field names are those of the module's parameters."""

    name: str
    address: str
    interface: str
    bridge: str
    clustermac: str
    distribution: str
    hashmode: str
    hash_init: int
    total_nodes: int
    nodes: tuple[Node, ...]
    services: tuple[Service, ...]
    claims: str
    forward_ipv6: bool
    uplink: str = "routed"
    shared: bool = False
    hash_as: str = "nftables"
    engine: str = "nftables"

    @property
    def version(self) -> int:
        """4 or 6."""
        return ipaddress.ip_address(self.address).version

    @property
    def host_address(self) -> str:
        """The service address as a network of its own."""
        return f"{self.address}/{32 if self.version == 4 else 128}"

    @property
    def routed_mac(self) -> str:
        """The destination MAC of the host's own packets for the address; C(uplink: bridged): of everybody's.

        They carry it until their owner is looked up: clustermac as a unicast. Nobody has it, so without our rules the
        bridge drops such a frame. A multicast would reach every member: what is wanted of it in a flood on an internal
        bridge.
        """
        if self.distribution == "flood" and self.uplink == "routed":
            return self.clustermac
        first, rest = self.clustermac[:2], self.clustermac[2:]
        return f"{int(first, 16) & ~1:02x}{rest}"

    @property
    def members(self) -> tuple[Node, ...]:
        """The nodes that are namespaces of their own."""
        return tuple(node for node in self.nodes if node.netns)

    @property
    def table(self) -> str:
        """The name of our nftables tables, in every namespace."""
        return table_name(self.name, self.version)


def table_name(cluster: str, version: int = 4) -> str:
    """The name of a cluster's nftables tables. One name may have two addresses, so those of IPv6 differ.

    A cluster's name has no dot, so no cluster has the tables of another.
    """
    return f"clustered_openvpn_{cluster}{SIX if version == 6 else ''}"


def highest(mac: str) -> str:
    """A MAC for a port of somebody else's bridge: which takes the lowest of its ports' unless it was given one.

    With another MAC the host would be another neighbour to the LAN, and the bridge's own neighbour entries would go.
    """
    return f"fe{mac[2:]}"


def cluster_name(parameter: str, value: str) -> str:
    """A name that fits into interface names (br-NAME) and nft identifiers."""
    if not re.match(r"^[a-z][a-z0-9_-]{0,9}\Z", value):
        raise p.ParameterError(
            parameter, value, "a cluster's name is a small letter and up to nine of a-z, 0-9, - and _"
        )
    return value


def default_clustermac(address: str) -> str:
    """03:00 and the address's last four bytes; of IPv6, 03:06, for an IPv4 address may be in it.

    A multicast address of the locally administered kind: switches and bridges flood it, and as it is none of IP
    multicast's (01:00:5e, 33:33), IGMP and MLD snooping leave it alone.
    """
    ip = ipaddress.ip_address(address)
    return ("03:00:" if ip.version == 4 else "03:06:") + ":".join(f"{byte:02x}" for byte in ip.packed[-4:])


def hash_parameters(params: t.Mapping[str, t.Any]) -> tuple[int, int]:
    """C(total_nodes) and C(hash_init)."""
    total, seed = params["total_nodes"], params["hash_init"]
    if not 1 <= total <= MAX_NODES:
        raise p.ParameterError("total_nodes", total, f"the number of buckets lies between 1 and {MAX_NODES}")
    if not 0 <= seed <= 0xFFFFFFFF:
        raise p.ParameterError("hash_init", seed, "the seed is a number of 32 bits, 0 to 4294967295")
    return total, seed


def cluster_from(params: t.Mapping[str, t.Any]) -> Cluster:
    """The module's parameters, normalised; raises ParameterError."""
    address = p.service_address("address", params["address"])
    total, seed = hash_parameters(params)
    mac = p.mac("clustermac", params["clustermac"], multicast=True)
    # What goes away needs no claims.
    claims = params["claims"] if params["state"] == "present" else "keep"
    services = tuple(_service(f"services[{i}]", item) for i, item in enumerate(params["services"]))
    p.unique("services", ((s.protocol, s.port) for s in services))
    return Cluster(
        name=cluster_name("name", params["name"]),
        address=address,
        interface=p.interface_name("interface", params["interface"]),
        bridge=_bridge(params),
        clustermac=mac or default_clustermac(address),
        distribution="steer" if params["uplink"] == "local" else params["distribution"],
        hashmode=_hashmode(params, services),
        hash_init=seed,
        total_nodes=total,
        nodes=_nodes(params["nodes"], total, claims, params["uplink"] == "local"),
        services=services,
        claims=claims,
        uplink=params["uplink"],
        forward_ipv6=params["forward_ipv6"],
        shared=params["shared"],
        hash_as=_hash_as(params, address),
        engine=params["engine"],
    )


def _bridge(params: t.Mapping[str, t.Any]) -> str:
    if params["uplink"] == "local":
        if params["bridge"]:
            raise p.ParameterError(
                "bridge", params["bridge"], "with uplink=local the host itself is the node: leave it out"
            )
        return ""
    if not params["bridge"]:
        raise p.ParameterError("bridge", params["bridge"], f"uplink={params['uplink']} needs the bridge of the nodes")
    return p.interface_name("bridge", params["bridge"])


def _hashmode(params: t.Mapping[str, t.Any], services: tuple[Service, ...]) -> str:
    mode = params["hashmode"]
    if mode != "sourceip" and not params["force"] and any(s.protocol == "udp" for s in services):
        raise p.ParameterError(
            "hashmode",
            mode,
            "fragments of UDP datagrams have no ports and would reach another node than their first: use sourceip, or"
            " force=true where no datagram is ever fragmented",
        )
    return str(mode)


def own_hash(engine: str) -> str:
    """The engine as which an engine hashes, unless it is told another one."""
    return "nftables" if engine == "auto" else engine


def _hash_as(params: t.Mapping[str, t.Any], address: str) -> str:
    wanted = params["hash_as"] or own_hash(params["engine"])
    if wanted != "nftables" and ipaddress.ip_address(address).version == 6:
        parameter = "hash_as" if params["hash_as"] else "engine"
        raise p.ParameterError(parameter, wanted, f"knows IPv4 only, not clients of {address}: use nftables")
    if wanted == "xt_cluster" and params["hashmode"] != "sourceip":
        raise p.ParameterError("hashmode", params["hashmode"], "xt_cluster hashes addresses only: use sourceip")
    return str(wanted)


def _service(where: str, item: t.Mapping[str, t.Any]) -> Service:
    if not 1 <= item["port"] <= 65535:
        raise p.ParameterError(f"{where}.port", item["port"], "a port lies between 1 and 65535")
    return Service(item["protocol"], item["port"])


def _nodes(items: t.Sequence[t.Mapping[str, t.Any]], total: int, claims: str, local: bool) -> tuple[Node, ...]:
    if local and len(items) != 1:
        raise p.ParameterError(
            "nodes", [dict(item) for item in items], "with uplink=local there is one, the host itself"
        )
    nodes = []
    owner: dict[int, str] = {}
    for i, item in enumerate(items):
        where = f"nodes[{i}]"
        netns, mac = _place(where, item, local)
        mine = item.get("local_nodes")
        if mine is None and claims != "keep":
            raise p.ParameterError(
                f"{where}.local_nodes", None, f"claims={claims} needs a list of buckets, which may be empty"
            )
        for number in mine or []:
            if not 1 <= number <= total:
                raise p.ParameterError(
                    f"{where}.local_nodes", number, f"a bucket lies between 1 and {total} (total_nodes)"
                )
            if number in owner:
                raise p.ParameterError(
                    f"{where}.local_nodes", number, f"already owned by {owner[number]}; a bucket has one owner"
                )
            owner[number] = netns or "the host"
        interface = p.interface_name(f"{where}.interface", item.get("interface") or "eth0")
        nodes.append(Node(netns, mac, interface, None if mine is None else tuple(sorted(mine))))
    p.unique("nodes.netns", (n.netns for n in nodes))
    p.unique("nodes.mac", (n.mac for n in nodes))
    return tuple(nodes)


def _place(where: str, item: t.Mapping[str, t.Any], local: bool) -> tuple[str, str]:
    """Where a node is: namespace and MAC address."""
    for key in ("netns", "mac"):
        if bool(item.get(key)) == local:
            remedy = "with uplink=local the host itself is the node: leave it out" if local else "is needed"
            raise p.ParameterError(f"{where}.{key}", item.get(key), remedy)
    if local:
        return "", ""
    return p.netns_name(f"{where}.netns", item["netns"]), t.cast(str, p.mac(f"{where}.mac", item["mac"]))
