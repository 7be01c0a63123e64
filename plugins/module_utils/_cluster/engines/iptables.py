# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the engines that are made of iptables rules share. Pure."""

from __future__ import annotations

from ... import _params as p
from ..._kernel import iptables_rules
from ..._kernel.iptables_rules import Rule, Rules
from ..._kernel.observed import Saved
from ..._kernel.steps import Step, step
from .. import hashing
from ..cluster import Cluster

FILTER, INPUT = "filter", ("filter", "INPUT")


def limit(engine: str, cluster: Cluster, most: int) -> p.ParameterError | None:
    """Why an engine cannot do what the cluster wants, if so."""
    if cluster.version == 6:
        return p.ParameterError("engine", engine, f"knows IPv4 only, not {cluster.address}: use nftables")
    if cluster.total_nodes > most:
        return p.ParameterError("total_nodes", cluster.total_nodes, f"{engine} knows {most} at most: use nftables")
    if cluster.uplink != "local" and cluster.distribution == "steer":
        return p.ParameterError(
            "distribution", "steer", f"with {engine} each node decides by itself: use flood, or engine=nftables"
        )
    if hashing.kind(cluster.hash_as) != hashing.kind(engine):
        return p.ParameterError("hash_as", cluster.hash_as, f"{engine} hashes as itself only: use engine=nftables")
    return None


def to_address(cluster: Cluster) -> str:
    """The first words of a rule about packets for the service address."""
    return f"-d {cluster.host_address}"


def services(cluster: Cluster) -> list[tuple[str, str]]:
    """What is served, each as a match and words, and ping."""
    found = [
        (f"-p {s.protocol} -m {s.protocol} --dport {s.port}", f"{s.protocol} to {s.port}")
        for s in sorted(cluster.services, key=lambda s: (s.protocol, s.port))
    ]
    return [*found, ("-p icmp -m icmp --icmp-type 8", "ping")]


def accepted(cluster: Cluster) -> list[Rule]:
    """The end of the filter's chain: services, errors about their flows and ping go on, nothing else does."""
    rules = [Rule(match, f"go on, {purpose}", "RETURN") for match, purpose in services(cluster)]
    related = Rule("-p icmp -m conntrack --ctstate RELATED", "errors about flows of the services", "RETURN")
    return [*rules, related, Rule("", "nobody answers for anything else", "DROP")]


def jump(cluster: Cluster) -> Rule:
    """To our chain."""
    return Rule(to_address(cluster), "the service address", cluster.table)


def restore(netns: str, tool: str, lines: list[str]) -> list[Step]:
    """One run of iptables-restore."""
    return [step("iptables", netns, tool=tool, lines=lines)] if lines else []


def plan_none(cluster: Cluster, netns: str, tool: str, have: Saved) -> list[Step]:
    """Steps that remove all that the cluster has in such an iptables, whichever engine made it."""
    return restore(netns, tool, iptables_rules.plan(Rules(cluster.table), have.lines.get(tool, ())))
