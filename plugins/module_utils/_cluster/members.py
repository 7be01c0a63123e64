# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Members and instances of a cluster: the user's variables, validated and completed. Pure."""

from __future__ import annotations

import hashlib
import ipaddress
import re
import typing as t

from .. import _params as p
from .conflicts import Addresses
from .lan import Address, Lan, Network

SMALLEST_SLICE = 29  # OpenVPN's "server" needs a network of eight addresses at least
IPV6_SLICE = 64  # the largest that OpenVPN's "server-ipv6" takes
Data = dict[str, t.Any]


def _services(wanted: t.Mapping[str, t.Any]) -> list[Data]:
    """What somebody else serves."""
    services = wanted.get("services") or []
    for i, item in enumerate(services):
        _endpoint(f"services[{i}]", item)
    return [dict(item) for item in services]


def _endpoint(where: str, item: t.Mapping[str, t.Any]) -> None:
    if item["protocol"] not in ("udp", "tcp"):
        raise p.ParameterError(f"{where}.protocol", item["protocol"], "udp or tcp")
    if not 1 <= item["port"] <= 65535:
        raise p.ParameterError(f"{where}.port", item["port"], "a port lies between 1 and 65535")


def _service_addresses(wanted: t.Mapping[str, t.Any]) -> Addresses:
    """That of IPv4, and that of IPv6 if there is one."""
    result = []
    for parameter, version in (("address", 4), ("ipv6_address", 6)):
        if version == 4 or wanted.get(parameter):
            p.address(parameter, wanted[parameter], version=version)
            result.append((parameter, ipaddress.ip_address(p.service_address(parameter, wanted[parameter]))))
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
        _endpoint(where, item)
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
    if not result and not wanted.get("services"):
        raise p.ParameterError("instances", [], "name one at least, like name=udp protocol=udp port=1194")
    p.unique("instances.name", (i["name"] for i in result))
    p.unique("instances.port", ((i["protocol"], i["port"]) for i in [*result, *_services(wanted)]))
    return result


def _members(
    cluster: str, wanted: t.Mapping[str, t.Any], place: Lan, instances: list[Data], services: list[Address]
) -> list[Data]:
    result = []
    items = wanted["members"] or _by_size(cluster, wanted)
    if place.uplink.host_is_member and len(items) != 1:
        raise p.ParameterError("members", [m["name"] for m in items], "with uplink=local there is one, the host itself")
    for i, item in enumerate(items):
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
                "mac": member_mac(cluster, name) if place.bridge else "",
                **place.member_addresses(where, number, item, services),
            }
        )
    p.unique("members.name", (m["name"] for m in result))
    p.unique("members.number", (m["number"] for m in result))
    for key in ("address", "ipv6_address"):
        p.unique(f"members.{key}", (m[key] for m in result if key in m))
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
