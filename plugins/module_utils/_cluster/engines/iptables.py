# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Rules and checks that the engines of iptables share. Pure."""

from __future__ import annotations

from ... import _params as p
from ..._kernel import iptables_rules
from ..._kernel.iptables_rules import Rule, Rules
from ..._kernel.observed import Saved
from ..._kernel.steps import Step, step
from .. import hashing
from ..cluster import Cluster
from ..uplinks.registry import uplink_of

FILTER, INPUT = "filter", ("filter", "INPUT")


def limit(engine: str, cluster: Cluster, max_buckets: int) -> p.ParameterError | None:
    """The reason why such an engine cannot serve the cluster on any kernel."""
    if cluster.version == 6:
        return p.ParameterError("engine", engine, f"supports IPv4 only, not {cluster.address}; use nftables")
    if cluster.total_nodes > max_buckets:
        remedy = f"{engine} supports {max_buckets} at most; use fewer, or engine=nftables"
        return p.ParameterError("total_nodes", cluster.total_nodes, remedy)
    if not uplink_of(cluster).host_is_member and cluster.distribution == "steer":
        remedy = f"with {engine} each member decides by itself; use distribution=flood, or engine=nftables"
        return p.ParameterError("distribution", cluster.distribution, remedy)
    if hashing.canonical(cluster.hash_as) != hashing.canonical(engine):
        remedy = f"{engine} computes its own hash only; use hash_as={engine}, or engine=nftables"
        return p.ParameterError("hash_as", cluster.hash_as, remedy)
    return None


def to_address(cluster: Cluster) -> str:
    """The first words of a rule about packets to the service address."""
    return f"-d {cluster.host_address}"


def services(cluster: Cluster) -> list[tuple[str, str]]:
    """The services, and ping: each as a match and its description."""
    found = [
        (f"-p {s.protocol} -m {s.protocol} --dport {s.port}", f"{s.protocol} to {s.port}")
        for s in sorted(cluster.services, key=lambda s: (s.protocol, s.port))
    ]
    return [*found, ("-p icmp -m icmp --icmp-type 8", "ping")]


def accepted(cluster: Cluster) -> list[Rule]:
    """The end of the filter's chain: services, errors about their flows and ping pass; the rest is dropped."""
    rules = [Rule(match, f"go on, {purpose}", "RETURN") for match, purpose in services(cluster)]
    related = Rule("-p icmp -m conntrack --ctstate RELATED", "errors about flows of the services", "RETURN")
    return [*rules, related, Rule("", "nobody answers for anything else", "DROP")]


def jump(cluster: Cluster) -> Rule:
    """The jump to our chain."""
    return Rule(to_address(cluster), "the service address", cluster.table)


def restore(netns: str, tool: str, lines: list[str]) -> list[Step]:
    """One run of iptables-restore, if there is any line."""
    return [step("iptables", netns, tool=tool, lines=lines)] if lines else []


def plan_none(cluster: Cluster, netns: str, tool: str, saved: Saved) -> list[Step]:
    """Steps that remove all rules of the cluster, of any engine, from this kind of iptables."""
    return restore(netns, tool, iptables_rules.plan(Rules(cluster.table), saved.lines.get(tool, ())))
