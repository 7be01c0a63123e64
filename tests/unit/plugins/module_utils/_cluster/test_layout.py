# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import ipaddress
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.clustered.openvpn.plugins.module_utils._cluster import members as _members
from ansible_collections.clustered.openvpn.plugins.module_utils._cluster.parameters import cluster_from
from ansible_collections.clustered.openvpn.plugins.module_utils._params import ParameterError
from ansible_collections.clustered.openvpn.plugins.module_utils._topology.bridges import bridges_from
from ansible_collections.clustered.openvpn.plugins.module_utils._topology.namespaces import namespaces_from
from ansible_collections.clustered.openvpn.plugins.module_utils._topology.veths import veths_from
from ansible_collections.clustered.openvpn.tests.unit.plugins.module_utils._bundle import test_layout as bundles
from ansible_collections.clustered.openvpn.tests.unit.plugins.module_utils.layouts import (
    ADDRESS_IPV6,
    FAILOVER,
    INSTANCES,
    INTERNAL_IPV6,
    MEMBERS,
    NOTHING,
    SIX,
    TCP,
    UDP,
    UDP_IPV6,
    layout,
    members,
)


def slices(result, key="network"):
    return {s["name"]: ipaddress.ip_network(s[key]) for s in result["servers"] if key in s}


@given(MEMBERS, INSTANCES)
def test_a_second_layout_is_the_first(some, instances):
    first = layout(members=some, instances=instances)
    assert layout(first, members=some, instances=instances) == first == json.loads(json.dumps(first))
    assert first["retired"] == NOTHING


@given(MEMBERS, MEMBERS, INSTANCES, st.sampled_from([("network", "pool"), ("network_ipv6", "pool_ipv6")]))
def test_slices_are_disjoint_and_stay_when_members_come_and_go(before, after, instances, keys):
    key, pool_key = keys
    first = layout(members=before, instances=instances)
    second = layout(first, members=after, instances=instances)
    every = {**slices(first, key), **slices(second, key)}
    for result in (first, second):
        assert all(every[name] == net for name, net in slices(result, key).items())
    ordered = sorted(every.values())
    assert not any(a.overlaps(b) for a, b in zip(ordered, ordered[1:]))
    for server in second["servers"]:
        pool = next(i.get(pool_key) for i in instances if i["protocol"] == server["protocol"])
        assert (key in server) == bool(pool)
        assert not pool or every[server["name"]].subnet_of(ipaddress.ip_network(pool))


@given(MEMBERS, INSTANCES, ADDRESS_IPV6)
def test_every_module_takes_its_part(some, instances, six):
    result = layout(members=some, instances=instances, ipv6_address=six)
    namespaces_from(result["namespaces"])
    veths_from(result["veths"])
    bridges_from([{"mcast_snooping": False, "exclusive": True, **bridge} for bridge in result["bridges"]])
    others = {"name": "vpn", "distribution": "steer", "hashmode": "sourceip", "claims": "exact", "state": "present"}
    for address in result["addresses"]:
        cluster = cluster_from({**result["cluster"], "nodes": result["nodes"], **others, **address})
        assert sum(len(member.buckets) for member in cluster.members) == 256


def test_extra_options_belong_to_one_instance_of_each_member():
    share = "port-share 127.0.0.1 8443"
    result = layout(instances=[UDP, {**TCP, "extra_options": [share]}], size=2)
    assert {s["name"]: s.get("extra_options") for s in result["servers"]} == {
        "vpn1-udp": None,
        "vpn1-tcp": [share],
        "vpn2-udp": None,
        "vpn2-tcp": [share],
    }
    both = layout(instances=[{**UDP_IPV6, "extra_options": [share]}], size=1)["servers"][0]["extra_options"]
    assert both[0].startswith('push "route-ipv6')
    assert both[-1] == share
    with pytest.raises(ParameterError, match=r"instances\[0\].extra_options"):
        layout(instances=[{**UDP, "extra_options": ["a\nport 7"]}])


def cpus(result):
    return {server["name"]: server["cpus"] for server in result["servers"]}


def test_members_keep_their_cpus_when_they_are_listed():
    """A list instead of a size, to drain a member: pinned as before, or all would restart."""
    first = layout(size=3, cores=2, pin=True, instances=[UDP])
    pins = {"vpn1-udp": [0], "vpn2-udp": [1], "vpn3-udp": [0]}
    assert cpus(first) == pins
    drained = layout(first, members=members(1, 2, 3, vpn3=0), cores=2, instances=[UDP])
    assert cpus(drained) == pins
    assert cpus(layout(first, members=members(1, 2, 3), cores=1, instances=[UDP])) == {**pins, "vpn2-udp": []}
    listed = [{"name": "vpn1", "cpus": []}, {"name": "vpn2", "cpus": [0]}, {"name": "vpn4"}]
    assert cpus(layout(first, members=listed, cores=2, instances=[UDP])) == {
        "vpn1-udp": [],
        "vpn2-udp": [0],
        "vpn4-udp": [],
    }
    assert cpus(layout(first, size=3, pin=False, instances=[UDP])) == {name: [] for name in pins}


