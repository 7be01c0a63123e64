# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The hosts of a cluster as one: what each of them is told must fit together, before any of them is touched. Pure.

The result is plain data, the same on every host. It is kept on them as /etc/clustered-openvpn/NAME.ring/ring.json, and
the next one is made with it, so that as few slots move as can be, and hosts that are down meanwhile stay in it.
"""

from __future__ import annotations

import ipaddress
import typing as t

from .. import _params as p
from .._cluster import cluster, hashing, health_check, lan
from .._cluster.engines import registry
from . import slots as _slots

Data = dict[str, t.Any]
Wanted = t.Mapping[str, t.Mapping[str, t.Any]]

MAX_VRID = 255  # RFC 5798, 5.2.3
LONGEST_ADVERT = 40.95  # seconds: twelve bits of hundredths, RFC 5798, 5.2.7
# What all hosts must be told alike: or packets would have two owners, or none.
ALIKE = (
    *("name", "address", "ipv6_address", "clustermac", "hash_init", "total_nodes", "hashmode", "hash_as", "services"),
    *("members_max", "failover", "slots", "first_vrid", "advert_interval", "failback", "unicast"),
)


def ring(wanted: Wanted, previous: t.Iterable[t.Mapping[str, t.Any]] = ()) -> Data:
    """Hosts, slots and their owners, from what the hosts are told. Raises ParameterError.

    wanted: host -> its variables: those of ALIKE; number (0: the next free one), weight, local_nodes (buckets, without
    failover; None: as laid out), vrrp_interface, vrrp_address, check (how members are asked whether they are well),
    members (0: the host itself), members_max, facts (what Ansible gathered of its interfaces), leaving.
    A host that cannot be reached has no variables: {}. What was known of it before is taken, and if nothing was, it has
    no part yet.
    previous: the results before, as the hosts have kept them: one that was down may have an old one.
    """
    before = max(previous, key=lambda one: one.get("generation", 0), default={})
    known = before.get("hosts", {})
    told = {
        host: {**mine, "hash_as": hashing.canonical(registry.own_hash(mine["hash_as"]))}
        for host, mine in wanted.items()
        if mine and not mine.get("leaving")
    }
    if not told:
        raise p.ParameterError("hosts", sorted(wanted), "none of them is to be part of the cluster")
    _alike(told)
    one = next(iter(told.values()))
    _checked(one)
    _not_a_hosts_own(told, one)
    if one["failover"]:
        _can_elect(told)
    hosts = _hosts({host: mine for host, mine in wanted.items() if host in told or (not mine and host in known)}, known)
    weights = {host: facts["weight"] for host, facts in hosts.items()}
    # Where nothing fails over, each bucket may go its own way.
    slots = one["slots"] if one["failover"] else one["total_nodes"]
    if one["failover"] and before.get("failover") and before["slots"] != slots:
        raise p.ParameterError(
            "slots", slots, f"the cluster was made with {before['slots']}: keep that, or remove the cluster before"
        )
    first = _slots.preferred(weights, slots, before.get("preferred"))
    moves = _slots.moves(before.get("preferred", {}), first)
    return {
        "generation": before.get("generation", 0) + bool(moves or hosts != known),
        "hosts": hosts,
        "failover": one["failover"],
        "slots": slots,
        "preferred": first,
        "ranks": [hosts_of for _slot, hosts_of in sorted(_slots.ranks(weights, first).items())],
        "members": {
            host: _members(told[host], hosts[host]["number"]) if host in told else before["members"][host]
            for host in hosts
        },
        "claims": _owned(told, one, first, {host: before["claims"][host] for host in hosts if host not in told}),
        "held": {host: len(mine) for host, mine in before.get("preferred", {}).items()},
        "moves": moves,
    }


def _alike(told: Wanted) -> None:
    (first, one), *others = told.items()
    for host, mine in others:
        for key in ALIKE:
            if mine[key] != one[key]:
                raise p.ParameterError(
                    key,
                    mine[key],
                    f"this is what {host} is told, {first} {one[key]!r}: all hosts of a cluster need the same",
                )


def _checked(one: t.Mapping[str, t.Any]) -> None:
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
    if not 1 <= slots <= MAX_VRID or total % slots:
        raise p.ParameterError(
            "slots",
            slots,
            f"a number up to {MAX_VRID}, the identifiers of VRRP, by which total_nodes ({total}) can be divided",
        )
    if not 1 <= first <= MAX_VRID + 1 - slots:
        raise p.ParameterError(
            "first_vrid", first, f"{slots} slots from there on go beyond {MAX_VRID}: 1 to {MAX_VRID + 1 - slots}"
        )
    if not 0.01 <= one["advert_interval"] <= LONGEST_ADVERT:
        raise p.ParameterError("advert_interval", one["advert_interval"], f"seconds from 0.01 to {LONGEST_ADVERT}")


def _not_a_hosts_own(told: Wanted, one: t.Mapping[str, t.Any]) -> None:
    """An address that a host has for itself cannot be everybody's. Alone on its interface, it is our doing."""
    for parameter in ("address", "ipv6_address"):
        for host, mine in told.items():
            found = lan.host_networks(mine["facts"], ()) or {}
            for own in (own for owns in found.values() for own in owns):
                if one[parameter] and own.ip == ipaddress.ip_address(one[parameter]) and own.network.num_addresses > 1:
                    raise p.ParameterError(
                        parameter, one[parameter], f"{host} has it for itself; choose one that no host has"
                    )


