# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What hosts that share an address say of it, put side by side: what does not fit, in sentences. Pure."""

from __future__ import annotations

import typing as t

from .._cluster import cluster, hashing
from . import ring

Findings = t.Mapping[str, t.Mapping[str, t.Any]]

# What the hosts' kernels hold, and must hold alike.
ALIKE = ("address", "total_nodes", "hash_init", "hash_as")
MANY = 8  # buckets that are named; of more, their number is said


def audit(found: Findings) -> list[str]:
    """Sentences about what is wrong; none if all is well.

    found: host -> cluster, cluster_ipv6 (its entries of C(clusterip_info), or {}), told (what the role is told there),
    arp (the MAC addresses that are told for the address, as this host hears it; None: it has no arping), sysctls (key
    -> value), snooping (bridge -> whether it snoops, of the bridge that leads to members on the LAN).
    """
    result = [f"{host}: has no part in the cluster" for host, mine in found.items() if not mine["cluster"]]
    parts = {host: mine for host, mine in found.items() if mine["cluster"]}
    if not parts:
        return result
    for key, of in (("cluster", ""), ("cluster_ipv6", "IPv6: ")):
        clusters = {host: mine[key] for host, mine in parts.items() if mine[key]}
        if clusters:
            result += [f"{host}: has no part in it for IPv6" for host in parts if host not in clusters]
            result += [of + sentence for sentence in (*_differences(clusters), *_owners(clusters))]
    return [*result, *_told(parts), *_arp(parts), *_traps(parts)]


def _differences(found: Findings) -> t.Iterator[str]:
    (first, one), *others = found.items()
    for host, mine in others:
        for key in ALIKE:
            here, there = (hashing.canonical(x[key]) if key == "hash_as" else x[key] for x in (mine, one))
            if here != there:
                said = f"{key} is {mine[key]!r}, on {first} {one[key]!r}"
                yield f"{host}: {said}: packets fall into other buckets there"


def _told(found: Findings) -> t.Iterator[str]:
    (first, one), *others = found.items()
    for host, mine in others:
        for key in ring.ALIKE:
            if mine["told"].get(key) != one["told"].get(key):
                said = f"{key}={mine['told'].get(key)!r}, {first} {one['told'].get(key)!r}"
                yield f"{host}: is told {said}: all hosts need the same"


def _owners(found: Findings) -> t.Iterator[str]:
    total = max(mine["total_nodes"] for mine in found.values())
    owners: dict[int, list[str]] = {bucket: [] for bucket in range(1, total + 1)}
    for host, mine in found.items():
        for buckets in mine["owners"].values():
            for bucket in buckets:
                owners.setdefault(bucket, []).append(host)
    if unowned := [bucket for bucket, hosts in owners.items() if not hosts]:
        yield f"{_named(unowned)}: owned by no host, so that their clients are not served"
    doubly: dict[tuple[str, ...], list[int]] = {}
    for bucket, hosts in owners.items():
        if len(hosts) > 1:
            doubly.setdefault(tuple(hosts), []).append(bucket)
    for both, buckets in doubly.items():
        yield f"{_named(buckets)}: owned by {' and '.join(both)}, so that clients are answered twice"


def _arp(found: Findings) -> t.Iterator[str]:
    for host, mine in found.items():
        if mine["arp"] is None:
            yield f"{host}: has no arping, so what is told for the address was not heard: install iputils-arping"
            continue
        mac = mine["told"]["clustermac"] or cluster.default_clustermac(mine["told"]["address"])
        for said in sorted({one.lower() for one in mine["arp"]} - {mac.lower()}):
            yield f"{host}: hears {said} told for the address, not the cluster's {mac}: one host gets all packets"
        if len(found) > 1 and not mine["arp"]:
            yield f"{host}: hears nobody answer ARP for the address"


def _traps(found: Findings) -> t.Iterator[str]:
    for host, mine in found.items():
        for key, value in mine["sysctls"].items():
            if key.endswith(".drop_unicast_in_l2_multicast") and value == "1":
                yield f"{host}: {key} is 1: packets for the address come in frames to a multicast MAC, and are dropped"
            if key.endswith(".rp_filter") and value == "1":
                yield f"{host}: {key} is 1: clients whose way back is another interface are dropped; 2 lets them in"
            if key.startswith("net.bridge.bridge-nf-call-") and value == "1":
                yield f"{host}: {key} is 1: the host's firewall sees bridged frames, which costs, and may drop them"
        for bridge, snooping in mine["snooping"].items():
            if snooping:
                yield f"{host}: {bridge} has mcast_snooping on: with a querier on the LAN it keeps frames from members"


def _named(buckets: list[int]) -> str:
    few = ", ".join(map(str, buckets[:MANY]))
    return f"buckets {few}{f' and {len(buckets) - MANY} more' if len(buckets) > MANY else ''}"
