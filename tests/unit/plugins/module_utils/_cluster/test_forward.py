# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import ipaddress
from dataclasses import replace

import pytest

from ansible_collections.clustered.openvpn.plugins.module_utils._cluster import forward_policy, forward_rules
from ansible_collections.clustered.openvpn.plugins.module_utils._cluster.engines.engine import IptablesState
from ansible_collections.clustered.openvpn.plugins.module_utils._cluster.parameters import cluster_from
from ansible_collections.clustered.openvpn.plugins.module_utils._kernel.observed import Saved
from ansible_collections.clustered.openvpn.plugins.module_utils._state import files
from ansible_collections.clustered.openvpn.plugins.module_utils._state.schema import plain
from ansible_collections.clustered.openvpn.tests.unit.plugins.module_utils.layouts import BRIDGED, SIX, layout

POOLS = [ipaddress.ip_network("10.8.0.0/16"), ipaddress.ip_network("fd12:3456:789a::/56")]
ACCEPT, DROP, COUNTER = {"accept": None}, {"drop": None}, {"counter": {"packets": 0, "bytes": 0}}


def name_is(name, key="iifname"):
    return {"match": {"op": "==", "left": {"meta": {"key": key}}, "right": name}}


def table(*rules, policy="drop", family="inet", name="filter", chain="forward"):
    """As nft -j lists it; rules are lists of expressions, or pairs of a chain and these."""
    found = [rule if isinstance(rule, tuple) else (chain, rule) for rule in rules]
    return [
        {"table": {"family": family, "name": name}},
        {"chain": {"family": family, "table": name, "name": chain, "hook": "forward", "policy": policy}},
        *({"rule": {"family": family, "table": name, "chain": at, "expr": expr}} for at, expr in found),
    ]


def warnings(*tables, legacy=(), **changes):
    now = files.state_of(layout(**changes))
    return forward_policy.warnings(now, POOLS, tables, {4: legacy} if legacy else {})


def test_a_policy_of_drop_is_a_warning_with_the_rules_to_add():
    (warning,) = warnings(table(family="ip"))
    assert warning.startswith("netns_cluster_name: 'vpn': the chain forward of the host's nftables table ip filter has")
    assert warning.rpartition("): ")[2].split("; ") == [
        'nft insert rule ip filter forward oifname "br-vpn" ip daddr 10.8.0.0/16 ct state related,established accept',
        'nft insert rule ip filter forward iifname "br-vpn" ip saddr 10.8.0.0/16 accept',
        'nft insert rule ip filter forward iifname "br-vpn" ip saddr 192.0.2.10 accept',
    ]
    (warning,) = warnings(table(), **SIX)
    assert 'iifname "br-vpn" ip6 saddr 2001:db8::10 accept' in warning
    (warning,) = warnings(table(family="ip", chain="FORWARD"))
    assert "iptables -I FORWARD -i br-vpn -s 192.0.2.10 -j ACCEPT" in warning


@pytest.mark.parametrize(
    "blocked",
    [
        table([COUNTER, DROP], policy="accept"),
        table([ACCEPT | {}], [{"reject": {"type": "icmpx", "expr": "admin-prohibited"}}], policy="accept"),
        table([COUNTER, {"xt": {"type": "target", "name": "REJECT"}}], policy="accept", family="ip", chain="FORWARD"),
        table([name_is("docker0"), ACCEPT]),
        table([name_is("br-vpn"), DROP]),
        table([name_is("br-other*"), ACCEPT]),
        table(("clustered_openvpn_vpn", [name_is("br-vpn"), ACCEPT]), [{"jump": {"target": "clustered_openvpn_vpn"}}]),
    ],
)
def test_these_discard(blocked):
    assert len(warnings(blocked)) == 1
    assert warnings(blocked, **BRIDGED) == []


@pytest.mark.parametrize(
    "passing",
    [
        table(policy="accept"),
        table([name_is("eth0"), DROP], policy="accept"),
        table([name_is("br-vpn"), ACCEPT]),
        table([name_is("br-*"), {"jump": {"target": "vpn"}}]),
        table([name_is({"set": ["eth1", "br-vpn"]}), ACCEPT]),
        [*table([name_is("@inside"), ACCEPT]), {"set": {"name": "inside", "elem": ["br-vpn"]}}],
        table([{"match": {"left": {"payload": {}}, "right": "192.0.2.10", "op": "=="}}, ACCEPT]),
    ],
)
def test_these_do_not(passing):
    assert warnings(passing) == []


