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

from ansible_collections.clustered.openvpn.plugins.module_utils import _layout
from ansible_collections.clustered.openvpn.plugins.module_utils._bridges import bridges_from
from ansible_collections.clustered.openvpn.plugins.module_utils._cluster import cluster_from
from ansible_collections.clustered.openvpn.plugins.module_utils._params import ParameterError
from ansible_collections.clustered.openvpn.plugins.module_utils._topology import (
    namespaces_from,
    veths_from,
)

UDP = {"name": "udp", "protocol": "udp", "port": 1194, "pool": "10.8.0.0/16"}
TCP = {"name": "tcp", "protocol": "tcp", "port": 443, "pool": "10.9.0.0/16"}
NOTHING = {"clusters": [], "servers": [], "in_the_way": [], "veths": [], "namespaces": [], "bridges": []}
NOTHING |= {"former_bridges": [], "left": []}


INTERNAL_IPV6 = "fd9b:6c1e:4f02::/64"
UDP_IPV6 = {**UDP, "pool_ipv6": "fd12:3456:789a::/56"}
TCP_IPV6 = {**TCP, "pool_ipv6": "fd12:3456:789a:100::/56"}
SIX = {"ipv6_address": "2001:db8::10", "instances": [UDP_IPV6, TCP_IPV6]}


def wanted(**changes):
    return {
        "name": "vpn",
        "address": "192.0.2.10",
        "interface": "eth0",
        "members": [],
        "size": 3,
        "cores": 2,
        "pin": False,
        "instances": [UDP, TCP],
        "slice_prefix": 24,
        "internal_network": "10.255.0.0/22",
        "ipv6_address": "",
        "ipv6_internal_network": INTERNAL_IPV6,
        "total_nodes": 256,
        "hash_init": 0,
        "clustermac": "",
        **changes,
    }


def members(*numbers, **weights):
    return [{"name": f"vpn{n}", "weight": weights.get(f"vpn{n}", 1)} for n in numbers]


def layout(previous=None, **changes):
    """A layout after another, which was kept as JSON meanwhile."""
    return _layout.layout(wanted(**changes), json.loads(json.dumps(previous)))


def names(items):
    return {item["name"] for item in items}


def slices(result, key="network"):
    return {s["name"]: ipaddress.ip_network(s[key]) for s in result["servers"] if key in s}


MEMBERS = st.lists(
    st.builds(
        lambda n, weight: {"name": f"vpn{n}", "weight": weight}, st.integers(1, 255), st.sampled_from([1, 1, 1, 2, 4])
    ),
    min_size=1,
    max_size=6,
    unique_by=lambda m: m["name"],
)
INSTANCES = st.sampled_from([[UDP], [TCP], [UDP, TCP], [UDP_IPV6], [UDP_IPV6, TCP_IPV6]])
ADDRESS_IPV6 = st.sampled_from(["", "2001:db8::10"])


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


@given(MEMBERS, MEMBERS, INSTANCES, INSTANCES, st.booleans())
def test_retired_is_all_that_was_and_is_not_wanted_until_it_is_taken_down(before, after, old, new, taken_down):
    first = layout(members=before, instances=old)
    second = layout(first, members=after, instances=new)
    for kind in ("servers", "veths", "namespaces"):
        assert names(second["retired"][kind]) == names(first[kind]) - names(second[kind])
        assert all(item in first[kind] for item in second["retired"][kind])
    third = layout({**second, "retired": NOTHING} if taken_down else second, members=after, instances=new)
    assert third["retired"] == (NOTHING if taken_down else second["retired"])
    # Who comes back is no longer to be taken down.
    back = layout(second, members=before, instances=old)
    assert not names(back["retired"]["namespaces"]) & names(first["namespaces"])


