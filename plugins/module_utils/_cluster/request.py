# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The request: the variables of a cluster as the user sets them, each checked by itself and converted. Pure.

Numbers and truth values may be texts, as C(--extra-vars NAME=VALUE) makes them.
"""

from __future__ import annotations

import ipaddress
import re
import typing as t
from dataclasses import dataclass

from .. import _params as p
from .._state import defaults, schema
from .._state.cluster import Claims, Failover, Protocol, Service, Settings
from . import hashing, health_check
from .cluster import ROUTED, STEER, cluster_name, hash_parameters
from .engines.registry import own_hash
from .uplinks.registry import uplink_named
from .uplinks.uplink import Uplink

SMALLEST_SLICE = 29  # OpenVPN's "server" needs a network of eight addresses at least
IPV6_SLICE = 64  # the largest network that OpenVPN's "server-ipv6" takes

Address = t.Union[ipaddress.IPv4Address, ipaddress.IPv6Address]
Network = t.Union[ipaddress.IPv4Network, ipaddress.IPv6Network]
Wanted = t.Mapping[str, t.Any]


@dataclass(frozen=True)
class Pool:
    """A network of an instance's clients. C(slice_prefix): prefix length of the part that one member has."""

    parameter: str
    network: Network
    slice_prefix: int

    @property
    def slices(self) -> int:
        """The number of slices in it."""
        return int(2 ** (self.slice_prefix - self.network.prefixlen))

    def slice_of(self, number: int) -> Network:
        """The slice of the member with this number. It depends on nothing else, so others may come and go."""
        size = 2 ** (self.network.max_prefixlen - self.slice_prefix)
        return type(self.network)((int(self.network.network_address) + (number - 1) * size, self.slice_prefix))


@dataclass(frozen=True)
class Instance:
    """An OpenVPN server that each member runs."""

    name: str
    protocol: Protocol
    port: int
    pool: Pool
    pool_ipv6: Pool | None
    extra_options: tuple[str, ...] = ()

    @property
    def pools(self) -> tuple[Pool, ...]:
        """IPv4 first."""
        return (self.pool, self.pool_ipv6) if self.pool_ipv6 else (self.pool,)

    @property
    def device(self) -> str:
        """The name of its tun device, in each member."""
        return f"tun-{self.name}"

    @property
    def service(self) -> Service:
        """The port that it serves."""
        return Service(self.protocol, self.port)


@dataclass(frozen=True)
class RequestedMember:
    """A member. C(addresses): IP version -> its own address, if the user gave one."""

    where: str  # its parameter, for messages
    name: str
    number: int
    weight: int
    cpus: tuple[int, ...] | None  # None: those that it had
    addresses: t.Mapping[int, str]


@dataclass(frozen=True)
class Request:
    """The variables of a cluster. Mappings by IP version, 4 or 6, have the user's text: "" if not given."""

    name: str
    addresses: tuple[tuple[str, Address], ...]  # the service addresses with their parameters, IPv4 first
    interface: str
    clustermac: str | None
    members: tuple[RequestedMember, ...]
    instances: tuple[Instance, ...]
    services: tuple[Service, ...]  # ports that other programs serve
    uplink: Uplink
    bridge: str
    take_interface: bool
    internal_network: t.Mapping[int, str]
    first_member_address: t.Mapping[int, str]
    gateway: t.Mapping[int, str]
    total_nodes: int
    hash_init: int
    distribution: t.Literal["steer", "flood"]
    hashmode: t.Literal["sourceip", "sourceip-sourceport", "sourceip-sourceport-destport"]
    engine: t.Literal["nftables", "xt_cluster", "clusterip", "auto"]
    hash_as: t.Literal["nftables", "xt_cluster", "clusterip"]
    force: bool
    shared: bool  # with other hosts
    buckets: tuple[int, ...]  # if shared: those of this host
    failover: Failover | None
    claims: Claims
    cores: int  # of the host; 0: unknown
    facts: Wanted  # of the host's interfaces, as Ansible gathers them
    leaving: bool  # the cluster is to be removed, so it need not fit the host

    @property
    def pools(self) -> list[Pool]:
        """Those of all instances."""
        return [pool for instance in self.instances for pool in instance.pools]

    @property
    def has_ipv6(self) -> bool:
        """Whether members need IPv6 addresses."""
        return len(self.addresses) > 1 or any(instance.pool_ipv6 for instance in self.instances)


