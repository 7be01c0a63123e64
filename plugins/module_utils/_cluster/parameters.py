# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The options of the C(clusterip) module -> a Cluster, validated. Pure."""

from __future__ import annotations

import ipaddress
import typing as t

from .. import _params as p
from . import hashing
from .cluster import HOST, STEER, Cluster, Member, Service, cluster_name, default_clustermac, hash_parameters
from .engines.registry import own_hash
from .uplinks.registry import uplink_named


def cluster_from(params: t.Mapping[str, t.Any]) -> Cluster:
    """Validate and normalise the module's options, and C(state). Raises ParameterError."""
    host_is_member = uplink_named(params["uplink"]).host_is_member
    address = p.service_address("address", params["address"])
    interface = p.interface_name("interface", params["interface"])
    total, seed = hash_parameters(params)
    mac = p.mac("clustermac", params["clustermac"], multicast=True)
    # Removal needs no buckets.
    claims = params["claims"] if params["state"] == "present" else "keep"
    services = tuple(_service(f"services[{i}]", item) for i, item in enumerate(params["services"]))
    p.unique("services", ((s.protocol, s.port) for s in services))
    return Cluster(
        name=cluster_name("name", params["name"]),
        address=address,
        interface=interface,
        bridge=_bridge(params, host_is_member),
        clustermac=mac or default_clustermac(address),
        distribution=STEER if host_is_member else params["distribution"],
        hashmode=_hashmode(params, services),
        hash_init=seed,
        total_nodes=total,
        members=_members(params["nodes"], total, claims, interface if host_is_member else None),
        services=services,
        claims=claims,
        uplink=params["uplink"],
        forward_ipv6=params["forward_ipv6"],
        shared=params["shared"],
        hash_as=_hash_as(params, address),
        engine=params["engine"],
        firewall=params.get("firewall"),
    )


def _bridge(params: t.Mapping[str, t.Any], host_is_member: bool) -> str:
    uplink = params["uplink"]
    if host_is_member:
        if params["bridge"]:
            remedy = f"with uplink={uplink} the host itself is the member and needs no bridge; remove this option"
            raise p.ParameterError("bridge", params["bridge"], remedy)
        return ""
    if not params["bridge"]:
        raise p.ParameterError("bridge", params["bridge"], f"uplink={uplink} requires the bridge of the members")
    return p.interface_name("bridge", params["bridge"])


def _hashmode(params: t.Mapping[str, t.Any], services: tuple[Service, ...]) -> str:
    mode = params["hashmode"]
    if mode != "sourceip" and not params["force"] and any(s.protocol == "udp" for s in services):
        raise p.ParameterError(
            "hashmode",
            mode,
            "fragments of UDP datagrams have no ports and would reach another member than the first one; use sourceip,"
            " or force=true if no datagram is ever fragmented",
        )
    return str(mode)


def _hash_as(params: t.Mapping[str, t.Any], address: str) -> str:
    own = own_hash(params["engine"])
    kind = hashing.HASHES.get(params["hash_as"] or own)
    if kind is None:
        remedy = f"no such hash; use one of {', '.join(hashing.HASHES)}"
        raise p.ParameterError("hash_as", params["hash_as"], remedy)
    if not kind.ipv6 and ipaddress.ip_address(address).version == 6:
        parameter = "hash_as" if params["hash_as"] else "engine"
        remedy = f"hashes IPv4 addresses only, and the service address is {address}; use {hashing.DEFAULT}"
        raise p.ParameterError(parameter, kind.name, remedy)
    if not kind.ports and params["hashmode"] != "sourceip":
        raise p.ParameterError("hashmode", params["hashmode"], f"{kind.name} hashes addresses only; use sourceip")
    return kind.name


def _service(where: str, item: t.Mapping[str, t.Any]) -> Service:
    if not 1 <= item["port"] <= 65535:
        raise p.ParameterError(f"{where}.port", item["port"], "a port is between 1 and 65535")
    return Service(item["protocol"], item["port"])


def _members(
    items: t.Sequence[t.Mapping[str, t.Any]], total: int, claims: str, host_interface: str | None
) -> tuple[Member, ...]:
    """The members; C(host_interface): the NIC of a host that is the only member itself."""
    if host_interface and len(items) != 1:
        remedy = "the host itself is the only member; list exactly one node"
        raise p.ParameterError("nodes", [dict(item) for item in items], remedy)
    members = []
    owner: dict[int, str] = {}
    for i, item in enumerate(items):
        where = f"nodes[{i}]"
        netns, mac = _host(where, item) if host_interface else _namespace(where, item)
        buckets = item.get("local_nodes")
        if buckets is None and claims != "keep":
            raise p.ParameterError(
                f"{where}.local_nodes", None, f"claims={claims} requires a list of buckets, which may be empty"
            )
        for bucket in buckets or []:
            if not 1 <= bucket <= total:
                raise p.ParameterError(
                    f"{where}.local_nodes", bucket, f"a bucket is between 1 and {total} (total_nodes)"
                )
            if bucket in owner:
                raise p.ParameterError(
                    f"{where}.local_nodes", bucket, f"already owned by {owner[bucket]}; a bucket has one owner"
                )
            owner[bucket] = netns or "the host"
        interface = p.interface_name(f"{where}.interface", item.get("interface") or "eth0")
        members.append(
            Member(netns, mac, host_interface or interface, None if buckets is None else tuple(sorted(buckets)))
        )
    p.unique("nodes.netns", (m.netns for m in members))
    p.unique("nodes.mac", (m.mac for m in members))
    return tuple(members)


def _host(where: str, item: t.Mapping[str, t.Any]) -> tuple[str, str]:
    for key in ("netns", "mac"):
        if item.get(key):
            remedy = "the host itself is the member; remove this option"
            raise p.ParameterError(f"{where}.{key}", item[key], remedy)
    return HOST, HOST


def _namespace(where: str, item: t.Mapping[str, t.Any]) -> tuple[str, str]:
    """Namespace and MAC address of a member."""
    for key in ("netns", "mac"):
        if not item.get(key):
            raise p.ParameterError(f"{where}.{key}", item.get(key), "this option is required for each node")
    return p.netns_name(f"{where}.netns", item["netns"]), t.cast(str, p.mac(f"{where}.mac", item["mac"]))