def _hosts(wanted: Wanted, known: t.Mapping[str, Data]) -> dict[str, Data]:
    """Number, weight and address of each host. Numbers stay when hosts come and go."""
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
    """A host's members, as the role C(netns_cluster) wants them. Their numbers are nobody else's."""
    count, most, cores = mine["members"], mine["members_max"], mine["facts"].get("processor_vcpus") or 1
    if not 0 <= count <= most:
        raise p.ParameterError("members", count, f"0, for the host itself, up to {most} (members_max)")
    if not count:
        return [{"name": mine["name"], "number": number}]
    first = (number - 1) * most + 1
    return [{"name": f"{mine['name']}{first + k}", "number": first + k, "cpus": [k % cores]} for k in range(count)]


def _can_elect(told: Wanted) -> None:
    for host, mine in told.items():
        health_check.check(mine["check"])
        if not mine["vrrp_address"]:
            raise p.ParameterError(
                "vrrp_interface",
                mine["vrrp_interface"],
                f"has no IPv4 address on {host}: name the interface that has the host's own address on the LAN",
            )


def _owned(
    told: Wanted, one: t.Mapping[str, t.Any], first: _slots.Slots, away: t.Mapping[str, list[int]]
) -> dict[str, list[int]]:
    """Host -> the buckets that it is to own when all are well. away: those of hosts that cannot be reached."""
    total = one["total_nodes"]
    given = {host: mine["local_nodes"] for host, mine in told.items() if mine.get("local_nodes") is not None}
    if not given:
        count = sum(len(slots) for slots in first.values())
        return {host: _slots.buckets_of(slots, count, total) for host, slots in first.items()}
    if one["failover"]:
        host, nodes = next(iter(given.items()))
        raise p.ParameterError(
            "local_nodes", nodes, f"with failover, keepalived gives {host} its buckets: leave it out"
        )
    owner: dict[int, str] = {}
    given.update(away)
    for host in (*told, *away):
        for bucket in given.get(host, []):
            if not 1 <= bucket <= total:
                raise p.ParameterError(
                    "local_nodes", bucket, f"a bucket lies between 1 and {total} (total_nodes), on {host}"
                )
            if bucket in owner:
                raise p.ParameterError(
                    "local_nodes", bucket, f"{owner[bucket]} and {host} own it: a bucket has one owner"
                )
            owner[bucket] = host
    nobodys = sorted(set(range(1, total + 1)) - set(owner))
    if nobodys:
        raise p.ParameterError(
            "local_nodes", nobodys, "no host owns these buckets, so their clients would not be served"
        )
    return {host: sorted(given.get(host, [])) for host in (*told, *away)}
