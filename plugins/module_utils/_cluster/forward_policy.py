# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Firewalls of the host that discard what members forward: the warning, with the rules to add. Pure.

An accept in one nftables table does not end the search for a drop in the others, so the rules must go into the table
that drops. Rules that accept packets of the bridge by its name, or of the service address, are taken for an answer.
"""

from __future__ import annotations

import ipaddress
import re
import typing as t
from dataclasses import dataclass

from .._kernel.forward_chains import NftTable
from .._state.cluster import ClusterState
from .cluster import TABLE_PREFIX
from .request import Network
from .uplinks.registry import UPLINKS

ENDS = ("drop", "reject")
HARMLESS = ("counter", "log", "comment", "limit")
OPT_IN = ("iptables", "iptables-legacy")  # where netns_cluster_firewall adds rules
DOCUMENT = "docs/firewall.md"


@dataclass(frozen=True)
class Blocking:
    """A chain that discards packets. C(versions): the IP versions that pass it. C(tool): nft, iptables, ip6tables."""

    tool: str
    versions: tuple[int, ...]
    table: str
    chain: str
    why: str

    def rules(self, bridge: str, addresses: t.Sequence[Network], pools: t.Sequence[Network]) -> list[str]:
        """Commands that put rules before all others of the chain."""
        found = []
        for net in [one for one in pools if one.version in self.versions]:
            found += [self._rule(net, "oif", bridge, "dst", ("RELATED", "ESTABLISHED"))]
        for net in [one for one in (*pools, *addresses) if one.version in self.versions]:
            found += [self._rule(net, "iif", bridge, "src", ())]
        return found

    def _rule(self, net: Network, way: str, bridge: str, end: str, states: tuple[str, ...]) -> str:
        what = str(net.network_address) if net.prefixlen == net.max_prefixlen else str(net)
        if self.tool == "nft":
            family = "ip" if net.version == 4 else "ip6"
            match = f'{way}name "{bridge}" {family} {end[0]}addr {what}'
            state = f" ct state {','.join(states).lower()}" if states else ""
            return f"nft insert rule {self.table} {self.chain} {match}{state} accept"
        state = f" -m conntrack --ctstate {','.join(states)}" if states else ""
        return f"{self.tool} -I {self.chain} -{way[0]} {bridge} -{end[0]} {what}{state} -j ACCEPT"


def warnings(
    now: ClusterState,
    pools: t.Sequence[Network],
    tables: t.Sequence[NftTable],
    legacy: t.Mapping[int, t.Sequence[str]],
) -> list[str]:
    """A sentence for each chain that discards packets of the members."""
    if not UPLINKS[now.cluster.uplink].internal_network:  # the host forwards nothing between clients and members
        return []
    addresses = [ipaddress.ip_network(one.address) for one in now.addresses]
    bridge, added = now.cluster.bridge, now.cluster.firewall
    return [
        f"netns_cluster_name: {now.name!r}: the chain {one.chain} of the host's {_place(one)} {one.why} and has no rule"
        f" that accepts packets of {bridge}: members cannot answer clients. {_remedy(one, added)}: {'; '.join(rules)}"
        for one in blocking(bridge, [str(net.network_address) for net in addresses], tables, legacy)
        for rules in (one.rules(bridge, addresses, pools),)
        if rules and not (added and one.tool in OPT_IN)
    ]


def _remedy(one: Blocking, added: bool) -> str:
    add = f"Add these rules, and make them permanent ({DOCUMENT})"
    if one.tool in OPT_IN:
        return f"Set netns_cluster_firewall: true, or: {add}"
    return f"netns_cluster_firewall cannot do it, since this drop is final. {add}" if added else add


def _place(one: Blocking) -> str:
    return f"nftables table {one.table}" if one.tool == "nft" else f"{one.tool} table {one.table}"


def blocking(
    bridge: str, addresses: t.Sequence[str], tables: t.Sequence[NftTable], legacy: t.Mapping[int, t.Sequence[str]]
) -> list[Blocking]:
    """The chains that discard packets which no rule accepts."""
    return [
        *(one for table in tables for one in _in_nft(bridge, addresses, table)),
        *(one for version, lines in legacy.items() for one in _in_legacy(bridge, addresses, version, lines)),
    ]


def _in_nft(bridge: str, addresses: t.Sequence[str], table: NftTable) -> t.Iterator[Blocking]:
    rules = [one["rule"] for one in table if "rule" in one]
    others = [one for one in table if "set" in one or "map" in one]
    # Our own chain comes and goes with netns_cluster_firewall.
    theirs = [rule for rule in rules if not rule["chain"].startswith(TABLE_PREFIX)]
    accepting = [rule for rule in theirs if any(_accepts(expr) for expr in rule.get("expr", ()))]
    if any(_names(bridge, addresses, value) for value in (*accepting, *others)):
        return
    for chain in (one["chain"] for one in table if "chain" in one):
        if chain.get("hook") != "forward":
            continue
        own = [rule for rule in rules if rule["chain"] == chain["name"]]
        why = _why(chain.get("policy") == "drop", bool(own) and _discards_all(own[-1].get("expr", ())))
        if not why:
            continue
        family, name = chain["family"], chain["table"]
        by_iptables = family in ("ip", "ip6") and (name, chain["name"]) == ("filter", "FORWARD")
        tool = {"ip": "iptables", "ip6": "ip6tables"}[family] if by_iptables else "nft"
        versions = {"ip": (4,), "ip6": (6,)}.get(family, (4, 6))
        yield Blocking(tool, versions, name if by_iptables else f"{family} {name}", chain["name"], why)


def _in_legacy(bridge: str, addresses: t.Sequence[str], version: int, lines: t.Sequence[str]) -> t.Iterator[Blocking]:
    rules = [line for line in lines if line.startswith("-A ")]
    for line in (one for one in rules if not one.startswith(f"-A {TABLE_PREFIX}")):
        interfaces = re.findall(r" -[io] (\S+)", line)
        named = any(_matches(bridge, one.replace("+", "*")) for one in interfaces)
        named = named or any(f" {address}/" in line for address in addresses)
        if named and not re.search(r" -j (DROP|REJECT|LOG)\b", line):
            return
    own = [line for line in rules if line.startswith("-A FORWARD ")]
    last = bool(own) and bool(re.match(r"-A FORWARD -j (DROP|REJECT)\b", own[-1]))
    why = _why(any(line.startswith(":FORWARD DROP") for line in lines), last)
    if why:
        yield Blocking("iptables-legacy" if version == 4 else "ip6tables-legacy", (version,), "filter", "FORWARD", why)


def _why(policy: bool, last: bool) -> str:
    return "has the policy drop" if policy else "ends with a rule that discards everything" if last else ""


def _accepts(expr: t.Any) -> bool:
    return isinstance(expr, dict) and bool({"accept", "jump", "goto", "vmap"} & set(expr))


def _discards_all(exprs: t.Sequence[t.Mapping[str, t.Any]]) -> bool:
    kinds = [next(iter(expr), "") for expr in exprs]
    # iptables-nft has REJECT as an extension of its own.
    xt = [expr["xt"].get("name") for expr in exprs if isinstance(expr.get("xt"), dict)]
    ends = any(kind in ENDS for kind in kinds) or "REJECT" in xt
    return ends and all(kind in (*ENDS, *HARMLESS, "xt") for kind in kinds) and set(xt) <= {"REJECT", "LOG", "comment"}


def _names(bridge: str, addresses: t.Sequence[str], value: t.Any) -> bool:
    """Whether JSON contains the name of the bridge, a pattern for it, or a service address."""
    if isinstance(value, dict):
        return any(_names(bridge, addresses, one) for one in value.values())
    if isinstance(value, list):
        return any(_names(bridge, addresses, one) for one in value)
    return isinstance(value, str) and (value in addresses or _matches(bridge, value))


def _matches(bridge: str, pattern: str) -> bool:
    return pattern == bridge or (len(pattern) > 1 and pattern.endswith("*") and bridge.startswith(pattern[:-1]))
