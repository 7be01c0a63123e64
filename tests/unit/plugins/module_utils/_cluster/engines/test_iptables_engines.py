# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.clustered.openvpn.plugins.module_utils._cluster.cluster import Member
from ansible_collections.clustered.openvpn.plugins.module_utils._cluster.engines import choice
from ansible_collections.clustered.openvpn.plugins.module_utils._cluster.engines.clusterip import Clusterip
from ansible_collections.clustered.openvpn.plugins.module_utils._cluster.engines.engine import (
    IPTABLES_LEGACY,
    IPTABLES_NFT,
    IptablesState,
)
from ansible_collections.clustered.openvpn.plugins.module_utils._cluster.engines.xt_cluster import XtCluster
from ansible_collections.clustered.openvpn.plugins.module_utils._kernel import iptables_rules
from ansible_collections.clustered.openvpn.plugins.module_utils._kernel.observed import Host, Saved
from ansible_collections.clustered.openvpn.plugins.module_utils._params import ParameterError
from ansible_collections.clustered.openvpn.tests.unit.plugins.module_utils.model import MACS, a_cluster

TABLE = "clustered_openvpn_vpn"
OLD = Host("6.1.0", frozenset(), clusterip=True)
NEW = Host("6.18.0", frozenset({"netdev", "ip"}))


def cluster(engine, **changes):
    return a_cluster(engine=engine, **{"distribution": "flood", "total_nodes": 16, **changes})


def clusterip(cluster, buckets, saved, netns=""):
    """The steps of the engine for a member: to accept buckets, and to release others."""
    return Clusterip().plan(cluster, Member(netns, MACS[1], "eth0", None), buckets, IptablesState({netns: saved}))


def xt_cluster(cluster, buckets, saved):
    """The same, on a kernel that has nftables."""
    state = IptablesState({"": saved}, NEW.families)
    return XtCluster().plan(cluster, Member("", MACS[1], "eth0", None), buckets, state)


def lines_of(steps):
    return [line for step in steps if step.op == "iptables" for line in step.args["lines"]]


def saved(steps, tool, nodes=None):
    """The rules of a namespace after the last iptables step."""
    made = [step.args["lines"] for step in steps if step.op == "iptables"][-1]
    return Saved(
        {tool: [line.replace("-I INPUT 1 ", "-A INPUT ").replace("-I OUTPUT 1 ", "-A OUTPUT ") for line in made]}, nodes
    )


def test_clusterip_takes_the_first_bucket_with_its_rule_and_others_by_proc():
    accepts, releases = clusterip(cluster("clusterip"), {3, 5, 7}, Saved(), "vpn1")
    hashed = [line for line in lines_of(accepts) if "-j CLUSTERIP" in line]
    assert all(line.endswith("--total-nodes 16 --hash-init 4660 --local-node 3") for line in hashed)
    assert [line.split(" -m ")[0].split(" -p ")[1] for line in hashed] == ["udp", "icmp"]
    assert [step.args["change"] for step in accepts if step.op == "clusterip_node"] == ["+5", "+7"]
    assert releases == []
    have = saved(accepts, IPTABLES_LEGACY, frozenset({3, 5, 7}))
    assert clusterip(cluster("clusterip"), {3, 5, 7}, have, "vpn1") == ([], [])
    assert Clusterip().buckets_in(TABLE, None, have) == {3, 5, 7}
    assert Clusterip().hash_in(TABLE, None, have) == {
        "address": "192.0.2.10",
        "total_nodes": 16,
        "hash_init": 0x1234,
        "hash_as": "clusterip",
    }


def test_clusterip_says_nothing_twice_and_accepts_before_it_releases():
    first, _none = clusterip(cluster("clusterip"), {1, 2}, Saved(), "")
    have = saved(first, IPTABLES_LEGACY, frozenset({1, 2}))
    accepts, releases = clusterip(cluster("clusterip"), {2, 3}, have, "")
    assert [step.text for step in accepts] == ["sh -c 'echo +3 >/proc/net/ipt_CLUSTERIP/192.0.2.10'"]
    assert [step.text for step in releases] == ["sh -c 'echo -1 >/proc/net/ipt_CLUSTERIP/192.0.2.10'"]