def mtus(result):
    """The MTUs of all links, as the file holds them."""
    ends = [*result["veths"], *(veth["peer"] for veth in result["veths"]), *result["bridges"]]
    return {end.get("mtu") for end in ends}


@pytest.mark.parametrize(
    ("before", "now", "stored"),
    [
        (None, 1500, {None}),  # the default of the kernel: files of installed hosts stay as they are
        (None, None, {None}),
        (None, 9000, {9000}),
        (None, 1450, {1450}),
        (1500, 9000, {9000}),
        (9000, 1500, {1500}),
    ],
)
def test_a_routed_cluster_has_the_mtu_of_the_nic(before, now, stored):
    def facts(mtu):
        return {"facts": {"interfaces": ["eth0"], "eth0": {"mtu": mtu} if mtu else {}}}

    first = layout(**facts(before)) if before else None
    second = layout(first, **facts(now))
    assert mtus(second) == stored
    assert mtus(layout(second, **facts(now))) == stored


def test_a_layout_in_full():
    some = [{"name": "vpn1", "cpus": [3]}, {"name": "east", "number": 7, "weight": 3}]
    result = layout(members=some, instances=[UDP])
    mac = _members.member_mac("vpn", "vpn1")
    assert [len(m["local_nodes"]) for m in result["members"]] == [64, 192]
    assert {k: v for k, v in result["members"][0].items() if k != "local_nodes"} == {
        "name": "vpn1",
        "number": 1,
        "weight": 1,
        "cpus": [3],
        "mac": mac,
        "address": "10.255.0.11",
    }
    assert result["cluster"] == {
        "address": "192.0.2.10",
        "uplink": "routed",
        "shared": False,
        "interface": "eth0",
        "bridge": "br-vpn",
        "clustermac": "03:00:c0:00:02:0a",
        "distribution": "steer",
        "hashmode": "sourceip",
        "engine": "nftables",
        "hash_as": "nftables",
        "force": False,
        "forward_ipv6": False,
        "hash_init": 0,
        "total_nodes": 256,
        "services": [{"protocol": "udp", "port": 1194}],
    }
    assert result["veths"][0] == {
        "name": "ve-vpn1",
        "peer": {
            "name": "eth0",
            "netns": "vpn1",
            "mac": mac,
            "addresses": ["10.255.0.11/22"],
            "routes": [{"dst": "default", "via": "10.255.0.1"}],
        },
    }
    bridge = result["bridges"][0]
    assert bridge["addresses"] == ["10.255.0.1/22"]
    assert bridge["ports"] == ["ve-vpn1", "ve-east"]
    assert bridge["fdb"][0] == {"mac": mac, "port": "ve-vpn1"}
    assert bridge["routes"] == [
        {"dst": "10.8.0.0/24", "via": "10.255.0.11"},
        {"dst": "10.8.6.0/24", "via": "10.255.0.17"},
    ]
    assert result["servers"][1] == {
        "name": "east-udp",
        "netns": "east",
        "cpus": [],
        "protocol": "udp",
        "local": "192.0.2.10",
        "port": 1194,
        "network": "10.8.6.0/24",
        "device": "tun-udp",
    }
    assert result["push"] == ["route 10.8.0.0 255.255.0.0", "route 10.255.0.1 255.255.255.255"]


@pytest.mark.parametrize(
    ("size", "cores", "pin", "cpus"),
    [
        (0, 1, False, [[], []]),
        (0, 3, True, [[0], [1], [2]]),
        (5, 2, True, [[0], [1], [0], [1], [0]]),
        (1, 8, False, [[]]),
    ],
)
def test_members_are_made_by_size_one_a_core_and_two_at_least(size, cores, pin, cpus):
    result = layout(size=size, cores=cores, pin=pin)
    assert [m["name"] for m in result["members"]] == [f"vpn{n + 1}" for n in range(len(cpus))]
    assert [m["cpus"] for m in result["members"]] == cpus
    assert [s["cpus"] for s in result["servers"] if s["protocol"] == "udp"] == cpus


def test_a_drained_member_gives_its_buckets_and_stays():
    first = layout(members=members(1, 2, 3))
    second = layout(first, members=members(1, 2, 3, vpn2=0))
    buckets = {m["name"]: set(m["local_nodes"]) for m in second["members"]}
    assert buckets["vpn2"] == set()
    assert all(set(m["local_nodes"]) <= buckets[m["name"]] for m in first["members"] if m["name"] != "vpn2")
    assert second["retired"] == NOTHING