def test_a_member_that_goes_is_on_the_bridge_until_it_is_taken_down():
    first = layout(members=members(1, 2), instances=[UDP])
    facts = {"interfaces": ["lo", "eth0", "br-vpn", "ve-vpn1", "ve-vpn2"]}
    second = layout(first, members=members(1), instances=[UDP], facts=facts)
    (joined,), (final,) = second["retired"]["bridges"], second["bridges"]
    (was,) = first["bridges"]
    for part in ("ports", "fdb", "routes"):
        assert sorted(map(str, joined[part])) == sorted(map(str, was[part]))
        assert len(final[part]) == 1
    again = layout(json.loads(json.dumps(second)), members=members(1), instances=[UDP], facts=facts)
    assert again == second, "a run that ended half-way"
    gone = layout(
        second, members=members(1), instances=[UDP], facts={"interfaces": ["lo", "eth0", "br-vpn", "ve-vpn1"]}
    )
    assert gone["retired"]["bridges"] == [], "its link was removed already"


@pytest.mark.parametrize("change", [{"address": "192.0.2.11"}, {"interface": "eth2"}])
def test_a_former_service_address_is_to_be_taken_away(change):
    first = layout(members=members(1))
    second = layout(first, members=members(1), **change)
    assert second["retired"]["clusters"] == [{**first["cluster"], "nodes": first["nodes"]}]
    assert layout(second, members=members(1), **change)["retired"] == second["retired"]
    third = layout(second, members=members(1), address="192.0.2.12")
    assert len(third["retired"]["clusters"]) == 2, "none is forgotten, whatever happens between"
    done = {**second, "retired": NOTHING}
    assert layout(done, members=members(1), **change)["retired"] == NOTHING


@given(MEMBERS, INSTANCES, ADDRESS_IPV6)
def test_every_module_takes_its_part(some, instances, six):
    result = layout(members=some, instances=instances, ipv6_address=six)
    namespaces_from(result["namespaces"])
    veths_from(result["veths"])
    bridges_from([{"mcast_snooping": False, "exclusive": True, **bridge} for bridge in result["bridges"]])
    others = {"name": "vpn", "distribution": "steer", "hashmode": "sourceip", "claims": "exact", "state": "present"}
    for address in result["addresses"]:
        cluster = cluster_from({**result["cluster"], "nodes": result["nodes"], **others, **address})
        assert sum(len(node.local_nodes) for node in cluster.nodes) == 256


def test_a_layout_in_full():
    some = [{"name": "vpn1", "cpus": [3]}, {"name": "east", "number": 7, "weight": 3}]
    result = layout(members=some, instances=[UDP])
    mac = _layout.member_mac("vpn", "vpn1")
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
        "interface": "eth0",
        "bridge": "br-vpn",
        "clustermac": "03:00:c0:00:02:0a",
        "distribution": "steer",
        "hashmode": "sourceip",
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


def test_a_layout_with_ipv6_has_all_that_one_without_it_has():
    four, six = layout(members=members(1, 7)), layout(members=members(1, 7), **SIX)
    assert six["addresses"] == [
        {"address": "192.0.2.10", "clustermac": "03:00:c0:00:02:0a"},
        {"address": "2001:db8::10", "clustermac": "03:06:00:00:00:10"},
    ]
    assert six["cluster"] == {**four["cluster"], "forward_ipv6": True}
    assert [m["ipv6_address"] for m in six["members"]] == ["fd9b:6c1e:4f02::b", "fd9b:6c1e:4f02::11"]
    assert six["namespaces"][0]["sysctls"]["net.ipv6.conf.all.forwarding"] == "1"
    assert not any("ipv6" in key for key in four["namespaces"][0]["sysctls"])
    peer = six["veths"][0]["peer"]
    assert peer["addresses"] == ["10.255.0.11/22", "fd9b:6c1e:4f02::b/64"]
    assert peer["routes"] == [{"dst": "default", "via": "10.255.0.1"}, {"dst": "default", "via": "fd9b:6c1e:4f02::1"}]
    bridge = six["bridges"][0]
    assert bridge["addresses"] == ["10.255.0.1/22", "fd9b:6c1e:4f02::1/64"]
    assert [r for r in bridge["routes"] if r not in four["bridges"][0]["routes"]] == [
        {"dst": "fd12:3456:789a::/64", "via": "fd9b:6c1e:4f02::b"},
        {"dst": "fd12:3456:789a:100::/64", "via": "fd9b:6c1e:4f02::b"},
        {"dst": "fd12:3456:789a:6::/64", "via": "fd9b:6c1e:4f02::11"},
        {"dst": "fd12:3456:789a:106::/64", "via": "fd9b:6c1e:4f02::11"},
    ]
    pushed = [
        'push "route-ipv6 fd12:3456:789a::/56"',
        'push "route-ipv6 fd12:3456:789a:100::/56"',
        'push "route-ipv6 fd9b:6c1e:4f02::1/128"',
    ]
    was = {k: v for k, v in four["servers"][0].items() if k != "local"}
    assert six["servers"][0] == {
        **was,
        "dual_stack": True,
        "network_ipv6": "fd12:3456:789a::/64",
        "extra_options": pushed,
    }
    assert six["push"] == four["push"]


