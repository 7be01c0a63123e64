# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A cluster's parts in their order: what the C(clusterip) module plans. Pure.

Present: rules before addresses, members before the host, and the proxy entry, which attracts packets, last of all.
Absent: the other way round.
"""

from __future__ import annotations

import typing as t

from ansible_collections.clustered.openvpn.plugins.module_utils import _uplink
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
    host = [("", "netdev", cluster.table), ("", "ip", cluster.table)]
    return host + [(node.netns, "ip", cluster.table) for node in cluster.nodes]


def plan(cluster: Cluster, present: bool, views: Views, listings: Listings) -> list[Step]:
    """The steps for the members and the host."""
    if not present:
        return _plan_absent(cluster, views, listings)
    steps = []
    for node in cluster.nodes:
        steps += _nft(node.netns, [nftables.member_table(cluster)], listings)
        steps += _uplink.plan_member(cluster, views[node.netns], present)
    held = nftables.held_by(listings["", "netdev", cluster.table])
    steps += _nft("", nftables.host_tables(cluster, held), listings)
    steps += _uplink.plan_host(cluster, views[""])
    return steps


def moved(cluster: Cluster, present: bool, listings: Listings) -> int:
    """How many buckets change their owner."""
    held = nftables.held_by(listings["", "netdev", cluster.table])
    wanted = nftables.claimed(cluster, held) if present else {}
    return sum(1 for bucket in {*held, *wanted} if held.get(bucket) != wanted.get(bucket))


def _plan_absent(cluster: Cluster, views: Views, listings: Listings) -> list[Step]:
    steps = _uplink.plan_no_host(cluster, views[""])
    lines = [line for key in tables_of(cluster) if not key[0] for line in plan_no_table(*key[1:], listings[key])]
    if lines:
        steps.append(step("nft", lines=lines))
    for node in cluster.nodes:
        steps += _uplink.plan_member(cluster, views[node.netns], False)
        lines = plan_no_table("ip", cluster.table, listings[node.netns, "ip", cluster.table])
        if lines:
            steps.append(step("nft", node.netns, lines=lines))
    return steps


def _nft(netns: str, wanted: t.Iterable[Table], listings: Listings) -> list[Step]:
    """One transaction a namespace."""
    lines = [line for table in wanted for line in plan_table(table, listings[(netns, *table.key)])]
    return [step("nft", netns, lines=lines)] if lines else []
