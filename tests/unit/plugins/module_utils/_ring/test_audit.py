# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import copy
import json

import pytest

from ansible_collections.clustered.openvpn.plugins.module_utils._ring.audit import audit

MAC = "03:00:c0:00:02:0a"


CLUSTER = {"address": "192.0.2.10", "total_nodes": 4, "hash_init": 7, "hash_as": "nftables"}


def host(*buckets):
    return {
        "cluster": {**CLUSTER, "owners": {"local": list(buckets)}},
        "cluster_ipv6": {},
        "told": {"address": "192.0.2.10", "clustermac": "", "services": [{"protocol": "tcp", "port": 80}]},
        "arp": [MAC],
        "sysctls": {"net.ipv4.conf.eth0.drop_unicast_in_l2_multicast": "0", "net.ipv4.conf.all.rp_filter": "0"},
        "snooping": {},
    }


HEALTHY = {"h1": host(1, 3), "h2": host(2, 4)}


def test_nothing_to_say():
    assert audit(HEALTHY) == []
    six = [{**host(*buckets), "cluster_ipv6": host(*buckets)["cluster"]} for buckets in ((1, 3), (2, 4))]
    assert audit(dict(zip(HEALTHY, six))) == []
    six[1]["cluster_ipv6"] = host(2)["cluster"]
    assert audit(dict(zip(HEALTHY, six))) == ["IPv6: buckets 4: owned by no host; their clients are not served"]
    six[1]["cluster"] = {**six[1]["cluster"], "hash_as": "xt_cluster"}
    assert len(audit(dict(zip(HEALTHY, six)))) == 1, "they hash alike"


@pytest.mark.parametrize(
    ("path", "value", "sentence"),
    [
        (("cluster", "hash_init"), 8, "h2: the kernel has hash_init 8, but 7 on h1; "),
        (("cluster", "owners"), {"local": [2]}, "buckets 4: owned by no host"),
        (("cluster", "owners"), {"x": [2, 4], "y": [3]}, "buckets 3: owned by h1 and h2"),
        (("told", "services"), [], "h2: services is [], but h1 has "),
        (
            ("arp",),
            ["02:00:00:00:00:01"],
            "h2: receives ARP replies for the service address with 02:00:00:00:00:01",
        ),
        (("arp",), [], "h2: receives no ARP reply"),
        (("arp",), None, "h2: ARP replies for the service address were not checked; install iputils-arping"),
        (("cluster", "hash_as"), "clusterip", "h2: the kernel has hash_as 'clusterip', but 'nftables' on h1; "),
        (
            ("cluster_ipv6",),
            {**CLUSTER, "owners": {"local": [1, 2, 3, 4]}},
            "h1: the cluster is not configured for",
        ),
        (("sysctls",), {"net.ipv4.conf.eth0.drop_unicast_in_l2_multicast": "1"}, "h2: net.ipv4.conf.eth0.drop"),
        (("sysctls",), {"net.ipv4.conf.all.rp_filter": "1"}, "h2: net.ipv4.conf.all.rp_filter is 1"),
        (
            ("sysctls",),
            {"net.bridge.bridge-nf-call-iptables": "1"},
            "warning: h2: net.bridge.bridge-nf-call-iptables is 1",
        ),
        (("snooping",), {"br-lan": True}, "h2: br-lan has mcast_snooping on"),
        (("cluster",), {}, "h2: the cluster is not configured"),
    ],
)
def test_what_is_wrong_is_said(path, value, sentence):
    found = copy.deepcopy(HEALTHY)
    at = found["h2"]
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    problems = audit(found)
    assert problems[0].startswith(sentence), problems


def listed(**sets):
    """As nft -j list table prints it."""
    entries = [
        {"set": {"name": name, "elem": [{"elem": {"val": one, "expires": 9}} for one in addresses]}}
        for name, addresses in sets.items()
    ]
    return json.dumps(
        {"nftables": [{"metainfo": {}}, {"table": {"name": "x"}}, *entries, {"chain": {"name": "slots"}}]}
    )


def with_vrrp(text, group):
    found = {
        name: {**mine, "told": {**mine["told"], "failover": True, "name": "vpn"}} for name, mine in HEALTHY.items()
    }
    return {name: {**mine, "vrrp": text if name == "h2" else listed(), "group": group} for name, mine in found.items()}


def test_vrrp_of_others_is_reported():
    assert audit(with_vrrp(listed(strangers=[], neighbours=[]), "224.0.0.181")) == []
    seen = listed(strangers=["192.0.2.7"], neighbours=["192.0.2.8"])
    (stranger, neighbour) = audit(with_vrrp(seen, "224.0.0.181"))
    assert stranger.startswith("h2: 192.0.2.7 advertises the cluster's VRRP identifiers, and is none of its hosts")
    assert neighbour.startswith("warning: h2: 192.0.2.8, none of the hosts, uses the cluster's VRRP group 224.0.0.181")
    # In keepalived's group, other routers are normal. An installed ring has stored none.
    assert audit(with_vrrp(seen, "")) == [stranger]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"nftables": 5}', '{"nftables": [{"set": {"name": "strangers", "elem": ["x"]}}]}']
)
def test_a_listing_that_cannot_be_read_is_a_filter_that_is_not_loaded(text):
    (problem,) = audit(with_vrrp(text, ""))
    assert problem.endswith("run: systemctl reload clustered-openvpn-vrrp@vpn.service")