def test_clusterip_without_a_bucket_is_closed_until_it_has_none():
    accepts, _releases = clusterip(cluster("clusterip"), set(), Saved(), "")
    assert [step.op for step in accepts] == ["iptables", "clusterip_node", "iptables"]
    closed, opened = (lines_of([step]) for step in (accepts[0], accepts[2]))
    assert '"closed #' in closed[2]
    assert not any('"closed #' in line for line in opened)
    jumps = [line.split()[0] for line in closed + opened if " INPUT " in line]
    assert jumps == ["-I", "-D", "-I"]


def test_clusterip_forgets_its_hash_with_its_last_rule_only():
    first, _none = clusterip(cluster("clusterip"), {1}, Saved(), "")
    have = saved(first, IPTABLES_LEGACY, frozenset({1}))
    accepts, _releases = clusterip(cluster("clusterip", hash_init=5), {1}, have, "")
    assert "CLUSTERIP" not in "\n".join(lines_of(accepts[:1]))
    assert "--hash-init 5" in "\n".join(lines_of(accepts[1:]))


def test_xt_cluster_has_a_rule_for_each_bucket_and_keeps_those_that_stay():
    wanted = cluster("xt_cluster")
    accepts, releases = xt_cluster(wanted, {1, 2}, Saved())
    assert releases == []
    have = Saved({IPTABLES_NFT: _printed(accepts)})
    assert XtCluster().buckets_in(TABLE, None, have) == {1, 2}
    assert xt_cluster(wanted, {1, 2}, have) == ([], [])
    accepts, releases = xt_cluster(wanted, {2, 3}, have)
    assert [_buckets(steps) for steps in (accepts, releases)] == [["1", "2", "3"], ["2", "3"]]
    assert len(accepts) == len(releases) == 1


def _printed(steps):
    """The output of iptables-save after these lines."""
    return [line.replace("-I INPUT 1 ", "-A INPUT ").replace("-I OUTPUT 1 ", "-A OUTPUT ") for line in lines_of(steps)]


def _buckets(steps):
    return [found for line in lines_of(steps) if (found := iptables_rules.option(line, "--cluster-local-node"))]


@pytest.mark.parametrize(
    ("wanted", "host", "engine", "reason"),
    [
        ({"uplink": "local"}, NEW, "nftables", "nftables supports this configuration"),
        (
            {"uplink": "local"},
            OLD,
            "xt_cluster",
            "not nftables: engine: 'nftables': requires the nftables families ip and netdev",
        ),
        ({"uplink": "local", "hash_as": "clusterip"}, OLD, "clusterip", "not xt_cluster: hash_as: 'clusterip'"),
    ],
)
def test_auto_takes_the_first_that_can(wanted, host, engine, reason):
    node = {"bridge": None, "nodes": [{"local_nodes": [1]}]}
    chosen, why = choice.choose(cluster("auto", **node, **wanted), host)
    assert chosen.engine == engine
    assert reason in why


@pytest.mark.parametrize(
    ("changes", "host", "message"),
    [
        (
            {"engine": "clusterip"},
            NEW,
            "engine: 'clusterip': the kernel 6.18.0 has no CLUSTERIP target, which Linux 6.3 removed",
        ),
        ({"engine": "clusterip", "total_nodes": 17}, OLD, "total_nodes: 17: clusterip supports 16 at most"),
        (
            {"engine": "clusterip", "distribution": "steer"},
            OLD,
            "distribution: 'steer': with clusterip each member decides",
        ),
        (
            {"engine": "clusterip"},
            OLD,
            "engine: 'clusterip': requires the nftables family netdev, which the kernel 6.1.0 does not have",
        ),
        ({"engine": "xt_cluster", "total_nodes": 33}, NEW, "total_nodes: 33: xt_cluster supports 32 at most"),
        (
            {"engine": "auto", "address": "2001:db8::10"},
            OLD,
            "engine: 'auto': no engine supports this configuration on Linux 6.1.0",
        ),
    ],
)
def test_what_an_engine_cannot_do_is_said(changes, host, message):
    with pytest.raises(ParameterError) as caught:
        choice.choose(cluster(**changes), host)
    assert message in str(caught.value)
