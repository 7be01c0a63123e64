# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The engine xt_cluster: C(iptables -m cluster). A node's buckets -> steps. Pure.

Each bucket has a rule: iptables takes no node mask above 32, and prints those that it would not take.

The match hashes the source of a connection tracking knows it. When the server speaks first, as it does to
a client whose entry has expired, that is the server. So what would begin a connection from the service address is
dropped, and no such entry is made: the client's next packet makes the right one.
"""

from __future__ import annotations

import re
import typing as t

from ... import _params as p
from ..._kernel import iptables_rules
from ..._kernel.iptables_rules import Rule, Rules
from ..._kernel.observed import Saved
from ..._kernel.steps import Step
from ..cluster import Cluster
from . import iptables
from .iptables import FILTER, INPUT

NAME = "xt_cluster"
MAX_NODES = 32  # XT_CLUSTER_NODES_MAX
MANGLE = "mangle"  # its INPUT comes before that of the filter, in which others may accept


def limit(cluster: Cluster) -> p.ParameterError | None:
    """Why it cannot do what the cluster wants, if so."""
    if cluster.hashmode != "sourceip":
        return p.ParameterError("hashmode", cluster.hashmode, f"{NAME} hashes addresses only: use sourceip")
    return iptables.limit(NAME, cluster, MAX_NODES)


def held(name: str, have: Saved) -> frozenset[int]:
    """The buckets that the node owns, which has a chain of that name."""
    return frozenset(int(found[1]) for found in map(_BUCKET.search, _lines(name, have)) if found)


def plan(
    cluster: Cluster, netns: str, interface: str, tool: str, buckets: t.AbstractSet[int], have: Saved
) -> tuple[list[Step], list[Step]]:
    """Steps to own these buckets, and those that let others go. A kept bucket has its rule all the time."""
    before = held(cluster.table, have)
    first, last = (_rules(cluster, interface, some) for some in (buckets | before, buckets))
    lines = have.lines.get(tool, ())
    steps = iptables.restore(netns, tool, iptables_rules.plan(first, lines))
    return steps, iptables.restore(netns, tool, iptables_rules.plan(last, iptables_rules.printed(first)))


def hash_in(name: str, have: Saved) -> dict[str, t.Any] | None:
    """What the kernel hashes with, by the rules of the chain of that name; None without any bucket."""
    for line in _lines(name, have):
        total, seed = (
            iptables_rules.option(line, "--cluster-total-nodes"),
            iptables_rules.option(line, "--cluster-hash-seed"),
        )
        address = (iptables_rules.option(line, "-d") or "").partition("/")[0]
        return {"address": address, "total_nodes": int(total or 0), "hash_init": int(seed or "0", 16), "hash_as": NAME}
    return None


_BUCKET = re.compile(r"bucket (\d+) #")  # of our own comments


def _rules(cluster: Cluster, interface: str, buckets: t.AbstractSet[int]) -> Rules:
    to = iptables.to_address(cluster)
    match = f"-m cluster --cluster-total-nodes {cluster.total_nodes} --cluster-hash-seed {cluster.hash_init:#x}"
    claim = [
        Rule(f"{to} {match} --cluster-local-node {bucket}", f"bucket {bucket}", "RETURN") for bucket in sorted(buckets)
    ]
    clients = Rule(f"{to} -i {interface}", "the service address", cluster.table)
    begun = Rule(
        f"-s {cluster.host_address} -m conntrack --ctstate NEW", "clients speak first: see docs/engines.md", "DROP"
    )
    own = {MANGLE: (*claim, Rule("", "a bucket of somebody else", "DROP")), FILTER: tuple(iptables.accepted(cluster))}
    first = {(MANGLE, "INPUT"): (clients,), INPUT: (iptables.jump(cluster),), (FILTER, "OUTPUT"): (begun,)}
    return Rules(cluster.table, own, first)


def _lines(name: str, have: Saved) -> list[str]:
    return [line for lines in have.lines.values() for line in iptables_rules.ours(name, lines).get((MANGLE, name), [])]
