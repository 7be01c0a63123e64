# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import copy

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


WELL = {"h1": host(1, 3), "h2": host(2, 4)}


def test_nothing_to_say():
    assert audit(WELL) == []
    six = [{**host(*buckets), "cluster_ipv6": host(*buckets)["cluster"]} for buckets in ((1, 3), (2, 4))]
    assert audit(dict(zip(WELL, six))) == []
    six[1]["cluster_ipv6"] = host(2)["cluster"]
    assert audit(dict(zip(WELL, six))) == ["IPv6: buckets 4: owned by no host, so that their clients are not served"]
    six[1]["cluster"] = {**six[1]["cluster"], "hash_as": "xt_cluster"}
    assert len(audit(dict(zip(WELL, six)))) == 1, "they hash alike"


@pytest.mark.parametrize(
    ("path", "value", "sentence"),
    [
        (("cluster", "hash_init"), 8, "h2: hash_init is 8, on h1 7: "),
        (("cluster", "owners"), {"local": [2]}, "buckets 4: owned by no host"),
        (("cluster", "owners"), {"x": [2, 4], "y": [3]}, "buckets 3: owned by h1 and h2"),
        (("told", "services"), [], "h2: is told services=[], h1 "),
        (("arp",), ["02:00:00:00:00:01"], "h2: hears 02:00:00:00:00:01 told"),
        (("arp",), [], "h2: hears nobody answer"),
        (("arp",), None, "h2: has no arping"),
        (("cluster", "hash_as"), "clusterip", "h2: hash_as is 'clusterip', on h1 'nftables': "),
        (("cluster_ipv6",), {**CLUSTER, "owners": {"local": [1, 2, 3, 4]}}, "h1: has no part in it for IPv6"),
        (("sysctls",), {"net.ipv4.conf.eth0.drop_unicast_in_l2_multicast": "1"}, "h2: net.ipv4.conf.eth0.drop"),
        (("sysctls",), {"net.ipv4.conf.all.rp_filter": "1"}, "h2: net.ipv4.conf.all.rp_filter is 1"),
        (("sysctls",), {"net.bridge.bridge-nf-call-iptables": "1"}, "h2: net.bridge.bridge-nf-call-iptables is 1"),
        (("snooping",), {"br-lan": True}, "h2: br-lan has mcast_snooping on"),
        (("cluster",), {}, "h2: has no part in the cluster"),
    ],
)
def test_what_is_wrong_is_said(path, value, sentence):
    found = copy.deepcopy(WELL)
    at = found["h2"]
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    said = audit(found)
    assert said[0].startswith(sentence), said