def request_from(wanted: Wanted) -> Request:
    """The variables -> the request. Raises ParameterError."""
    name = cluster_name("name", wanted["name"])
    addresses = _service_addresses(wanted)
    services = tuple(_service(f"services[{i}]", item) for i, item in enumerate(wanted.get("services") or []))
    instances = _instances(wanted, services)
    uplink = uplink_named(wanted.get("uplink") or ROUTED)
    engine = wanted.get("engine") or hashing.DEFAULT
    total, seed = (_whole(key, wanted[key]) for key in ("total_nodes", "hash_init"))
    hash_parameters({"total_nodes": total, "hash_init": seed})
    return Request(
        name=name,
        addresses=addresses,
        interface=p.interface_name("interface", wanted["interface"]),
        clustermac=p.mac("clustermac", wanted.get("clustermac") or None, multicast=True),
        members=_members(name, wanted, instances, uplink),
        instances=instances,
        services=services,
        uplink=uplink,
        bridge=wanted.get("bridge") or "",
        take_interface=_flag("take_interface", wanted.get("take_interface")) and uplink.members_on_lan,
        internal_network=_by_version(wanted, "internal_network", "ipv6_internal_network"),
        first_member_address=_by_version(wanted, "first_member_address", "first_member_ipv6_address"),
        gateway=_by_version(wanted, "gateway", "ipv6_gateway"),
        total_nodes=total,
        hash_init=seed,
        distribution=_choice("distribution", wanted, STEER),
        hashmode=_choice("hashmode", wanted, defaults.HASHMODE),
        engine=t.cast(t.Any, engine),
        hash_as=_choice("hash_as", wanted, own_hash(engine)),
        force=_flag("force", wanted.get("force")),
        shared=_flag("shared", wanted.get("shared")),
        buckets=tuple(_whole("buckets", bucket) for bucket in wanted.get("buckets") or []),
        failover=_failover(wanted.get("failover") or {}),
        claims=_choice("claims", wanted, "exact"),
        cores=_whole("cores", wanted.get("cores") or 0),
        facts=wanted.get("facts") or {},
        leaving=_flag("leaving", wanted.get("leaving")),
    )


def _whole(parameter: str, value: t.Any) -> int:
    if isinstance(value, bool) or not re.fullmatch(r"-?[0-9]{1,20}", str(value)):
        raise p.ParameterError(parameter, value, "give a whole number")
    return int(value)


def _flag(parameter: str, value: t.Any) -> bool:
    if value is None or isinstance(value, bool):
        return bool(value)
    if str(value).lower() not in ("true", "false", "yes", "no"):
        raise p.ParameterError(parameter, value, "give true or false")
    return str(value).lower() in ("true", "yes")


def _choice(parameter: str, wanted: Wanted, default: str) -> t.Any:
    """One of the values that the type of C(Request) allows."""
    value = wanted.get(parameter) or default
    allowed = t.get_args(_CHOICES[parameter])
    if value not in allowed:
        raise p.ParameterError(parameter, value, f"give one of {', '.join(allowed)}")
    return value


def _by_version(wanted: Wanted, ipv4: str, ipv6: str) -> dict[int, str]:
    return {4: wanted.get(ipv4) or "", 6: wanted.get(ipv6) or ""}


def _failover(given: Wanted) -> Failover | None:
    if not given:
        return None
    health_check.check(given)
    return schema.parse(Failover, given, "failover")


def _service_addresses(wanted: Wanted) -> tuple[tuple[str, Address], ...]:
    result = []
    for parameter, version in (("address", 4), ("ipv6_address", 6)):
        if version == 4 or wanted.get(parameter):
            p.address(parameter, wanted[parameter], version=version)
            result.append((parameter, ipaddress.ip_address(p.service_address(parameter, wanted[parameter]))))
    return tuple(result)


def _service(where: str, item: Wanted) -> Service:
    if item["protocol"] not in t.get_args(Protocol):
        raise p.ParameterError(f"{where}.protocol", item["protocol"], "use udp or tcp")
    port = _whole(f"{where}.port", item["port"])
    if not 1 <= port <= 65535:
        raise p.ParameterError(f"{where}.port", port, "use a port from 1 to 65535")
    return Service(item["protocol"], port)


def _instances(wanted: Wanted, services: tuple[Service, ...]) -> tuple[Instance, ...]:
    slice_prefix = _whole("slice_prefix", wanted["slice_prefix"])
    result = tuple(_instance(f"instances[{i}]", item, slice_prefix) for i, item in enumerate(wanted["instances"]))
    if not result and not services:
        raise p.ParameterError("instances", [], "give at least one, such as name=udp protocol=udp port=1194")
    p.unique("instances.name", (instance.name for instance in result))
    p.unique("instances.port", ((s.protocol, s.port) for s in (*(i.service for i in result), *services)))
    return result


