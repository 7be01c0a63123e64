# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The engine xt_cluster: C(iptables -m cluster). Pure.

Each bucket has a rule, since iptables refuses node masks above 32, though it prints them.

The match hashes the source of a connection as connection tracking has it. If the server speaks first, for example to a
client whose entry has expired, that source is the server. So packets that would open a connection from the service
address are dropped, and the client's next packet creates the right entry.
"""

from __future__ import annotations

import re
import typing as t

from ... import _params as p
from ..._kernel import iptables_rules
from ..._kernel.iptables_rules import Rule, Rules
from ..._kernel.observed import Saved
from ..._kernel.ruleset import Listing
from ..cluster import Cluster, Member
from . import iptables
from .engine import IPTABLES_LEGACY, IPTABLES_NFT, Engine, Hashed, IptablesState, Plan
from .iptables import FILTER, INPUT

MAX_BUCKETS = 32  # XT_CLUSTER_NODES_MAX
MANGLE = "mangle"  # its INPUT comes before that of the filter, where rules of others may accept
_BUCKET = re.compile(r"bucket (\d+) #")  # in our own comments


class XtCluster(Engine):
    """C(iptables -m cluster), by iptables-nft where the kernel has nftables."""

    name = hash_as = "xt_cluster"

    def limit(self, cluster: Cluster) -> p.ParameterError | None:
        if cluster.hashmode != "sourceip":
            remedy = f"{self.name} hashes addresses only; use sourceip"
            return p.ParameterError("hashmode", cluster.hashmode, remedy)
        return iptables.limit(self.name, cluster, MAX_BUCKETS)

    def tool(self, state: IptablesState) -> str:
        return IPTABLES_NFT if "ip" in (state.families or ()) else IPTABLES_LEGACY

    def hash_in(self, table: str, listing: Listing, saved: Saved) -> Hashed | None:
        for line in _hashing(table, saved):
            total, seed = (iptables_rules.option(line, f"--cluster-{name}") for name in ("total-nodes", "hash-seed"))
            address = (iptables_rules.option(line, "-d") or "").partition("/")[0]
            return {
                "address": address,
                "total_nodes": int(total or 0),
                "hash_init": int(seed or "0", 16),
                "hash_as": self.hash_as,
            }
        return None

    def buckets_in(self, table: str, listing: Listing, saved: Saved) -> set[int]:
        return {int(found[1]) for found in map(_BUCKET.search, _hashing(table, saved)) if found}

    def plan(self, cluster: Cluster, member: Member, buckets: t.AbstractSet[int], state: IptablesState) -> Plan:
        netns, tool, saved = member.netns, self.tool(state), state.of(member.netns)
        before = self.buckets_in(cluster.table, None, saved)
        # The rule of a bucket that stays is present all the time.
        both, after = (_rules(cluster, member.interface, some) for some in (buckets | before, buckets))
        accepts = iptables_rules.plan(both, saved.lines.get(tool, ()))
        releases = iptables_rules.plan(after, iptables_rules.printed(both))
        return iptables.restore(netns, tool, accepts), iptables.restore(netns, tool, releases)


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


def _hashing(table: str, saved: Saved) -> list[str]:
    """The rules of our chain in the mangle table."""
    all_lines = saved.lines.values()
    return [line for lines in all_lines for line in iptables_rules.ours(table, lines).get((MANGLE, table), [])]