def test_ipv6_in_the_tunnels_alone():
    result = layout(members=members(1), instances=[UDP_IPV6, TCP])
    assert [one["address"] for one in result["addresses"]] == ["192.0.2.10"]
    udp, tcp = result["servers"]
    assert udp["local"] == tcp["local"] == "192.0.2.10"
    assert "network_ipv6" in udp
    assert "extra_options" not in tcp, "its clients could not take a route of IPv6"
    assert result["bridges"][0]["addresses"][1] == "fd9b:6c1e:4f02::1/64"


def test_a_former_ipv6_address_is_to_be_taken_away():
    first = layout(members=members(1), **SIX)
    held = {**first["cluster"], **first["addresses"][1], "nodes": first["nodes"]}
    changed = layout(first, members=members(1), **{**SIX, "ipv6_address": "2001:db8::11"})
    assert changed["retired"]["clusters"] == [held]
    without = layout(changed, members=members(1))
    assert without["retired"]["clusters"] == [
        held,
        {**held, **changed["addresses"][1], "nodes": changed["nodes"]},
    ]
    back = layout(without, members=members(1), **SIX)
    assert [c["address"] for c in back["retired"]["clusters"]] == ["2001:db8::11"]


def test_a_member_that_goes_together_with_ipv6_has_no_route_of_it():
    first = layout(members=members(1, 2), instances=[UDP_IPV6])
    facts = {"interfaces": ["lo", "eth0", "br-vpn", "ve-vpn1", "ve-vpn2"]}
    second = layout(first, members=members(1), instances=[UDP], facts=facts)
    (joined,) = second["retired"]["bridges"]
    assert [r["dst"] for r in joined["routes"]] == ["10.8.0.0/24", "10.8.1.0/24"]


def test_ipv6_comes_to_a_layout_that_knew_none():
    first = layout(members=members(1))
    del first["addresses"], first["cluster"]["forward_ipv6"]
    assert layout(first, members=members(1), **SIX)["retired"] == NOTHING