def _instance(where: str, item: Wanted, slice_prefix: int) -> Instance:
    name = item["name"]
    if not re.match(r"^[a-z0-9]{1,8}\Z", name):
        raise p.ParameterError(f"{where}.name", name, "use 1 to 8 of a-z and 0-9")
    service = _service(where, item)
    pool = p.network(f"{where}.pool", item["pool"], version=4)
    if not pool.prefixlen <= slice_prefix <= SMALLEST_SLICE:
        raise p.ParameterError(
            "slice_prefix",
            slice_prefix,
            f"use a prefix length between that of pool {pool} and {SMALLEST_SLICE}",
        )
    pool_ipv6 = None
    if item.get("pool_ipv6"):
        net = p.network(f"{where}.pool_ipv6", item["pool_ipv6"], version=6)
        if net.prefixlen > IPV6_SLICE:
            raise p.ParameterError(
                f"{where}.pool_ipv6",
                item["pool_ipv6"],
                f"each member gets a /{IPV6_SLICE} of it; use a /56 for 256 members",
            )
        pool_ipv6 = Pool(f"instances[{name}].pool_ipv6", net, IPV6_SLICE)
    return Instance(
        name,
        service.protocol,
        service.port,
        Pool(f"instances[{name}].pool", pool, slice_prefix),
        pool_ipv6,
        tuple(p.text(f"{where}.extra_options", str(line)) for line in item.get("extra_options") or []),
    )


def _members(
    cluster: str, wanted: Wanted, instances: tuple[Instance, ...], uplink: Uplink
) -> tuple[RequestedMember, ...]:
    items = wanted["members"] or _by_size(cluster, wanted)
    if uplink.host_is_member and len(items) != 1:
        raise p.ParameterError(
            "members", [m["name"] for m in items], "uplink=local has one member, the host itself; list only that"
        )
    result = tuple(_member(f"members[{i}]", item, instances) for i, item in enumerate(items))
    p.unique("members.name", (m.name for m in result))
    p.unique("members.number", (m.number for m in result))
    return result


def _member(where: str, item: Wanted, instances: tuple[Instance, ...]) -> RequestedMember:
    name = p.netns_name(f"{where}.name", item["name"])
    p.interface_name(f"{where}.name", f"ve-{name}")
    number = _whole(f"{where}.number", item.get("number") or _trailing_number(f"{where}.name", name))
    if number < 1:
        raise p.ParameterError(f"{where}.number", number, "use 1 or more")
    for pool in (pool for instance in instances for pool in instance.pools):
        if number > pool.slices:
            raise p.ParameterError(
                pool.parameter,
                str(pool.network),
                f"has only {pool.slices} slices of /{pool.slice_prefix}, too few for member number {number};"
                f" use a /{pool.slice_prefix - (number - 1).bit_length()}",
            )
    return RequestedMember(
        where=where,
        name=name,
        number=number,
        weight=_whole(f"{where}.weight", item.get("weight", 1)),
        cpus=None if item.get("cpus") is None else tuple(_whole(f"{where}.cpus", cpu) for cpu in item["cpus"]),
        addresses=_by_version(item, "address", "ipv6_address"),
    )


def _by_size(cluster: str, wanted: Wanted) -> list[dict[str, t.Any]]:
    """NAME1 … NAMEn: one member per core but at least two, unless a size is given; pinned to the cores in turn."""
    cores = _whole("cores", wanted.get("cores", 1))
    size = _whole("size", wanted.get("size") or max(2, cores))
    if size < 0:
        raise p.ParameterError("size", size, "use a number of members, or 0 for one per core")
    pin = _flag("pin", wanted.get("pin"))
    return [{"name": f"{cluster}{k + 1}", "number": k + 1, "cpus": [k % cores] if pin else []} for k in range(size)]


def _trailing_number(parameter: str, name: str) -> int:
    match = re.search(r"([0-9]+)$", name)
    if not match or int(match.group(1)) < 1:
        raise p.ParameterError(
            parameter,
            name,
            "end the name with a number from 1 on, or set 'number'; it selects the member's slice of each pool",
        )
    return int(match.group(1))


_CHOICES = t.get_type_hints(Settings) | {"claims": Claims}
