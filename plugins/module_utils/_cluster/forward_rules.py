# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Our chain in the host's iptables, which lets the members' packets pass its chain FORWARD. Pure.

A chain of nftables cannot do that: an accept there does not prevent a drop in another table. A jump at the head of
FORWARD to a chain that accepts does. Where the host has no iptables rules, there is nothing to add.
"""

from __future__ import annotations

import typing as t

from .._kernel import iptables_rules
from .._kernel.iptables_rules import Rule, Rules
from .._kernel.steps import Step
from .cluster import Cluster
from .engines import iptables
from .engines.engine import IPTABLES_TOOLS, IptablesState
from .uplinks.registry import uplink_of

CHAIN, FORWARD = "filter", ("filter", "FORWARD")


def looked_at(cluster: Cluster, present: bool) -> bool:
    """Whether the host's iptables rules are to be observed; C(firewall) None leaves them alone, as unknown."""
    return _applies(cluster) and (cluster.firewall is not None or not present)


def plan(cluster: Cluster, present: bool, state: IptablesState) -> list[Step]:
    """The steps for each kind of iptables that the host uses."""
    if not looked_at(cluster, present):
        return []
    steps: list[Step] = []
    for tool in IPTABLES_TOOLS:
        lines = state.of("").lines.get(tool, ())
        wanted = present and bool(cluster.firewall) and _has_forward(lines)
        rules = _rules(cluster) if wanted else Rules(cluster.table)
        steps += iptables.restore("", tool, iptables_rules.plan(rules, lines))
    return steps


def _applies(cluster: Cluster) -> bool:
    return cluster.version == 4 and uplink_of(cluster).internal_network


def _has_forward(lines: t.Sequence[str]) -> bool:
    table = ""
    for line in lines:
        table = line[1:] if line.startswith("*") else table
        if table == CHAIN and line.startswith(":FORWARD "):
            return True
    return False


def _rules(cluster: Cluster) -> Rules:
    bridge = cluster.bridge
    own = (
        Rule(f"-i {bridge}", "from members", "ACCEPT"),
        Rule(f"-d {cluster.host_address} -o {bridge}", "to the service address", "ACCEPT"),
        Rule(f"-o {bridge} -m conntrack --ctstate RELATED,ESTABLISHED", "answers to members", "ACCEPT"),
    )
    return Rules(cluster.table, {CHAIN: own}, {FORWARD: (Rule("", "members of the cluster", cluster.table),)})
