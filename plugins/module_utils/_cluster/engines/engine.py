# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The interface of an engine, which evaluates the hash in the kernel. Pure.

A new engine is one file beside this one, with a class that implements Engine, and one line in C(registry.py).
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, field

from ... import _params as p
from ..._kernel.observed import Host, Saved
from ..._kernel.ruleset import Listing, Table
from ..._kernel.steps import Step
from ..cluster import Cluster, Member, Owners

IPTABLES_LEGACY, IPTABLES_NFT = "iptables-legacy", "iptables-nft"
IPTABLES_TOOLS = (IPTABLES_LEGACY, IPTABLES_NFT)

Hashed = dict[str, t.Any]  # address, total_nodes, hash_init and hash_as, as the rules in the kernel have them
Plan = tuple[list[Step], list[Step]]  # steps to accept new buckets, then steps to release others


@dataclass(frozen=True)
class IptablesState:
    """The iptables rules of the members' namespaces, and the nftables families of the kernel."""

    saved: t.Mapping[str, Saved] = field(default_factory=dict)  # by namespace
    families: frozenset[str] | None = None  # None: the kernel was not probed

    def of(self, netns: str) -> Saved:
        """The rules of one namespace."""
        return self.saved.get(netns, Saved())


class Engine(t.Protocol):
    """How the hash is evaluated. The defaults are those of an engine of iptables rules."""

    name: str  # the value of C(engine)
    hash_as: str  # the hash that it computes, unless C(hash_as) names another
    elements: bool = False  # whether buckets are elements of nftables maps and sets: for steering, and for failover
    probes_kernel: bool = True  # whether to check the kernel first; False if the error of its tool is clear enough

    def limit(self, cluster: Cluster) -> p.ParameterError | None:
        """The reason why this engine cannot serve the cluster on any kernel."""

    def lacking(self, host: Host) -> p.ParameterError | None:
        """The reason why this kernel does not have the engine; nftables families are checked elsewhere."""
        del host
        return None

    def families(self, cluster: Cluster) -> set[str]:
        """The nftables families without which it cannot decide."""
        del cluster
        return set()

    def announces_mac(self, cluster: Cluster) -> bool:
        """Whether the kernel joins C(clustermac) and answers ARP with it by itself, without rules of ours."""
        del cluster
        return False

    def tool(self, state: IptablesState) -> str | None:
        """The iptables that it uses; None for none."""
        del state
        return None

    def hash_in(self, table: str, listing: Listing, saved: Saved) -> Hashed | None:
        """The hash, according to the rules of one namespace; None without such rules.

        listing: the table of the family netdev; saved: iptables' rules.
        """

    def buckets_in(self, table: str, listing: Listing, saved: Saved) -> set[int]:
        """The buckets that the rules of one namespace accept."""

    def member_tables(self, cluster: Cluster, member: Member, owners: Owners) -> list[Table]:
        """The nftables tables of a member's namespace."""
        del cluster, member, owners
        return []

    def plan(self, cluster: Cluster, member: Member, buckets: t.AbstractSet[int], state: IptablesState) -> Plan:
        """The steps besides nftables that make a member own just these buckets."""
        del cluster, member, buckets, state
        return [], []
