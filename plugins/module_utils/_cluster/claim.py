# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Plan the claim of a service address, for the C(clusterip) module. Pure.

Present: rules before addresses, members before the host, and the step that attracts packets to the host at the end.
Absent: in reverse order.
"""

from __future__ import annotations

import typing as t

from .._kernel.observed import View, Views
from .._kernel.ruleset import Listing, Table, plan_no_table, plan_table
from .._kernel.steps import Step, step
from .._topology.sysctls import plan_sysctls
from . import forward_rules
from .cluster import STEER, Cluster, Owners, claimed
from .engines import iptables, nft_host, nft_listing
from .engines.engine import IPTABLES_TOOLS, IptablesState
from .engines.registry import ENGINES, engine_of, needs_announcement
from .uplinks.registry import uplink_of
from .uplinks.uplink import link_of

Listings = t.Mapping[tuple[str, str, str], Listing]  # (netns, family, table) -> nft's listing
Sysctls = t.Mapping[str, str]  # key -> value

_NO_IPTABLES = IptablesState()


def tables_of(cluster: Cluster) -> list[tuple[str, str, str]]:
    """The tables to list before planning, as (netns, family, table)."""
    families = ("netdev", cluster.family)
    members = [(member.netns, family, cluster.table) for member in cluster.namespaces for family in families]
    return [("", family, cluster.table) for family in (*families, "bridge")] + members


def plan(
    cluster: Cluster,
    present: bool,
    views: Views,
    listings: Listings,
    changed_by_others: Sysctls | None = None,
    state: IptablesState = _NO_IPTABLES,
) -> list[Step]:
    """The steps for the members and the host.

    changed_by_others: the host's sysctls that its other clusters have changed as well, with their values before.
    """
    if not present:
        return _plan_absent(cluster, views, listings, changed_by_others or {}, state)
    engine, owners = engine_of(cluster), owners_of(cluster, listings, state)
    desired = claimed(cluster, owners)
    steps: list[Step] = []
    releases: list[Step] = []
    for member in cluster.members:
        buckets = desired.get(member.mac, frozenset())
        accepts, gives_up = engine.plan(cluster, member, buckets, state)
        steps += accepts
        releases += [*gives_up, *_plan_no_iptables(cluster, member.netns, state, keep=engine.tool(state))]
    for member in cluster.namespaces:
        lines = _lines(member.netns, engine.member_tables(cluster, member, owners), cluster, listings)
        # Where each member decides by itself, all accept their new buckets before any releases its old ones, and all
        # decide until the host no longer floods.
        drops = [line for line in lines if line.startswith(("delete element ", "delete table "))]
        steps += _nft(member.netns, [line for line in lines if line not in drops])
        steps += _plan_address(cluster, views[member.netns], True)
        releases += _nft(member.netns, drops)
    uplink, host = uplink_of(cluster), views[""]
    values = {**host.sysctls, **(changed_by_others or {}), **recorded_sysctls(cluster, listings)}
    before = {key: values[key] for key in uplink.host_sysctls(cluster) if key in values}
    nic_mac = link_of(host, cluster.interface).mac
    tables = nft_host.host_tables(cluster, owners, before, nic_mac, state.families)
    steps += _nft("", _lines("", tables, cluster, listings))
    steps += forward_rules.plan(cluster, True, state)
    steps += _plan_join(cluster, host, needs_announcement(cluster) and not uplink.members_on_lan)
    steps += uplink.plan_host(cluster, host)
    return steps + releases


def owners_of(cluster: Cluster, listings: Listings, state: IptablesState = _NO_IPTABLES) -> dict[str, set[int]]:
    """The present owners, MAC address -> buckets: from the host's map, or from the rules of the members.

    After a change of distribution or engine they are still in the rules of the previous one.
    """
    table, host_family = cluster.table, uplink_of(cluster).family
    by_map = nft_listing.owners_on_host(listings["", host_family, table])
    by_members = {
        name: {
            m.mac: engine.buckets_in(table, listings[m.netns, "netdev", table], state.of(m.netns))
            for m in cluster.members
        }
        for name, engine in ENGINES.items()
    }
    candidates = list(by_members.values())
    candidates.insert(0 if cluster.distribution == STEER else 1, by_map)
    own = candidates[0] if engine_of(cluster).elements else by_members[cluster.engine]
    return next((owners for owners in (own, *candidates) if any(owners.values())), own)


def moved(cluster: Cluster, present: bool, listings: Listings, state: IptablesState = _NO_IPTABLES) -> int:
    """The number of buckets that change their owner."""
    owners = owners_of(cluster, listings, state)
    before = _pairs(owners)
    after = _pairs(claimed(cluster, owners)) if present else set()
    return len({bucket for bucket, _mac in before ^ after})


def _pairs(owners: Owners) -> set[tuple[int, str]]:
    return {(bucket, mac) for mac, buckets in owners.items() for bucket in buckets}


def recorded_sysctls(cluster: Cluster, listings: Listings) -> dict[str, str]:
    """The host's sysctls before the cluster changed them."""
    return {
        key: value
        for family in ("bridge", "netdev")
        for key, value in nft_listing.sysctls_in(listings["", family, cluster.table]).items()
    }


