# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The engine clusterip: the CLUSTERIP target of iptables, in kernels until 6.2. Pure.

The kernel keeps one configuration for each address: MAC address, hash, and node numbers, which are our buckets. The
first rule creates it, the last one removes it. Later rules must name the same MAC address; the kernel ignores their
other options. Node numbers are changed through a file in /proc. The kernel itself joins the MAC address and answers ARP
with it.
"""

from __future__ import annotations

import typing as t

from ... import _params as p
from ..._kernel import iptables_rules
from ..._kernel.iptables_rules import Rule, Rules
from ..._kernel.observed import Host, Saved
from ..._kernel.ruleset import Listing
from ..._kernel.steps import Step, step
from ..cluster import Cluster, Member
from ..uplinks.registry import uplink_of
from . import iptables
from .engine import IPTABLES_LEGACY, Engine, Hashed, IptablesState, Plan
from .iptables import FILTER, INPUT

MAX_BUCKETS = 16  # CLUSTERIP_MAX_NODES


class Clusterip(Engine):
    """C(iptables-legacy -j CLUSTERIP)."""

    name = hash_as = "clusterip"

    def limit(self, cluster: Cluster) -> p.ParameterError | None:
        return iptables.limit(self.name, cluster, MAX_BUCKETS)

    def lacking(self, host: Host) -> p.ParameterError | None:
        if host.clusterip:
            return None
        remedy = (
            f"the kernel {host.release} has no CLUSTERIP target, which Linux 6.3 removed; use engine=nftables with"
            f" hash_as={self.hash_as}, which can share a ring with hosts that still have it"
        )
        return p.ParameterError("engine", self.name, remedy)

    def announces_mac(self, cluster: Cluster) -> bool:
        # Behind a bridge it would announce the address to that bridge only.
        return uplink_of(cluster).host_is_member

    def tool(self, state: IptablesState) -> str | None:
        return IPTABLES_LEGACY

    def hash_in(self, table: str, listing: Listing, saved: Saved) -> Hashed | None:
        for line in _hashing(table, saved):
            total, seed = (iptables_rules.option(line, name) for name in ("--total-nodes", "--hash-init"))
            address = (iptables_rules.option(line, "-d") or "").partition("/")[0]
            return {
                "address": address,
                "total_nodes": int(total or 0),
                "hash_init": int(seed or 0),
                "hash_as": self.hash_as,
            }
        return None

    def buckets_in(self, table: str, listing: Listing, saved: Saved) -> set[int]:
        return set(saved.nodes or ()) if _hashing(table, saved) else set()

    def plan(self, cluster: Cluster, member: Member, buckets: t.AbstractSet[int], state: IptablesState) -> Plan:
        return _plan(cluster, member, buckets, state.of(member.netns))


def _plan(cluster: Cluster, member: Member, buckets: t.AbstractSet[int], saved: Saved) -> Plan:
    netns, lines, owned = member.netns, saved.lines.get(IPTABLES_LEGACY, ()), saved.nodes
    steps: list[Step] = []
    present = _hashing(cluster.table, saved)
    if present and _options_in(present[0]) != _options(cluster):
        # The kernel drops its configuration with the last rule only.
        closed = Rules(cluster.table, {FILTER: (_closed(),)}, {INPUT: (iptables.jump(cluster),)})
        steps += _restore(netns, closed, lines)
        lines, owned = iptables_rules.printed(closed), None
    rules = _rules(cluster, member.interface, buckets)
    if owned is None:
        owned = frozenset({min(buckets, default=1)})
        if not buckets:
            # The first rule must name a node. Packets are dropped until that is released.
            guarded = Rules(rules.name, {FILTER: (_closed(), *rules.own[FILTER])}, rules.first)
            steps += _restore(netns, guarded, lines)
            steps += _change(cluster, netns, "-", owned)
            lines, owned = iptables_rules.printed(guarded), frozenset()
    steps += _restore(netns, rules, lines)
    return steps + _change(cluster, netns, "+", buckets - owned), _change(cluster, netns, "-", owned - buckets)


def _restore(netns: str, rules: Rules, lines: t.Sequence[str]) -> list[Step]:
    return iptables.restore(netns, IPTABLES_LEGACY, iptables_rules.plan(rules, lines))


def _rules(cluster: Cluster, interface: str, buckets: t.AbstractSet[int]) -> Rules:
    to = f"{iptables.to_address(cluster)} -i {interface}"
    options = " ".join(f"{name} {value}" for name, value in _options(cluster).items())
    start = f"--local-node {min(buckets, default=1)}"
    hashed = [
        Rule(f"{to} {match}", f"hash, {purpose}", f"CLUSTERIP --new {options}", start)
        for match, purpose in iptables.services(cluster)
    ]
    return Rules(cluster.table, {FILTER: (*hashed, *iptables.accepted(cluster))}, {INPUT: (iptables.jump(cluster),)})


def _closed() -> Rule:
    return Rule("", "closed", "DROP")


def _options(cluster: Cluster) -> dict[str, str | None]:
    """The kernel's configuration for the address, as options of the target."""
    return {
        "--hashmode": cluster.hashmode,
        "--clustermac": cluster.clustermac.upper(),
        "--total-nodes": str(cluster.total_nodes),
        "--hash-init": str(cluster.hash_init),
    }


def _options_in(line: str) -> dict[str, str | None]:
    names = ("--hashmode", "--clustermac", "--total-nodes", "--hash-init")
    return {name: iptables_rules.option(line, name) for name in names}


def _hashing(table: str, saved: Saved) -> list[str]:
    """The rules of our chain that have the target."""
    lines = iptables_rules.ours(table, saved.lines.get(IPTABLES_LEGACY, ())).get((FILTER, table), [])
    return [line for line in lines if iptables_rules.option(line, "-j") == "CLUSTERIP"]


def _change(cluster: Cluster, netns: str, sign: str, buckets: t.AbstractSet[int]) -> list[Step]:
    address = cluster.address
    return [step("clusterip_node", netns, address=address, change=f"{sign}{bucket}") for bucket in sorted(buckets)]