def test_macs_are_stable_unicast_and_differ_by_cluster_and_member():
    made = {_members.member_mac(c, m) for c in ("vpn", "other") for m in ("vpn1", "vpn2")}
    assert len(made) == 4
    assert all(mac.startswith("02:") for mac in made)
    assert _members.member_mac("vpn", "vpn1") == "02:fc:51:e6:5b:c6"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "VPN"}, "name: 'VPN': a cluster's name"),
        ({"address": ""}, "address: '': write an address"),
        ({"address": "2001:db8::1"}, "address: '2001:db8::1': an IPv4 address"),
        ({"interface": "a b"}, "interface: 'a b': an interface name"),
        ({"clustermac": "02:00:00:00:00:01"}, "clustermac: '02:00:00:00:00:01': a multicast"),
        ({"internal_network": "10.255.0.1/22"}, "internal_network: '10.255.0.1/22': write a network"),
        (
            {"internal_network": "10.8.4.0/22"},
            "instances[udp].pool: '10.8.0.0/16': overlaps internal_network 10.8.4.0/22",
        ),
        (
            {"internal_network": "192.0.2.0/24"},
            "internal_network: '192.0.2.0/24': must not contain the service address",
        ),
        (
            {"internal_network": "10.255.0.0/28", "size": 5},
            "internal_network: '10.255.0.0/28': too small for member number 5",
        ),
        ({"instances": []}, "instances: []: give at least one"),
        ({"instances": [UDP, {**TCP, "pool": "10.8.128.0/17"}]}, "instances[tcp].pool: '10.8.128.0/17': overlaps"),
        ({"instances": [{**UDP, "pool": "192.0.0.0/16"}]}, "instances[udp].pool: '192.0.0.0/16': must not contain"),
        ({"instances": [{**UDP, "name": "udp-1"}]}, "instances[0].name: 'udp-1': use 1 to 8 of"),
        ({"instances": [{**UDP, "name": "udp\n"}]}, "instances[0].name: 'udp\\n': use 1 to 8 of"),
        ({"instances": [{**UDP, "protocol": "sctp"}]}, "instances[0].protocol: 'sctp': use udp or tcp"),
        ({"instances": [{**UDP, "port": 65536}]}, "instances[0].port: 65536: use a port from"),
        ({"instances": [UDP, {**TCP, "name": "udp"}]}, "instances.name: 'udp': named twice"),
        ({"instances": [UDP, {**UDP, "name": "two"}]}, "instances.port: 'udp 1194': named twice"),
        ({"slice_prefix": 30}, "slice_prefix: 30: use a prefix length between that of pool 10.8.0.0/16 and 29"),
        ({"slice_prefix": 15}, "slice_prefix: 15: use a prefix length"),
        (
            {"slice_prefix": 17},
            "instances[udp].pool: '10.8.0.0/16': has only 2 slices of /17, too few for member number 3",
        ),
        ({"members": [{"name": "east"}]}, "members[0].name: 'east': end the name with a number"),
        ({"members": [{"name": "east0"}]}, "members[0].name: 'east0': end the name with a number"),
        ({"members": [{"name": "east1", "number": -1}]}, "members[0].number: -1: "),
        ({"members": [{"name": "averylongname1"}]}, "members[0].name: 've-averylongname1': an interface name"),
        ({"members": members(1, 1)}, "members.name: 'vpn1': named twice"),
        ({"members": [{"name": "a1"}, {"name": "b1"}]}, "members.number: 1: named twice"),
        ({"members": members(1, vpn1=-1)}, "members: {'vpn1': -1}: at least one member"),
        ({"members": members(1, 2), "total_nodes": 1}, "total_nodes: 1: fewer buckets than members"),
        ({"total_nodes": 65537}, "total_nodes: 65537: "),
        ({"hash_init": 2**32}, "hash_init: 4294967296: "),
        ({"size": -1}, "size: -1: use a number of members"),
        ({"ipv6_address": "192.0.2.11"}, "ipv6_address: '192.0.2.11': an IPv6 address"),
        ({"ipv6_address": "fe80::1"}, "ipv6_address: 'fe80::1': clients must be able"),
        ({**SIX, "ipv6_internal_network": ""}, "ipv6_internal_network: '': write a network as fd12:"),
        ({**SIX, "ipv6_internal_network": "10.1.0.0/24"}, "ipv6_internal_network: '10.1.0.0/24': an IPv6 network"),
        ({**SIX, "ipv6_internal_network": "fd00::/125"}, "ipv6_internal_network: 'fd00::/125': too small for member"),
        ({**SIX, "ipv6_internal_network": "2001:db8::/64"}, "ipv6_internal_network: '2001:db8::/64': must not contain"),
        (
            {**SIX, "ipv6_internal_network": "fd12:3456:789a:5::/64"},
            "instances[udp].pool_ipv6: 'fd12:3456:789a::/56': overlaps ipv6_internal_network",
        ),
        (
            {"instances": [{**UDP, "pool_ipv6": "10.1.0.0/16"}]},
            "instances[0].pool_ipv6: '10.1.0.0/16': an IPv6 network",
        ),
        ({"instances": [{**UDP, "pool_ipv6": "fd00::1/56"}]}, "instances[0].pool_ipv6: 'fd00::1/56': write a network"),
        (
            {"instances": [{**UDP, "pool_ipv6": "fd00::/65"}]},
            "instances[0].pool_ipv6: 'fd00::/65': each member gets a /64",
        ),
        (
            {"instances": [{**UDP, "pool_ipv6": "fd00::/63"}]},
            "instances[udp].pool_ipv6: 'fd00::/63': has only 2 slices of /64, too few for member number 3; use a /62",
        ),
        (
            {"instances": [UDP_IPV6, {**TCP, "pool_ipv6": "fd12:3456:789a:80::/57"}]},
            "instances[tcp].pool_ipv6: 'fd12:3456:789a:80::/57': overlaps instances[udp].pool_ipv6",
        ),
        ({"engine": "clusterip"}, "total_nodes: 256: clusterip supports 16 at most; use fewer, or engine=nftables"),
        (
            {"engine": "clusterip", "total_nodes": 16},
            "distribution: 'steer': with clusterip each member decides by itself",
        ),
        (
            {"engine": "xt_cluster", "failover": FAILOVER},
            "engine: 'xt_cluster': with failover, keepalived assigns buckets to hosts",
        ),
        ({"failover": {**FAILOVER, "command": "true"}}, "check_command: 'true': use a list"),
        ({"hash_as": "clusterip", "ipv6_address": "2001:db8::10"}, "hash_as: 'clusterip': hashes IPv4 addresses only"),
    ],
)
def test_refused_with_parameter_value_and_remedy(changes, message):
    with pytest.raises(ParameterError) as error:
        layout(**changes)
    assert str(error.value).startswith(message)