FACTS = {
    "interfaces": ["lo", "eth0", "eth1.5"],
    "lo": {"ipv4": {"address": "127.0.0.1", "netmask": "255.0.0.0"}, "ipv6": [{"address": "::1", "prefix": "128"}]},
    "eth0": {"ipv6": [{"address": "2001:db8::2", "prefix": "64"}, {"address": "fe80::1", "prefix": "64"}]},
    "eth1.5": {"ipv6": [{"address": "fd12:3456:789a:ff::1", "prefix": "64"}]},
}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ipv6_address": "2001:db8::2"}, "ipv6_address: '2001:db8::2': eth0 carries it"),
        (
            {"instances": [UDP_IPV6]},
            "instances[udp].pool_ipv6: 'fd12:3456:789a::/56': overlaps fd12:3456:789a:ff::1/64 of eth1.5",
        ),
        (
            {"ipv6_address": "2001:db8::10", "ipv6_internal_network": "2001:db8:0:0:8000::/66"},
            "ipv6_internal_network: '2001:db8:0:0:8000::/66': overlaps 2001:db8::2/64 of eth0",
        ),
        (
            {"ipv6_address": "2001:db8::10", "facts": {"interfaces": ["lo", "eth0"]}},
            f"ipv6_internal_network: '{INTERNAL_IPV6}': this host has IPv6 switched off",
        ),
    ],
)
def test_ipv6_that_the_host_has_or_has_not_is_refused(changes, message):
    assert layout(members=members(1), facts=FACTS, ipv6_address="2001:db8::10", instances=[TCP_IPV6])
    with pytest.raises(ParameterError) as error:
        layout(**{"members": members(1), "facts": FACTS, **changes})
    assert str(error.value).startswith(message)


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
    made = {_layout.member_mac(c, m) for c in ("vpn", "other") for m in ("vpn1", "vpn2")}
    assert len(made) == 4
    assert all(mac.startswith("02:") for mac in made)
    assert _layout.member_mac("vpn", "vpn1") == "02:fc:51:e6:5b:c6"


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
        ({"instances": []}, "instances: []: name one at least"),
        ({"instances": [UDP, {**TCP, "pool": "10.8.128.0/17"}]}, "instances[tcp].pool: '10.8.128.0/17': overlaps"),
        ({"instances": [{**UDP, "pool": "192.0.0.0/16"}]}, "instances[udp].pool: '192.0.0.0/16': must not contain"),
        ({"instances": [{**UDP, "name": "udp-1"}]}, "instances[0].name: 'udp-1': an instance's name"),
        ({"instances": [{**UDP, "name": "udp\n"}]}, "instances[0].name: 'udp\\n': an instance's name"),
        ({"instances": [{**UDP, "protocol": "sctp"}]}, "instances[0].protocol: 'sctp': udp or tcp"),
        ({"instances": [{**UDP, "port": 65536}]}, "instances[0].port: 65536: a port lies between"),
        ({"instances": [UDP, {**TCP, "name": "udp"}]}, "instances.name: 'udp': named twice"),
        ({"instances": [UDP, {**UDP, "name": "two"}]}, "instances.port: 'udp 1194': named twice"),
        ({"slice_prefix": 30}, "slice_prefix: 30: between the length of pool 10.8.0.0/16 and 29"),
        ({"slice_prefix": 15}, "slice_prefix: 15: between"),
        (
            {"slice_prefix": 17},
            "instances[udp].pool: '10.8.0.0/16': holds 2 slices of /17, too few for member number 3",
        ),
        ({"members": [{"name": "east"}]}, "members[0].name: 'east': end the name with a number"),
        ({"members": [{"name": "east0"}]}, "members[0].name: 'east0': end the name with a number"),
        ({"members": [{"name": "east1", "number": -1}]}, "members[0].number: -1: "),
        ({"members": [{"name": "averylongname1"}]}, "members[0].name: 've-averylongname1': an interface name"),
        ({"members": members(1, 1)}, "members.name: 'vpn1': named twice"),
        ({"members": [{"name": "a1"}, {"name": "b1"}]}, "members.number: 1: named twice"),
        ({"members": members(1, vpn1=-1)}, "members: {'vpn1': -1}: at least one member"),
        ({"members": members(1, 2), "total_nodes": 1}, "total_nodes: 1: there must be as many buckets"),
        ({"total_nodes": 65537}, "total_nodes: 65537: "),
        ({"hash_init": 2**32}, "hash_init: 4294967296: "),
        ({"size": -1}, "size: -1: a number of members"),
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
            "instances[0].pool_ipv6: 'fd00::/65': each member has a /64",
        ),
        (
            {"instances": [{**UDP, "pool_ipv6": "fd00::/63"}]},
            "instances[udp].pool_ipv6: 'fd00::/63': holds 2 slices of /64, too few for member number 3; take a /62",
        ),
        (
            {"instances": [UDP_IPV6, {**TCP, "pool_ipv6": "fd12:3456:789a:80::/57"}]},
            "instances[tcp].pool_ipv6: 'fd12:3456:789a:80::/57': overlaps instances[udp].pool_ipv6",
        ),
    ],
)
def test_refused_with_parameter_value_and_remedy(changes, message):
    with pytest.raises(ParameterError) as error:
        layout(**changes)
    assert str(error.value).startswith(message)


def test_a_server_with_the_port_or_the_pool_of_a_former_one_waits_for_it_to_stop():
    first = layout(members=members(1, 2), instances=[UDP])
    renamed = layout(first, members=members(1), instances=[{**UDP, "name": "other"}])
    assert names(renamed["retired"]["in_the_way"]) == {"vpn1-udp"}
    assert names(renamed["retired"]["servers"]) == {"vpn1-udp", "vpn2-udp"}
    fewer = layout(first, members=members(1), instances=[UDP])
    assert fewer["retired"]["in_the_way"] == []


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
    ],
)
def test_two_clusters_of_a_host_share_nothing(change, parameter):
    one = layout(members=members(1, 2), instances=[UDP_IPV6], ipv6_address="2001:db8::10")
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


