# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The ring: hosts that share a service address, their slots, members and buckets. Pure.

The settings of all hosts are compared and checked here, before any host is changed. The result is plain data and equal
on all hosts. The role saves it as /etc/clustered-openvpn/NAME.ring/ring.json. The next run starts from it, so few slots
move and hosts that are down at that time stay in the ring.
"""

from __future__ import annotations

import ipaddress
import typing as t

from .. import _params as p
from .._cluster import cluster, hashing, health_check, lan
from .._cluster.engines import registry
from . import slots as _slots
from . import vrrp

Data = dict[str, t.Any]
Settings = t.Mapping[str, t.Mapping[str, t.Any]]  # host -> its settings

# Settings that must be equal on all hosts: otherwise packets would have two owners, or none.
COMMON = (
    *("name", "address", "ipv6_address", "clustermac", "hash_init", "total_nodes", "hashmode", "hash_as", "services"),
    *("members_max", "failover", "slots", "first_vrid", "advert_interval", "failback", "unicast"),
)


def ring(settings: Settings, previous: t.Iterable[t.Mapping[str, t.Any]] = ()) -> Data:
    """Lay out the ring: hosts, slots, members and buckets. Raises ParameterError.

    settings: host -> its settings: those of COMMON; number (0: the next free one), weight, local_nodes (buckets,
    without failover; None: by weight), vrrp_interface, vrrp_address, check (health check of its members), members (0:
    the host itself), members_max, facts (its interfaces, as Ansible gathers them), leaving (bool). The settings of an
    unreachable host are {}. It keeps its place in the previous ring; a new host is left out until it can be reached.
    previous: the previous results, one of each host. The one of the highest generation counts: a host that was down has
    an older one.
    """
    before = max(previous, key=lambda one: one.get("generation", 0), default={})
    known = before.get("hosts", {})
    reached = {
        host: {**mine, "hash_as": hashing.canonical(registry.own_hash(mine["hash_as"]))}
        for host, mine in settings.items()
        if mine and not mine.get("leaving")
    }
    if not reached:
        raise p.ParameterError("hosts", sorted(settings), "all of them leave the cluster; keep at least one host in it")
    _check_common(reached)
    one = next(iter(reached.values()))
    _check_values(one)
    _check_address_is_shared(reached, one)
    if one["failover"]:
        _check_failover(reached)
    hosts = _hosts(
        {host: mine for host, mine in settings.items() if host in reached or (not mine and host in known)}, known
    )
    weights = {host: facts["weight"] for host, facts in hosts.items()}
    # Without failover there are no VRRP instances, so each bucket can be a slot.
    slots = one["slots"] if one["failover"] else one["total_nodes"]
    if one["failover"] and before.get("failover") and before["slots"] != slots:
        raise p.ParameterError(
            "slots", slots, f"the cluster has {before['slots']}; keep that number, or remove the cluster first"
        )
    first = _slots.preferred(weights, slots, before.get("preferred"))
    ranks = [hosts_of for _slot, hosts_of in sorted(_slots.ranks(weights, first).items())]
    moves = _slots.moves(before.get("preferred", {}), first)
    return {
        "generation": before.get("generation", 0) + bool(moves or hosts != known),
        "hosts": hosts,
        "failover": one["failover"],
        "slots": slots,
        "preferred": first,
        "ranks": ranks,
        "members": {
            host: _members(reached[host], hosts[host]["number"]) if host in reached else before["members"][host]
            for host in hosts
        },
        "claims": _buckets(
            reached, one, first, {host: before["claims"][host] for host in hosts if host not in reached}
        ),
        "held": {host: len(mine) for host, mine in before.get("preferred", {}).items()},
        "moves": moves,
        "vrrp": vrrp.settings(one["name"], one["first_vrid"], ranks if one["failover"] else ()),
    }


def _check_common(settings: Settings) -> None:
    (first, one), *others = settings.items()
    for host, mine in others:
        for key in COMMON:
            if mine[key] != one[key]:
                raise p.ParameterError(
                    key,
                    mine[key],
                    f"set on {host}, but {first} has {one[key]!r}; use the same value on all hosts of the cluster",
                )


def _check_values(one: t.Mapping[str, t.Any]) -> None:
    cluster.cluster_name("name", one["name"])
    for parameter, version in (("address", 4), ("ipv6_address", 6)):
        if version == 4 or one[parameter]:
            p.address(parameter, one[parameter], version=version)
            p.service_address(parameter, one[parameter])
    p.mac("clustermac", one["clustermac"] or None, multicast=True)
    total, _seed = cluster.hash_parameters(one)
    slots, first = one["slots"], one["first_vrid"]
    if not one["failover"]:
        return
    if not 1 <= slots <= vrrp.MAX_VRID or total % slots:
        raise p.ParameterError(
            "slots",
            slots,
            f"use a divisor of total_nodes ({total}) up to {vrrp.MAX_VRID}, the number of VRRP identifiers",
        )
    highest = vrrp.MAX_VRID + 1 - slots
    if not 1 <= first <= highest:
        raise p.ParameterError(
            "first_vrid", first, f"use 1 to {highest}: {slots} slots need as many identifiers up to {vrrp.MAX_VRID}"
        )
    if not vrrp.SHORTEST_ADVERT <= one["advert_interval"] <= vrrp.LONGEST_ADVERT:
        raise p.ParameterError(
            "advert_interval",
            one["advert_interval"],
            f"use {vrrp.SHORTEST_ADVERT} to {vrrp.LONGEST_ADVERT} seconds",
        )


def _check_address_is_shared(settings: Settings, one: t.Mapping[str, t.Any]) -> None:
    """Refuse a host's own address. A service address that this collection has added has a full-length prefix."""
    for parameter in ("address", "ipv6_address"):
        for host, mine in settings.items():
            found = lan.host_networks(mine["facts"], ()) or {}
            for own in (own for owns in found.values() for own in owns):
                if one[parameter] and own.ip == ipaddress.ip_address(one[parameter]) and own.network.num_addresses > 1:
                    raise p.ParameterError(
                        parameter, one[parameter], f"it is an own address of {host}; use one that no host has"
                    )