def _plan_absent(
    cluster: Cluster, views: Views, listings: Listings, changed_by_others: Sysctls, state: IptablesState
) -> list[Step]:
    # If the cluster of this name has another address now, the tables belong to that one.
    in_rules = {nft_listing.address_in(listings["", family, cluster.table]) for family in ("netdev", "bridge")}
    moved_on = bool(in_rules - {None, cluster.address})
    steps = uplink_of(cluster).plan_no_host(cluster, views[""])
    steps += _plan_join(cluster, views[""], False)
    if not moved_on:
        # A sysctl that another cluster needs stays; that one restores it at its own removal.
        restored = {
            key: value
            for key, value in recorded_sysctls(cluster, listings).items()
            if key not in changed_by_others and key in views[""].sysctls
        }
        steps += plan_sysctls("", restored, views[""])
        steps += _nft("", _lines("", [], cluster, listings))
        steps += forward_rules.plan(cluster, False, state)
    for member in cluster.namespaces:
        steps += _plan_address(cluster, views[member.netns], False)
        if not moved_on:
            steps += _nft(member.netns, _lines(member.netns, [], cluster, listings))
    if not moved_on:
        steps += [step for member in cluster.members for step in _plan_no_iptables(cluster, member.netns, state)]
    return steps


def _plan_no_iptables(cluster: Cluster, netns: str, state: IptablesState, keep: str | None = None) -> list[Step]:
    """Remove our iptables rules, but those of the tool that is kept."""
    saved = state.of(netns)
    return [step for tool in IPTABLES_TOOLS if tool != keep for step in iptables.plan_none(cluster, netns, tool, saved)]


def _plan_join(cluster: Cluster, host: View, joined: bool) -> list[Step]:
    """Join the NIC to the cluster's MAC address, or leave it. A port of a bridge receives all frames without it."""
    if (cluster.clustermac in link_of(host, cluster.interface).multicast) == joined:
        return []
    return [step("maddr_add" if joined else "maddr_del", dev=cluster.interface, mac=cluster.clustermac)]


def _plan_address(cluster: Cluster, view: View, present: bool) -> list[Step]:
    """The service address on a member's loopback. The rules that drop packets precede it, and go after it."""
    address = cluster.host_address
    if (address in link_of(view, "lo").addresses) == present:
        return []
    return [step("addr_add" if present else "addr_del", view.netns, dev="lo", address=address)]


def _lines(netns: str, tables: t.Sequence[Table], cluster: Cluster, listings: Listings) -> list[str]:
    """The lines for all of our tables in a namespace: those that should exist, and those to delete."""
    kept = {table.key for table in tables}
    lines = [line for table in tables for line in plan_table(table, listings[(netns, *table.key)])]
    for at, family, name in tables_of(cluster):
        if at == netns and (family, name) not in kept:
            lines += plan_no_table(family, name, listings[at, family, name])
    return lines


def _nft(netns: str, lines: list[str]) -> list[Step]:
    """One transaction, if there is any line."""
    return [step("nft", netns, lines=lines)] if lines else []
