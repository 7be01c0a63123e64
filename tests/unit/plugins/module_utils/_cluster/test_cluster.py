# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.clustered.openvpn.plugins.module_utils._cluster import cluster as _cluster
from ansible_collections.clustered.openvpn.plugins.module_utils._cluster.cluster import Member, Service
from ansible_collections.clustered.openvpn.plugins.module_utils._params import ParameterError
from ansible_collections.clustered.openvpn.tests.unit.plugins.module_utils.model import MACS, a_cluster


def node(name="vpn1", mac=MACS[1], local_nodes=()):
    return {"netns": name, "mac": mac, "local_nodes": local_nodes}


def test_parameters_are_normalised():
    cluster = a_cluster(
        clustermac="01-00-5E-00-00-0A", nodes=[node(mac=MACS[1].upper(), local_nodes=[3, 1])], hash_init=0xFFFFFFFF
    )
    assert cluster.clustermac == "01:00:5e:00:00:0a"
    assert cluster.members == (Member("vpn1", MACS[1], "eth0", (1, 3)),)
    assert cluster.services == (Service("udp", 1194),)
    assert cluster.hash_init == 0xFFFFFFFF
    assert cluster.table == "clustered_openvpn_vpn"


def test_the_tables_of_two_addresses_of_one_name_differ():
    assert a_cluster(address="2001:db8::10").table == "clustered_openvpn_vpn.v6"
    with pytest.raises(ParameterError):
        a_cluster(name="vpn.v6")


@pytest.mark.parametrize(
    ("address", "mac"), [("192.0.2.10", "03:00:c0:00:02:0a"), ("2001:db8::c000:20a", "03:06:c0:00:02:0a")]
)
def test_the_cluster_mac_comes_from_the_address(address, mac):
    assert a_cluster(address=address).clustermac == mac


@pytest.mark.parametrize(("claims", "state"), [("keep", "present"), ("exact", "absent")])
def test_who_claims_nothing_need_not_name_buckets(claims, state):
    cluster = a_cluster(claims=claims, state=state, nodes=[node(local_nodes=None)])
    assert cluster.members[0].buckets is None
    assert cluster.claims == "keep"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "Vpn"}, "name: 'Vpn': a cluster's name is a lower case letter and"),
        ({"name": "v" * 11}, "name: 'vvvvvvvvvvv': a cluster's name"),
        ({"name": "vpn\n"}, "name: 'vpn\\n': a cluster's name"),
        ({"address": "192.0.2.10/24"}, "address: '192.0.2.10/24': write an address"),
        ({"address": "2001:db8::/64"}, "address: '2001:db8::/64': write an address"),
        ({"interface": "a" * 16}, "interface: 'aaaaaaaaaaaaaaaa': an interface name has"),
        ({"bridge": "a/b"}, "bridge: 'a/b': an interface name has no"),
        ({"uplink": "vlan"}, "uplink: 'vlan': no such uplink; use one of routed, bridged, local"),
        ({"engine": "ebpf"}, "engine: 'ebpf': no such engine; use one of auto, nftables, xt_cluster, clusterip"),
        ({"hash_as": "md5"}, "hash_as: 'md5': no such hash; use one of nftables, xt_cluster, clusterip"),
        ({"address": "2001:db8::10", "hash_as": "clusterip"}, "hash_as: 'clusterip': hashes IPv4 addresses only"),
        (
            {"hash_as": "xt_cluster", "hashmode": "sourceip-sourceport", "force": True},
            "hashmode: 'sourceip-sourceport': xt_cluster hashes addresses only",
        ),
        ({"clustermac": MACS[1]}, "clustermac: '02:00:00:00:00:01': a multicast"),
        ({"total_nodes": 0}, "total_nodes: 0: the number of buckets is between 1 and 65536"),
        ({"total_nodes": 65537}, "total_nodes: 65537: the number"),
        ({"hash_init": -1}, "hash_init: -1: the seed has 32 bits"),
        ({"hash_init": 2**32}, "hash_init: 4294967296: the seed"),
        ({"services": [{"protocol": "udp", "port": 0}]}, "services[0].port: 0: a port is between"),
        ({"services": [{"protocol": "udp", "port": 1}] * 2}, "services: 'udp 1': named twice"),
        ({"nodes": [node(mac="03:00:00:00:00:01")]}, "nodes[0].mac: '03:00:00:00:00:01': a unicast"),
        ({"nodes": [node(), node("vpn1", MACS[2])]}, "nodes.netns: 'vpn1': named twice"),
        ({"nodes": [node(), node("vpn2")]}, f"nodes.mac: '{MACS[1]}': named twice"),
        ({"nodes": [node(local_nodes=None)]}, "nodes[0].local_nodes: None: claims=exact requires a list"),
        ({"nodes": [node(local_nodes=[0])]}, "nodes[0].local_nodes: 0: a bucket is between 1 and 4"),
        ({"nodes": [node(local_nodes=[5])]}, "nodes[0].local_nodes: 5: a bucket is"),
        (
            {"nodes": [node(local_nodes=[1, 2]), node("vpn2", MACS[2], [2])]},
            "nodes[1].local_nodes: 2: already owned by vpn1",
        ),
    ],
)
def test_refused(changes, message):
    with pytest.raises(ParameterError) as error:
        a_cluster(**changes)
    assert str(error.value).startswith(message)


def test_names_are_those_of_the_shell_and_of_nft():
    assert [_cluster.cluster_name("name", n) for n in ("v", "vpn-1_a", "v123456789")] == ["v", "vpn-1_a", "v123456789"]