LAN = {
    "interfaces": ["lo", "eth0", "br0"],
    "eth0": {"mtu": 9000},
    "br0": {"ipv4": {"address": "192.0.2.2", "netmask": "255.255.255.0"}, "mtu": 9000},
    "default_ipv4": {"interface": "br0", "gateway": "192.0.2.1"},
}
BRIDGED = {"uplink": "bridged", "bridge": "br0", "first_member_address": "192.0.2.11", "facts": LAN}


def test_members_on_the_lan():
    result = layout(**BRIDGED)
    assert result["cluster"]["uplink"] == "bridged"
    assert [m["address"] for m in result["members"]] == ["192.0.2.11", "192.0.2.12", "192.0.2.13"]
    (bridge,) = result["bridges"]
    assert {"name": "br0", "exclusive": False, "ports": ["ve-vpn1", "ve-vpn2", "ve-vpn3"]}.items() <= bridge.items()
    assert "addresses" not in bridge
    assert {"dst": "10.8.1.0/24", "via": "192.0.2.12"} in bridge["routes"]
    veth = result["veths"][0]
    assert veth["mtu"] == veth["peer"]["mtu"] == 9000
    assert veth["mac"] == "fe" + veth["peer"]["mac"][2:], "or the bridge's MAC might become its"
    assert veth["peer"]["addresses"] == ["192.0.2.11/24"]
    assert veth["peer"]["routes"] == [
        {"dst": "default", "via": "192.0.2.1"},
        {"dst": "10.8.0.0/16", "via": "192.0.2.2"},
        {"dst": "10.9.0.0/16", "via": "192.0.2.2"},
    ]
    assert result["push"] == ["route 10.8.0.0 255.255.0.0", "route 10.9.0.0 255.255.0.0"]


def test_addresses_and_gateway_as_named():
    some = [{"name": "vpn1", "address": "192.0.2.77"}, {"name": "vpn2", "address": "192.0.2.50"}]
    result = layout(**{**BRIDGED, "members": some, "first_member_address": "", "gateway": "192.0.2.254"})
    assert [m["address"] for m in result["members"]] == ["192.0.2.77", "192.0.2.50"]
    assert result["veths"][0]["peer"]["routes"][0] == {"dst": "default", "via": "192.0.2.254"}


def test_members_that_leave_the_lan_are_named():
    before = layout(**BRIDGED)
    after = layout(before, **{**BRIDGED, "size": 2, "facts": {**LAN, "interfaces": [*LAN["interfaces"], "ve-vpn3"]}})
    assert after["retired"]["left"] == [
        {
            "name": "br0",
            "exclusive": False,
            "ports": ["ve-vpn3"],
            "routes": [{"dst": "10.8.2.0/24", "via": "192.0.2.13"}, {"dst": "10.9.2.0/24", "via": "192.0.2.13"}],
        }
    ]
    assert after["retired"]["bridges"][0]["ports"] == ["ve-vpn1", "ve-vpn2", "ve-vpn3"]


