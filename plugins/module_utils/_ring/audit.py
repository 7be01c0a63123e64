# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The audit of a ring: compares the hosts' kernels, settings and networks; one sentence for each problem. Pure."""

from __future__ import annotations

import typing as t

from .._cluster import cluster, hashing
from . import ring

Findings = t.Mapping[str, t.Mapping[str, t.Any]]

# Parameters that must be equal in the kernels of all hosts.
COMMON = ("address", "total_nodes", "hash_init", "hash_as")
MANY = 8  # more buckets than these are counted, not listed


def audit(found: Findings) -> list[str]:
    """Problems of the ring, one sentence each; empty without problems.

    found: host -> cluster, cluster_ipv6 (its entries of C(clusterip_info), or {}), told (the role's settings for the
    host), arp (MAC addresses of the ARP replies that the host receives for the service address; None: arping is not
    installed), sysctls (key -> value), snooping (bridge to the LAN -> whether multicast snooping is on).
    """
    result = [f"{host}: the cluster is not configured" for host, mine in found.items() if not mine["cluster"]]
    parts = {host: mine for host, mine in found.items() if mine["cluster"]}
    if not parts:
        return result
    for key, of in (("cluster", ""), ("cluster_ipv6", "IPv6: ")):
        clusters = {host: mine[key] for host, mine in parts.items() if mine[key]}
        if clusters:
            result += [f"{host}: the cluster is not configured for IPv6" for host in parts if host not in clusters]
            result += [of + sentence for sentence in (*_kernels(clusters), *_owners(clusters))]
    return [*result, *_settings(parts), *_arp(parts), *_host_settings(parts)]


def _kernels(found: Findings) -> t.Iterator[str]:
    (first, one), *others = found.items()
    for host, mine in others:
        for key in COMMON:
            values = [hashing.canonical(each[key]) if key == "hash_as" else each[key] for each in (mine, one)]
            if values[0] != values[1]:
                yield (
                    f"{host}: the kernel has {key} {mine[key]!r}, but {one[key]!r} on {first}; packets are assigned to"
                    " different buckets"
                )


def _settings(found: Findings) -> t.Iterator[str]:
    (first, one), *others = found.items()
    for host, mine in others:
        for key in ring.COMMON:
            own, theirs = mine["told"].get(key), one["told"].get(key)
            if own != theirs:
                yield f"{host}: {key} is {own!r}, but {first} has {theirs!r}; use the same value on all hosts"


def _owners(found: Findings) -> t.Iterator[str]:
    total = max(mine["total_nodes"] for mine in found.values())
    owners: dict[int, list[str]] = {bucket: [] for bucket in range(1, total + 1)}
    for host, mine in found.items():
        for buckets in mine["owners"].values():
            for bucket in buckets:
                owners.setdefault(bucket, []).append(host)
    if unowned := [bucket for bucket, hosts in owners.items() if not hosts]:
        yield f"{_named(unowned)}: owned by no host; their clients are not served"
    doubly: dict[tuple[str, ...], list[int]] = {}
    for bucket, hosts in owners.items():
        if len(hosts) > 1:
            doubly.setdefault(tuple(hosts), []).append(bucket)
    for hosts_of, buckets in doubly.items():
        yield f"{_named(buckets)}: owned by {' and '.join(hosts_of)}; their clients are answered twice"


def _arp(found: Findings) -> t.Iterator[str]:
    for host, mine in found.items():
        if mine["arp"] is None:
            yield f"{host}: ARP replies for the service address were not checked; install iputils-arping"
            continue
        mac = mine["told"]["clustermac"] or cluster.default_clustermac(mine["told"]["address"])
        for other in sorted({one.lower() for one in mine["arp"]} - {mac.lower()}):
            yield (
                f"{host}: receives ARP replies for the service address with {other}, not the cluster's {mac}; a client"
                " that uses it reaches one host only"
            )
        if len(found) > 1 and not mine["arp"]:
            yield f"{host}: receives no ARP reply for the service address"


def _host_settings(found: Findings) -> t.Iterator[str]:
    for host, mine in found.items():
        for key, value in mine["sysctls"].items():
            if key.endswith(".drop_unicast_in_l2_multicast") and value == "1":
                yield f"{host}: {key} is 1; the kernel drops packets to the cluster's MAC address; set it to 0"
            if key.endswith(".rp_filter") and value == "1":
                yield f"{host}: {key} is 1; packets of clients routed by another interface are dropped; set it to 2"
            if key.startswith("net.bridge.bridge-nf-call-") and value == "1":
                yield f"{host}: {key} is 1; bridged frames pass the host's firewall, which may drop them; set it to 0"
        for bridge, snooping in mine["snooping"].items():
            if snooping:
                yield (
                    f"{host}: {bridge} has mcast_snooping on; with an IGMP querier on the LAN it drops the cluster's"
                    " frames; turn it off"
                )


def _named(buckets: list[int]) -> str:
    few = ", ".join(map(str, buckets[:MANY]))
    return f"buckets {few}{f' and {len(buckets) - MANY} more' if len(buckets) > MANY else ''}"