def _hosts(wanted: Settings, known: t.Mapping[str, Data]) -> dict[str, Data]:
    """Number, weight and address of each host. A host keeps its number when others join or leave."""
    result: dict[str, Data] = {}
    taken = {mine["number"] for mine in wanted.values() if mine.get("number")}
    taken |= {known[host]["number"] for host in wanted if host in known}
    for host, mine in wanted.items():
        number = mine.get("number") or known.get(host, {}).get("number")
        if not number:
            number = next(n for n in range(1, len(wanted) + len(taken) + 1) if n not in taken)
            taken.add(number)
        if not mine:
            result[host] = dict(known[host])
        else:
            result[host] = {"number": number, "weight": mine["weight"], "address": mine["vrrp_address"]}
    p.unique("number", (facts["number"] for facts in result.values()))
    p.unique("vrrp_address", (facts["address"] for facts in result.values() if facts["address"]))
    return result


def _members(mine: t.Mapping[str, t.Any], number: int) -> list[Data]:
    """A host's members, as C(netns_cluster_members) lists them. Their numbers are unique in the ring."""
    count, most, cores = mine["members"], mine["members_max"], mine["facts"].get("processor_vcpus") or 1
    if not 0 <= count <= most:
        raise p.ParameterError("members", count, f"use 0, for the host itself, to {most} (members_max)")
    if not count:
        return [{"name": mine["name"], "number": number}]
    first = (number - 1) * most + 1
    return [{"name": f"{mine['name']}{first + k}", "number": first + k, "cpus": [k % cores]} for k in range(count)]


def _check_failover(settings: Settings) -> None:
    for host, mine in settings.items():
        health_check.check(mine["check"])
        if not mine["vrrp_address"]:
            raise p.ParameterError(
                "vrrp_interface",
                mine["vrrp_interface"],
                f"has no IPv4 address on {host}; use the interface with the host's own address on the LAN",
            )


def _buckets(
    settings: Settings, one: t.Mapping[str, t.Any], first: _slots.Slots, unreachable: t.Mapping[str, list[int]]
) -> dict[str, list[int]]:
    """Host -> its buckets while all hosts are healthy. unreachable: hosts that cannot be reached -> their buckets."""
    total = one["total_nodes"]
    given = {host: mine["local_nodes"] for host, mine in settings.items() if mine.get("local_nodes") is not None}
    if not given:
        count = sum(len(slots) for slots in first.values())
        return {host: _slots.buckets_of(slots, count, total) for host, slots in first.items()}
    if one["failover"]:
        host, nodes = next(iter(given.items()))
        raise p.ParameterError(
            "local_nodes", nodes, f"remove it on {host}, or set failover to false: keepalived assigns the buckets"
        )
    owner: dict[int, str] = {}
    given.update(unreachable)
    for host in (*settings, *unreachable):
        for bucket in given.get(host, []):
            if not 1 <= bucket <= total:
                raise p.ParameterError(
                    "local_nodes", bucket, f"{host} has a bucket that does not exist; use 1 to {total} (total_nodes)"
                )
            if bucket in owner:
                raise p.ParameterError(
                    "local_nodes", bucket, f"{owner[bucket]} and {host} own it; a bucket has one owner"
                )
            owner[bucket] = host
    unowned = sorted(set(range(1, total + 1)) - set(owner))
    if unowned:
        raise p.ParameterError(
            "local_nodes", unowned, "no host owns these buckets; add them to a host, or their clients are not served"
        )
    return {host: sorted(given.get(host, [])) for host in (*settings, *unreachable)}