@pytest.mark.parametrize(
    ("lines", "count"),
    [
        ([":FORWARD DROP [0:0]"], 1),
        ([":FORWARD ACCEPT [0:0]"], 0),
        ([":FORWARD ACCEPT [0:0]", "-A FORWARD -j REJECT --reject-with icmp-port-unreachable"], 1),
        ([":FORWARD DROP [0:0]", "-A FORWARD -i br+ -j ACCEPT"], 0),
        ([":FORWARD DROP [0:0]", "-A FORWARD -s 192.0.2.10/32 -j ACCEPT"], 0),
        ([":FORWARD DROP [0:0]", "-A FORWARD -i br-vpn -j DROP"], 1),
        ([":FORWARD DROP [0:0]", "-A clustered_openvpn_vpn -i br-vpn -j ACCEPT"], 1),
    ],
)
def test_legacy_iptables(lines, count):
    assert len(warnings(legacy=["*filter", *lines])) == count


def test_the_opt_in_is_named_where_it_helps_and_denied_where_it_does_not():
    docker = table(family="ip", chain="FORWARD")
    assert "Set netns_cluster_firewall: true, or: Add these rules" in warnings(docker)[0]
    assert warnings(docker, firewall=True) == []
    assert "netns_cluster_firewall cannot do it, since this drop is final" in warnings(table(), firewall=True)[0]
    assert "cannot" in warnings(table(family="ip6", chain="FORWARD"), firewall=True, **SIX)[0]


# --- our chain --------------------------------------------------------------------------------------------------------

NOTHING = ["*filter", ":INPUT ACCEPT [0:0]", ":FORWARD DROP [0:0]", "COMMIT"]


def steps(lines, firewall, present=True, **changes):
    state = files.state_of(layout(**changes))
    params = {**plain(state.cluster, complete=True), "name": "vpn", "nodes": plain(state.nodes, complete=True)}
    params.update(claims="exact", state="present", hash_as=params["hash_as"] or None)
    cluster = replace(cluster_from(params), firewall=firewall)
    found = forward_rules.plan(cluster, present, IptablesState({"": Saved({"iptables-nft": lines})}))
    return [line for step in found for line in step.args["lines"]]


def after(lines):
    """iptables-save after the lines of iptables-restore: those of a first run."""
    chain = [line for line in lines if line.startswith("-A ")]
    jump = [line.replace("-I FORWARD 1 ", "-A FORWARD ") for line in lines if line.startswith("-I ")]
    return [*NOTHING[:-1], ":clustered_openvpn_vpn - [0:0]", *jump, *chain, "COMMIT"]


def test_the_chain_is_added_once_and_removed_again():
    lines = steps(NOTHING, True)
    assert [line.partition(" -m comment")[0] for line in lines] == [
        "*filter",
        ":clustered_openvpn_vpn - [0:0]",
        "-A clustered_openvpn_vpn -i br-vpn",
        "-A clustered_openvpn_vpn -d 192.0.2.10/32 -o br-vpn",
        "-A clustered_openvpn_vpn -o br-vpn -m conntrack --ctstate RELATED,ESTABLISHED",
        "-I FORWARD 1",
        "COMMIT",
    ]
    there = after(lines)
    assert steps(there, True) == []
    assert steps(there, None) == []
    for removal in (steps(there, False), steps(there, True, present=False), steps(there, None, present=False)):
        assert [line.partition(" -m comment")[0] for line in removal] == [
            "*filter",
            "-D FORWARD",
            "-F clustered_openvpn_vpn",
            "-X clustered_openvpn_vpn",
            "COMMIT",
        ]


@pytest.mark.parametrize("lines", [[], ["*mangle", ":FORWARD ACCEPT [0:0]", "COMMIT"]])
def test_a_host_without_such_rules_gets_none(lines):
    assert steps(lines, True) == []


def test_only_clusters_on_an_internal_bridge_have_it():
    assert steps(NOTHING, True, **BRIDGED) == []
