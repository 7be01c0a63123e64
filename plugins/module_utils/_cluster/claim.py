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
from dataclasses import dataclass, field, replace

from .._kernel.observed import Saved, Views
from .._kernel.ruleset import Listing, Table, plan_no_table, plan_table
from .._kernel.steps import Step, step
from .cluster import Cluster, Node
from .engines import clusterip, iptables, nft_listing, nftables, xt_cluster
from .uplinks import bridged, common, local, routed

Listings = t.Mapping[tuple[str, str, str], Listing]  # (netns, family, table) -> what nft lists


@dataclass(frozen=True)
class Old:
    """What the engines of iptables have to do with the cluster."""

    saved: t.Mapping[str, Saved] = field(default_factory=dict)  # by namespace
    families: frozenset[str] = frozenset()  # those of nftables that the kernel knows

    @property
    def tool(self) -> str:
        """The iptables for xt_cluster."""
        return "iptables-nft" if "ip" in self.families else "iptables-legacy"

    def of(self, netns: str) -> Saved:
        """A namespace's."""
        return self.saved.get(netns, Saved())


def deciding(cluster: Cluster) -> tuple[Node, ...]:
    """The nodes where engines of iptables may have something: where each decides for itself, which is no matter now."""
    if cluster.uplink == "local":
        return tuple(replace(node, interface=cluster.interface) for node in cluster.nodes[:1]) or (
            Node("", nftables.LOCAL, cluster.interface, None),
        )
    return cluster.members


def tables_of(cluster: Cluster) -> list[tuple[str, str, str]]:
    """The tables to list before planning, as (netns, family, table)."""
    family = "ip" if cluster.version == 4 else "ip6"
    members = [(node.netns, kind, cluster.table) for node in cluster.members for kind in ("netdev", family)]
    return [("", kind, cluster.table) for kind in ("netdev", family, "bridge")] + members


def plan(
    cluster: Cluster,
    present: bool,
    views: Views,
    listings: Listings,
    elsewhere: t.Mapping[str, str] | None = None,
    old: Old | None = None,
) -> list[Step]:
    """The steps for the members and the host.

    elsewhere: the host's sysctls that its other clusters have changed, too, and what they were before.
    """
    old = old or Old()
    if not present:
        return _plan_absent(cluster, views, listings, elsewhere or {}, old)
    held = held_now(cluster, listings, old)
    steps: list[Step] = []
    releases: list[Step] = []
    for node in deciding(cluster):
        accepts, gone_now = _plan_old(cluster, node, nftables.claimed(cluster, held).get(node.mac, frozenset()), old)
        steps += accepts
        releases += gone_now
    for node in cluster.members:
        lines = _lines(node.netns, nftables.member_tables(cluster, node, held), cluster, listings)
        # In a flood each member decides by itself: all accept what is new to them before one releases what was its own,
        # and all decide until the host no longer floods.
        gone = [line for line in lines if line.startswith(("delete element ", "delete table "))]
        steps += _nft(node.netns, [line for line in lines if line not in gone])
        steps += common.plan_member(cluster, views[node.netns], present)
        releases += _nft(node.netns, gone)
    wanted = common.host_sysctls(cluster)
    known = {**views[""].sysctls, **(elsewhere or {}), **before_in(cluster, listings)}
    before = {key: known[key] for key in wanted if key in known}
    nic = views[""].links.get(cluster.interface)
    families = None if cluster.engine == "nftables" else old.families
    tables = nftables.host_tables(cluster, held, before, nic.mac if nic else None, families)
    steps += _nft("", _lines("", tables, cluster, listings))
    steps += common.plan_join(cluster, views[""], True)
    steps += _of(cluster).plan_host(cluster, views[""])
    return steps + releases