@pytest.mark.parametrize(
    ("change", "parameter"),
    [
        ({"name": "vpn1", "members": members(1)}, "members.name: 'vpn1'"),
        ({"name": "two", "address": "192.0.2.10"}, "address: '192.0.2.10'"),
        ({"name": "two", "internal_network": "10.255.0.0/16"}, "internal_network: '10.255.0.0/16'"),
        ({"name": "two", "instances": [{**UDP, "pool": "10.8.1.0/24"}]}, "instances[udp].pool: '10.8.1.0/24'"),
        ({"name": "two", "ipv6_address": "2001:db8::10"}, "ipv6_address: '2001:db8::10'"),
        ({"name": "two", "ipv6_internal_network": INTERNAL_IPV6}, f"ipv6_internal_network: '{INTERNAL_IPV6}'"),
        (
            {"name": "two", "instances": [{**UDP, "pool": "10.9.0.0/16", "pool_ipv6": "fd12:3456:789a::/64"}]},
            "instances[udp].pool_ipv6: 'fd12:3456:789a::/64'",
        ),
        ({"name": "two", "failover": FAILOVER}, "failover.placeholders: '127.64.1.0/24'"),
    ],
)
def test_two_clusters_of_a_host_share_nothing(change, parameter):
    one = layout(members=members(1, 2), instances=[UDP_IPV6], ipv6_address="2001:db8::10", failover=FAILOVER)
    apart = {
        "address": "192.0.2.11",
        "ipv6_address": "2001:db8::11",
        "internal_network": "10.254.0.0/22",
        "ipv6_internal_network": "fd00::/64",
        "instances": [{**UDP, "pool": "10.9.0.0/16"}],
        "members": [{"name": "two1"}],
    }
    assert layout(others=[one], name="two", **apart)
    with pytest.raises(ParameterError, match=re.escape(parameter) + ".*the cluster vpn of this host has it"):
        layout(others=[one], **{**apart, **change})


def test_a_cluster_is_laid_out_beside_a_bundle():
    bundle = json.loads(json.dumps(bundles.lay_out()))
    assert layout(others=[bundle]) == layout()


@pytest.mark.parametrize("network", ["192.168.2.0/25", "10.255.252.0/24", "10.255.252.0/25"])
def test_a_cluster_shares_no_network_with_a_bundle(network):
    with pytest.raises(ParameterError, match="the bundle site of this host has it"):
        layout(others=[bundles.lay_out()], internal_network=network)
    assert layout(others=[bundles.lay_out(netns="elsewhere")], internal_network=network)
    assert layout(others=[bundles.lay_out()], internal_network=network, leaving=True)


def test_the_name_of_a_bundle_is_refused():
    with pytest.raises(ParameterError, match="name: 'site': a bundle of this host"):
        layout(bundles.lay_out(), name="site")
