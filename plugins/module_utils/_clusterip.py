# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A cluster's parts in their order: what the C(clusterip) module plans. Pure.

Present: rules before addresses, members before the host, and the proxy entry, which attracts packets, last of all.
Absent: the other way round.
"""

from __future__ import annotations

import types
import typing as t

from ansible_collections.clustered.openvpn.plugins.module_utils import _uplink, _uplink_bridged, _uplink_local
from ansible_collections.clustered.openvpn.plugins.module_utils._cluster import Cluster
from ansible_collections.clustered.openvpn.plugins.module_utils._engines import nftables
from ansible_collections.clustered.openvpn.plugins.module_utils._observed import Views
from ansible_collections.clustered.openvpn.plugins.module_utils._plan import Step, step
from ansible_collections.clustered.openvpn.plugins.module_utils._ruleset import (
    Listing,
    Table,
    plan_no_table,
    plan_table,
)

Listings = t.Mapping[tuple[str, str, str], Listing]  # (netns, family, table) -> what nft lists


def tables_of(cluster: Cluster) -> list[tuple[str, str, str]]:
    """The tables to list before planning, as (netns, family, table)."""
    family = "ip" if cluster.version == 4 else "ip6"
    members = [(node.netns, kind, cluster.table) for node in cluster.members for kind in ("netdev", family)]
    return [("", kind, cluster.table) for kind in ("netdev", family, "bridge")] + members


def plan(
    cluster: Cluster, present: bool, views: Views, listings: Listings, elsewhere: t.Mapping[str, str] | None = None
) -> list[Step]:
    """The steps for the members and the host.

    elsewhere: the host's sysctls that its other clusters have changed, too, and what they were before.
    """
    if not present:
        return _plan_absent(cluster, views, listings, elsewhere or {})
    held = held_now(cluster, listings)
    steps: list[Step] = []
    releases: list[Step] = []
    for node in cluster.members:
        lines = _lines(node.netns, nftables.member_tables(cluster, node, held), cluster, listings)
        # In a flood each member decides by itself: all accept what is new to them before one releases what was its own,
        # and all decide until the host no longer floods.
        gone = [line for line in lines if line.startswith(("delete element ", "delete table "))]
        steps += _nft(node.netns, [line for line in lines if line not in gone])
        steps += _uplink.plan_member(cluster, views[node.netns], present)
        releases += _nft(node.netns, gone)
    wanted = _uplink.host_sysctls(cluster)
    known = {**views[""].sysctls, **(elsewhere or {}), **nftables.before_in(listings["", "netdev", cluster.table])}
    before = {key: known[key] for key in wanted if key in known}
    nic = views[""].links.get(cluster.interface)
    tables = nftables.host_tables(cluster, held, before, nic.mac if nic else None)
    steps += _nft("", _lines("", tables, cluster, listings))
    steps += _uplink.plan_join(cluster, views[""], True)
    steps += _of(cluster).plan_host(cluster, views[""])
    return steps + releases


def held_now(cluster: Cluster, listings: Listings) -> dict[str, set[int]]:
    """Who owns what: MAC address -> buckets, from the host's map or the members' sets.

    When the distribution is changed, the owners are still where the other one keeps them.
    """
    by_host = nftables.held_on_host(listings["", nftables.deciding_family(cluster), cluster.table])
    by_members = {n.mac: nftables.held_in_member(listings[n.netns, "netdev", cluster.table]) for n in cluster.members}
    first, other = (by_host, by_members) if cluster.distribution == "steer" else (by_members, by_host)
    return first if any(first.values()) else other


def moved(cluster: Cluster, present: bool, listings: Listings) -> int:
    """How many buckets change their owner."""
    held = held_now(cluster, listings)
    wanted = nftables.claimed(cluster, held) if present else {}
    before = {(bucket, mac) for mac, buckets in held.items() for bucket in buckets}
    after = {(bucket, mac) for mac, buckets in wanted.items() for bucket in buckets}
    return len({bucket for bucket, mac in before ^ after})


def _plan_absent(cluster: Cluster, views: Views, listings: Listings, elsewhere: t.Mapping[str, str]) -> list[Step]:
    # A cluster that has another address by now keeps its tables: they are that one's.
    at_work = {nftables.address_in(listings["", family, cluster.table]) for family in ("netdev", "bridge")}
    moved_on = bool(at_work - {None, cluster.address})
    steps = _of(cluster).plan_no_host(cluster, views[""])
    steps += _uplink.plan_join(cluster, views[""], False)
    if not moved_on:
        before = nftables.before_in(listings["", "netdev", cluster.table])
        steps += _uplink.plan_sysctls_back(before, elsewhere, views[""])
        steps += _nft("", _lines("", [], cluster, listings))
    for node in cluster.members:
        steps += _uplink.plan_member(cluster, views[node.netns], False)
        if not moved_on:
            steps += _nft(node.netns, _lines(node.netns, [], cluster, listings))
    return steps


def _of(cluster: Cluster) -> types.ModuleType:
    return {"routed": _uplink, "bridged": _uplink_bridged, "local": _uplink_local}[cluster.uplink]


def _lines(netns: str, wanted: t.Sequence[Table], cluster: Cluster, listings: Listings) -> list[str]:
    """The lines for all tables of ours in a namespace: those wanted, and those that are there and are not."""
    kept = {table.key for table in wanted}
    lines = [line for table in wanted for line in plan_table(table, listings[(netns, *table.key)])]
    for at, family, name in tables_of(cluster):
        if at == netns and (family, name) not in kept:
            lines += plan_no_table(family, name, listings[at, family, name])
    return lines


def _nft(netns: str, lines: list[str]) -> list[Step]:
    """One transaction."""
    return [step("nft", netns, lines=lines)] if lines else []