def test_an_uplink_that_changes_leaves_the_former_bridge_and_claim():
    routed, bridged = layout(), layout(**BRIDGED)
    after = layout(routed, **BRIDGED)
    assert [b["name"] for b in after["retired"]["former_bridges"]] == ["br-vpn"]
    assert [c["uplink"] for c in after["retired"]["clusters"]] == ["routed"]
    after = layout(bridged)
    assert [(b["name"], b["exclusive"]) for b in after["retired"]["former_bridges"]] == [("br0", False)]
    assert [c["uplink"] for c in after["retired"]["clusters"]] == ["bridged"]
    # One that goes at the same time has no address there.
    after = layout(bridged, size=2, facts={"interfaces": ["eth0", "ve-vpn3"]})
    assert (after["retired"]["bridges"], after["retired"]["left"]) == ([], [])
    assert names(after["retired"]["veths"]) == {"ve-vpn3"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bridge": ""}, "bridge: '': uplink=bridged needs the bridge that the LAN is on"),
        ({"bridge": "br9"}, "bridge: 'br9': neither it nor the NIC has an IPv4 address"),
        ({"first_member_address": ""}, "first_member_address: '': uplink=bridged needs the LAN address of member 1"),
        (
            {"first_member_address": "198.51.100.1"},
            "first_member_address: '198.51.100.1': member number 1 needs a free",
        ),
        ({"first_member_address": "192.0.2.2"}, "first_member_address: '192.0.2.2': member number 1 needs a free"),
        ({"first_member_address": "192.0.2.253"}, "first_member_address: '192.0.2.255': member number 3 needs a free"),
        ({"first_member_address": "192.0.2.9"}, "first_member_address: '192.0.2.10': member number 2 needs a free"),
        ({"gateway": "nowhere"}, "gateway: 'nowhere': write an address as"),
        ({"interface": "eth7"}, "interface: 'eth7': no such interface; this host has br0, eth0, lo"),
    ],
)
def test_a_lan_that_cannot_be(changes, message):
    with pytest.raises(ParameterError) as error:
        layout(**{**BRIDGED, "interface": "eth0", **changes})
    assert str(error.value).startswith(message)


def test_two_clusters_on_a_lan_have_members_with_different_addresses():
    other = json.loads(json.dumps(layout(**BRIDGED)))
    second = {"name": "two", "address": "192.0.2.20", "instances": [{**UDP, "pool": "10.18.0.0/16"}]}
    with pytest.raises(ParameterError, match=r"members.address: '192.0.2.13': the cluster vpn of this host has it"):
        layout(**{**BRIDGED, **second, "first_member_address": "192.0.2.13", "others": [other]})
    layout(**{**BRIDGED, **second, "first_member_address": "192.0.2.31", "others": [other]})


SIX_ON_BR0 = [{"address": "fe80::1", "prefix": "64"}, {"address": "2001:db8::2", "prefix": "64"}]
BRIDGED_SIX = {
    **BRIDGED,
    "ipv6_address": "2001:db8::10",
    "first_member_ipv6_address": "2001:db8::11",
    "facts": {
        **LAN,
        "br0": {**LAN["br0"], "ipv6": SIX_ON_BR0},
        "default_ipv6": {"interface": "br0", "gateway": "fe80::99"},
    },
}


def test_members_on_the_lan_with_ipv6():
    result = layout(**BRIDGED_SIX)
    assert [m["ipv6_address"] for m in result["members"]] == ["2001:db8::11", "2001:db8::12", "2001:db8::13"]
    peer = result["veths"][0]["peer"]
    assert peer["addresses"] == ["192.0.2.11/24", "2001:db8::11/64"]
    assert {"dst": "default", "via": "fe80::99"} in peer["routes"]
    assert not result["cluster"]["forward_ipv6"]
    pooled = layout(**{**BRIDGED_SIX, "instances": [{**UDP, "pool_ipv6": "fd12::/56"}]})
    assert {"dst": "fd12::/56", "via": "2001:db8::2"} in pooled["veths"][0]["peer"]["routes"]
    assert {"dst": "fd12:0:0:1::/64", "via": "2001:db8::12"} in pooled["bridges"][0]["routes"]
    assert pooled["cluster"]["forward_ipv6"]
    assert pooled["servers"][0]["extra_options"] == ['push "route-ipv6 fd12::/56"']


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"first_member_ipv6_address": ""}, "first_member_ipv6_address: '': uplink=bridged needs the LAN address"),
        ({"first_member_ipv6_address": "2001:db8::f"}, "first_member_ipv6_address: '2001:db8::10': member number 2"),
        ({"facts": LAN}, "bridge: 'br0': neither it nor the NIC has an IPv6 address"),
        ({"ipv6_gateway": "192.0.2.1"}, "ipv6_gateway: '192.0.2.1': an IPv6 address is needed here"),
    ],
)
def test_a_lan_with_ipv6_that_cannot_be(changes, message):
    with pytest.raises(ParameterError) as error:
        layout(**{**BRIDGED_SIX, "size": 2, **changes})
    assert str(error.value).startswith(message)
