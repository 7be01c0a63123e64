# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The engine clusterip: the kernel's own CLUSTERIP target, until Linux 6.2. A node's buckets -> steps. Pure.

The kernel keeps one configuration for an address, which the first rule makes and the last one takes along: MAC address,
hash, and nodes. Later rules must name the same MAC address; all else that they say of it is not even looked at. Nodes
are changed by a file in /proc. The kernel joins the MAC address and says it in ARP by itself.
"""

from __future__ import annotations

import typing as t

from ... import _params as p
from ..._kernel import iptables_rules
from ..._kernel.iptables_rules import Rule, Rules
from ..._kernel.observed import Saved
from ..._kernel.steps import Step, step
from ..cluster import Cluster
from . import iptables
from .iptables import FILTER, INPUT

NAME, TOOL = "clusterip", "iptables-legacy"
MAX_NODES = 16  # CLUSTERIP_MAX_NODES


def limit(cluster: Cluster) -> p.ParameterError | None:
    """Why it cannot do what the cluster wants, if so."""
    return iptables.limit(NAME, cluster, MAX_NODES)


def held(name: str, have: Saved) -> frozenset[int]:
    """The buckets that the node owns, which has a chain of that name."""
    return (have.nodes or frozenset()) if _lines(name, have.lines.get(TOOL, ())) else frozenset()


def plan(
    cluster: Cluster, netns: str, interface: str, buckets: t.AbstractSet[int], have: Saved
) -> tuple[list[Step], list[Step]]:
    """Steps to own these buckets, and those that let others go."""
    lines = have.lines.get(TOOL, ())
    steps: list[Step] = []
    nodes = have.nodes
    if _lines(cluster.table, lines) and _hash_in(cluster, lines) != _hash(cluster):
        # What the kernel keeps changes with its last rule only.
        closed = Rules(cluster.table, {FILTER: (_closed(),)}, {INPUT: (iptables.jump(cluster),)})
        steps += iptables.restore(netns, TOOL, iptables_rules.plan(closed, lines))
        lines, nodes = iptables_rules.printed(closed), None
    wanted = _rules(cluster, interface, buckets)
    if nodes is None:
        nodes = frozenset({min(buckets, default=1)})
        if not buckets:  # the first rule cannot but take a node; nobody gets there until it is given back
            guarded = Rules(wanted.name, {FILTER: (_closed(), *wanted.own[FILTER])}, wanted.first)
            steps += iptables.restore(netns, TOOL, iptables_rules.plan(guarded, lines))
            steps += _change(cluster, netns, "-", nodes)
            lines, nodes = iptables_rules.printed(guarded), frozenset()
    steps += iptables.restore(netns, TOOL, iptables_rules.plan(wanted, lines))
    return steps + _change(cluster, netns, "+", buckets - nodes), _change(cluster, netns, "-", nodes - buckets)


def hash_in(name: str, have: Saved) -> dict[str, t.Any] | None:
    """What the kernel hashes with, by the rules of the chain of that name."""
    for line in _lines(name, have.lines.get(TOOL, ())):
        total, seed = iptables_rules.option(line, "--total-nodes"), iptables_rules.option(line, "--hash-init")
        address = (iptables_rules.option(line, "-d") or "").partition("/")[0]
        return {"address": address, "total_nodes": int(total or 0), "hash_init": int(seed or 0), "hash_as": NAME}
    return None


def _rules(cluster: Cluster, interface: str, buckets: t.AbstractSet[int]) -> Rules:
    to = f"{iptables.to_address(cluster)} -i {interface}"
    options = " ".join(f"{name} {value}" for name, value in _hash(cluster).items())
    start = f"--local-node {min(buckets, default=1)}"
    hashed = [
        Rule(f"{to} {match}", f"hash, {purpose}", f"CLUSTERIP --new {options}", start)
        for match, purpose in iptables.services(cluster)
    ]
    return Rules(cluster.table, {FILTER: (*hashed, *iptables.accepted(cluster))}, {INPUT: (iptables.jump(cluster),)})


def _closed() -> Rule:
    return Rule("", "closed", "DROP")


def _hash(cluster: Cluster) -> dict[str, str]:
    """What the kernel keeps, in words of iptables."""
    return {
        "--hashmode": cluster.hashmode,
        "--clustermac": cluster.clustermac.upper(),
        "--total-nodes": str(cluster.total_nodes),
        "--hash-init": str(cluster.hash_init),
    }


def _hash_in(cluster: Cluster, lines: t.Sequence[str]) -> dict[str, str | None]:
    line = _lines(cluster.table, lines)[0]
    return {name: iptables_rules.option(line, name) for name in _hash(cluster)}


def _lines(name: str, lines: t.Sequence[str]) -> list[str]:
    found = iptables_rules.ours(name, lines).get((FILTER, name), [])
    return [line for line in found if iptables_rules.option(line, "-j") == "CLUSTERIP"]


def _change(cluster: Cluster, netns: str, sign: str, nodes: t.AbstractSet[int]) -> list[Step]:
    address = cluster.address
    return [step("clusterip_node", netns, address=address, change=f"{sign}{node}") for node in sorted(nodes)]
