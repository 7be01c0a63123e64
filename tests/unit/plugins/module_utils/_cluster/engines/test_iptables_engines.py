# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.clustered.openvpn.plugins.module_utils._cluster.engines import choice, clusterip, xt_cluster
from ansible_collections.clustered.openvpn.plugins.module_utils._kernel import iptables_rules
from ansible_collections.clustered.openvpn.plugins.module_utils._kernel.observed import Host, Saved
from ansible_collections.clustered.openvpn.plugins.module_utils._params import ParameterError
from ansible_collections.clustered.openvpn.tests.unit.plugins.module_utils.model import a_cluster

NFT = "iptables-nft"
OLD = Host("6.1.0", frozenset(), clusterip=True)
NEW = Host("6.18.0", frozenset({"netdev", "ip"}))


def cluster(engine, **changes):
    return a_cluster(engine=engine, **{"distribution": "flood", "total_nodes": 16, **changes})


def lines_of(steps):
    return [line for step in steps if step.op == "iptables" for line in step.args["lines"]]


def saved(steps, tool, nodes=None):
    """What a namespace holds after the last of the steps that make a table."""
    made = [step.args["lines"] for step in steps if step.op == "iptables"][-1]
    return Saved(
        {tool: [line.replace("-I INPUT 1 ", "-A INPUT ").replace("-I OUTPUT 1 ", "-A OUTPUT ") for line in made]}, nodes
    )


def test_clusterip_takes_the_first_bucket_with_its_rule_and_others_by_proc():
    accepts, releases = clusterip.plan(cluster("clusterip"), "vpn1", "eth0", {3, 5, 7}, Saved())
    hashed = [line for line in lines_of(accepts) if "-j CLUSTERIP" in line]
    assert all(line.endswith("--total-nodes 16 --hash-init 4660 --local-node 3") for line in hashed)
    assert [line.split(" -m ")[0].split(" -p ")[1] for line in hashed] == ["udp", "icmp"]
    assert [step.args["change"] for step in accepts if step.op == "clusterip_node"] == ["+5", "+7"]
    assert releases == []
    have = saved(accepts, clusterip.TOOL, frozenset({3, 5, 7}))
    assert clusterip.plan(cluster("clusterip"), "vpn1", "eth0", {3, 5, 7}, have) == ([], [])
    assert clusterip.held("clustered_openvpn_vpn", have) == {3, 5, 7}
    assert clusterip.hash_in("clustered_openvpn_vpn", have) == {
        "address": "192.0.2.10",
        "total_nodes": 16,
        "hash_init": 0x1234,
        "hash_as": "clusterip",
    }


def test_clusterip_says_nothing_twice_and_accepts_before_it_releases():
    first, _none = clusterip.plan(cluster("clusterip"), "", "eth0", {1, 2}, Saved())
    have = saved(first, clusterip.TOOL, frozenset({1, 2}))
    accepts, releases = clusterip.plan(cluster("clusterip"), "", "eth0", {2, 3}, have)
    assert [step.text for step in accepts] == ["sh -c 'echo +3 >/proc/net/ipt_CLUSTERIP/192.0.2.10'"]
    assert [step.text for step in releases] == ["sh -c 'echo -1 >/proc/net/ipt_CLUSTERIP/192.0.2.10'"]


def test_clusterip_without_a_bucket_is_closed_until_it_has_none():
    accepts, _releases = clusterip.plan(cluster("clusterip"), "", "eth0", set(), Saved())
    assert [step.op for step in accepts] == ["iptables", "clusterip_node", "iptables"]
    closed, opened = (lines_of([step]) for step in (accepts[0], accepts[2]))
    assert '"closed #' in closed[2]
    assert not any('"closed #' in line for line in opened)
    jumps = [line.split()[0] for line in closed + opened if " INPUT " in line]
    assert jumps == ["-I", "-D", "-I"]


def test_clusterip_forgets_its_hash_with_its_last_rule_only():
    first, _none = clusterip.plan(cluster("clusterip"), "", "eth0", {1}, Saved())
    have = saved(first, clusterip.TOOL, frozenset({1}))
    accepts, _releases = clusterip.plan(cluster("clusterip", hash_init=5), "", "eth0", {1}, have)
    assert "CLUSTERIP" not in "\n".join(lines_of(accepts[:1]))
    assert "--hash-init 5" in "\n".join(lines_of(accepts[1:]))


def test_xt_cluster_has_a_rule_for_each_bucket_and_keeps_those_that_stay():
    wanted = cluster("xt_cluster")
    accepts, releases = xt_cluster.plan(wanted, "", "eth0", NFT, {1, 2}, Saved())
    assert releases == []
    have = Saved({NFT: _printed(accepts)})
    assert xt_cluster.held("clustered_openvpn_vpn", have) == {1, 2}
    assert xt_cluster.plan(wanted, "", "eth0", NFT, {1, 2}, have) == ([], [])
    accepts, releases = xt_cluster.plan(wanted, "", "eth0", NFT, {2, 3}, have)
    assert [_buckets(steps) for steps in (accepts, releases)] == [["1", "2", "3"], ["2", "3"]]
    assert len(accepts) == len(releases) == 1


def _printed(steps):
    """What iptables-save would say after these lines."""
    return [line.replace("-I INPUT 1 ", "-A INPUT ").replace("-I OUTPUT 1 ", "-A OUTPUT ") for line in lines_of(steps)]


def _buckets(steps):
    return [found for line in lines_of(steps) if (found := iptables_rules.option(line, "--cluster-local-node"))]


@pytest.mark.parametrize(
    ("wanted", "host", "engine", "reason"),
    [
        ({"uplink": "local"}, NEW, "nftables", "nftables can do all that is wanted"),
        ({"uplink": "local"}, OLD, "xt_cluster", "not nftables: engine: 'nftables': needs nftables' ip and netdev"),
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
            "engine: 'clusterip': this kernel, 6.18.0, has no CLUSTERIP: it is gone since Linux 6.3",
        ),
        ({"engine": "clusterip", "total_nodes": 17}, OLD, "total_nodes: 17: clusterip knows 16 at most"),
        (
            {"engine": "clusterip", "distribution": "steer"},
            OLD,
            "distribution: 'steer': with clusterip each node decides",
        ),
        (
            {"engine": "clusterip"},
            OLD,
            "engine: 'clusterip': needs nftables' netdev, which this kernel, 6.1.0, has not",
        ),
        ({"engine": "xt_cluster", "total_nodes": 33}, NEW, "total_nodes: 33: xt_cluster knows 32 at most"),
        (
            {"engine": "auto", "address": "2001:db8::10"},
            OLD,
            "engine: 'auto': none can do what is wanted on Linux 6.1.0",
        ),
    ],
)
def test_what_an_engine_cannot_do_is_said(changes, host, message):
    with pytest.raises(ParameterError) as caught:
        choice.choose(cluster(**changes), host)
    assert message in str(caught.value)