def held_now(cluster: Cluster, listings: Listings, old: Old | None = None) -> dict[str, set[int]]:
    """Who owns what: MAC address -> buckets, from the host's map or the members' sets, or from the rules of iptables.

    When distribution or engine is changed, the owners are still where the other one keeps them.
    """
    old = old or Old()
    by_host = nft_listing.held_on_host(listings["", nftables.deciding_family(cluster), cluster.table])
    by_members = {
        n.mac: nft_listing.held_in_member(listings[n.netns, "netdev", cluster.table]) for n in cluster.members
    }
    places = deciding(cluster) if cluster.version == 4 else ()
    by_target = {n.mac: set(clusterip.held(cluster.table, old.of(n.netns))) for n in places}
    by_match = {n.mac: set(xt_cluster.held(cluster.table, old.of(n.netns))) for n in places}
    known = [by_host, by_members] if cluster.distribution == "steer" else [by_members, by_host]
    known += [by_match, by_target]
    chosen = {"clusterip": by_target, "xt_cluster": by_match}.get(cluster.engine, known[0])
    return next((owners for owners in (chosen, *known) if any(owners.values())), chosen)


def moved(cluster: Cluster, present: bool, listings: Listings, old: Old | None = None) -> int:
    """How many buckets change their owner."""
    held = held_now(cluster, listings, old)
    wanted = nftables.claimed(cluster, held) if present else {}
    before = {(bucket, mac) for mac, buckets in held.items() for bucket in buckets}
    after = {(bucket, mac) for mac, buckets in wanted.items() for bucket in buckets}
    return len({bucket for bucket, mac in before ^ after})


def before_in(cluster: Cluster, listings: Listings) -> dict[str, str]:
    """The host's sysctls before the cluster changed them."""
    return {
        key: value
        for family in ("bridge", "netdev")
        for key, value in nft_listing.before_in(listings["", family, cluster.table]).items()
    }


def _plan_old(cluster: Cluster, node: Node, buckets: t.AbstractSet[int], old: Old) -> tuple[list[Step], list[Step]]:
    """What engines of iptables do for a node: steps to own its buckets, and steps to let others go."""
    have, name = old.of(node.netns), cluster.engine
    accepts: list[Step] = []
    releases: list[Step] = []
    if name == "clusterip":
        accepts, releases = clusterip.plan(cluster, node.netns, node.interface, buckets, have)
    elif name == "xt_cluster":
        accepts, releases = xt_cluster.plan(cluster, node.netns, node.interface, old.tool, buckets, have)
    return accepts, releases + _plan_no_old(cluster, node, old, keep=name)


def _plan_no_old(cluster: Cluster, node: Node, old: Old, keep: str = "") -> list[Step]:
    """Removes what engines have that are not the one that is kept."""
    have = old.of(node.netns)
    steps = []
    for tool in ("iptables-legacy", "iptables-nft"):
        if tool != {"clusterip": "iptables-legacy", "xt_cluster": old.tool}.get(keep):
            steps += iptables.plan_none(cluster, node.netns, tool, have)
    return steps


def _plan_absent(
    cluster: Cluster, views: Views, listings: Listings, elsewhere: t.Mapping[str, str], old: Old
) -> list[Step]:
    # A cluster that has another address by now keeps its tables: they are that one's.
    at_work = {nft_listing.address_in(listings["", family, cluster.table]) for family in ("netdev", "bridge")}
    moved_on = bool(at_work - {None, cluster.address})
    steps = _of(cluster).plan_no_host(cluster, views[""])
    steps += common.plan_join(cluster, views[""], False)
    if not moved_on:
        before = before_in(cluster, listings)
        steps += common.plan_sysctls_back(before, elsewhere, views[""])
        steps += _nft("", _lines("", [], cluster, listings))
    for node in cluster.members:
        steps += common.plan_member(cluster, views[node.netns], False)
        if not moved_on:
            steps += _nft(node.netns, _lines(node.netns, [], cluster, listings))
    if not moved_on:
        steps += [step for node in deciding(cluster) for step in _plan_no_old(cluster, node, old)]
    return steps


def _of(cluster: Cluster) -> types.ModuleType:
    return {"routed": routed, "bridged": bridged, "local": local}[cluster.uplink]


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
