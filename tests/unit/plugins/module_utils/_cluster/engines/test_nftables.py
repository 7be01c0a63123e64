# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.clustered.openvpn.plugins.module_utils._cluster.cluster import claimed
from ansible_collections.clustered.openvpn.plugins.module_utils._cluster.engines import nft_host, nft_listing
from ansible_collections.clustered.openvpn.plugins.module_utils._cluster.engines.nftables import Nftables
from ansible_collections.clustered.openvpn.plugins.module_utils._params import ParameterError
from ansible_collections.clustered.openvpn.tests.unit.plugins.module_utils.model import MACS, a_cluster

A, B, OTHER = MACS[1], MACS[2], MACS[4]


def rules(table, chain):
    return [rule.text for rule in table.chains[chain].rules]


def steer(**changes):
    return nft_host.host_tables(a_cluster(**changes), {})[0]


@pytest.mark.parametrize(
    ("claims", "held", "expected"),
    [
        ("exact", {}, {A: {1, 2}, B: {3, 4}}),
        ("exact", {B: {1}, OTHER: {7}}, {A: {1, 2}, B: {3, 4}}),
        ("add", {OTHER: {1, 7}}, {A: {1, 2}, B: {3, 4}, OTHER: {7}}),
        ("release", {A: {1}, B: {2, 3}, OTHER: {7}}, {A: set(), B: {2}, OTHER: {7}}),
        ("keep", {B: {1}, OTHER: {7}}, {B: {1}, OTHER: {7}}),
    ],
)
def test_claims(claims, held, expected):
    cluster = a_cluster(claims=claims)
    assert claimed(cluster, held) == expected
    owner = {bucket: mac for mac, buckets in expected.items() for bucket in buckets}
    assert nft_host.host_tables(cluster, held)[0].elements == {"owner": owner}
    flood = a_cluster(claims=claims, distribution="flood")
    for member in flood.members:
        claim = Nftables().member_tables(flood, member, held)[1]
        assert claim.elements == {"owned": dict.fromkeys(expected.get(member.mac, ()), "")}


@pytest.mark.parametrize("chain", ["uplink", "host"])
def test_steering_hashes_the_client_and_drops_what_nobody_owns(chain):
    texts = rules(steer(), chain)
    assert any("set jhash ip saddr mod 4 seed 0x1234 offset 1 map @owner" in text for text in texts)
    assert texts[-1].endswith("ip daddr 192.0.2.10 drop")


@pytest.mark.parametrize("chain", ["uplink", "host"])
def test_steering_hashes_the_embedded_client_of_an_icmp_error_first(chain):
    hashed = [text for text in rules(steer(), chain) if "jhash" in text]
    assert ["jhash @th,192,32 mod 4 seed 0x1234 offset 1" in text for text in hashed] == [True, False]
    assert "icmp type { destination-unreachable, time-exceeded, parameter-problem }" in hashed[0]


@pytest.mark.parametrize("distribution", ["steer", "flood"])
def test_hashed_as_clusterip_does_even_and_odd_addresses_have_a_rule_each(distribution):
    cluster = a_cluster(hash_as="clusterip", distribution=distribution)
    tables = [*nft_host.host_tables(cluster, {}), *Nftables().member_tables(cluster, cluster.members[0], {})]
    texts = [rule.text for table in tables for chain in table.chains.values() for rule in chain.rules]
    hashed = [text.replace("ether daddr set ", "") for text in texts if "jhash ((ip" in text or "jhash (((ip" in text]
    assert {text[text.index("@nh") : text.index(" mod ")] for text in hashed} == {
        "@nh,127,1 0 jhash ((ip saddr >> 1) << 1)",
        "@nh,127,1 1 jhash (((ip saddr >> 1) << 1) | 1)",
    }


def test_steering_matches_no_ports_since_fragments_have_none():
    table = steer()
    assert not [text for chain in table.chains for text in rules(table, chain) if "port" in text]


def test_every_rule_of_a_chain_of_the_host_is_about_the_service_address_or_accepts():
    table = steer()
    for chain in table.chains:
        assert all("ip daddr 192.0.2.10 " in text or text.endswith(" accept") for text in rules(table, chain))


def test_rules_that_forward_say_where_to():
    for rule in steer(bridge="br-x").chains["uplink"].rules:
        assert rule.fwd == ("br-x" if rule.text.endswith('fwd to "br-x"') else None)


def test_the_hosts_rules_are_on_its_two_interfaces():
    table = steer(interface="eth9", bridge="br-x")
    assert table.chains["uplink"].hook == 'filter hook ingress device "eth9" priority -500'
    assert table.chains["host"].hook == 'filter hook egress device "br-x" priority -500'


def test_replies_are_not_tracked_on_the_host():
    untracked = nft_host.host_tables(a_cluster(), {})[1]
    assert rules(untracked, "prerouting") == ["ip saddr 192.0.2.10 fib daddr type != local notrack"]


@pytest.mark.parametrize(
    ("services", "accepted"),
    [
        ([], []),
        ([("udp", 1194)], ["ip daddr 192.0.2.10 udp dport { 1194 } accept"]),
        (
            [("udp", 1195), ("tcp", 443), ("udp", 1194)],
            ["ip daddr 192.0.2.10 tcp dport { 443 } accept", "ip daddr 192.0.2.10 udp dport { 1194, 1195 } accept"],
        ),
    ],
)
def test_a_member_accepts_its_services_and_drops_the_rest(services, accepted):
    cluster = a_cluster(services=[{"protocol": protocol, "port": port} for protocol, port in services])
    texts = rules(Nftables().member_tables(cluster, cluster.members[0], {})[0], "service")
    assert [text for text in texts if "dport" in text] == texts[: len(accepted)] == accepted
    assert texts[-1] == 'iifname != "lo" ip daddr 192.0.2.10 drop'


# A rule as nft 1.0.6 lists it.
LISTED = {
    "rule": {
        "family": "netdev",
        "table": "clustered_openvpn_vpn",
        "chain": "uplink",
        "handle": 6,
        "comment": "the owner of the client's bucket #3d6950b6",
        "expr": [
            {"match": {"op": "==", "left": {"payload": {"protocol": "ip", "field": "daddr"}}, "right": "192.0.2.10"}},
            {
                "mangle": {
                    "key": {"payload": {"protocol": "ether", "field": "daddr"}},
                    "value": {
                        "map": {
                            "key": {
                                "jhash": {
                                    "mod": 4,
                                    "seed": 4660,
                                    "offset": 1,
                                    "expr": {"payload": {"protocol": "ip", "field": "saddr"}},
                                }
                            },
                            "data": "@owner",
                        }
                    },
                }
            },
            {"fwd": {"dev": "br0"}},
        ],
    }
}
EMBEDDED = {"payload": {"base": "th", "offset": 192, "len": 32}}


def icmp_rule():
    match, mangle, fwd = LISTED["rule"]["expr"]
    value = {"map": {"key": {"jhash": {"mod": 9, "seed": 9, "offset": 1, "expr": EMBEDDED}}, "data": "@owner"}}
    return {"rule": {**LISTED["rule"], "expr": [match, {"mangle": {**mangle["mangle"], "value": value}}, fwd]}}


def test_the_hash_is_read_from_the_rules():
    expected = {"address": "192.0.2.10", "total_nodes": 4, "hash_init": 0x1234, "hash_as": "nftables"}
    assert nft_listing.hash_in([{"metainfo": {}}, icmp_rule(), LISTED]) == expected
    assert nft_listing.hash_in([icmp_rule()]) is None
    assert nft_listing.hash_in([{"rule": {**LISTED["rule"], "chain": "host"}}]) is None
    assert nft_listing.hash_in(None) is None


def test_owners_are_read_from_the_map():
    listed = {"map": {"name": "owner", "elem": [[1, A], [2, B]]}}
    assert nft_listing.owners_on_host([{"metainfo": {}}, listed]) == {A: {1}, B: {2}}
    assert nft_listing.owners_on_host([{"map": {"name": "owner"}}]) == nft_listing.owners_on_host(None) == {}


def test_a_flood_is_decided_in_each_member_and_counted_as_sent_to_it():
    cluster = a_cluster(distribution="flood")
    flood, claim = nft_host.host_tables(cluster, {})[0], Nftables().member_tables(cluster, cluster.members[0], {})[1]
    assert list(flood.chains) == ["uplink"]
    assert "jhash" not in str(flood)
    assert f'ether daddr set {cluster.clustermac} fwd to "br-vpn"' in rules(flood, "uplink")[-1]
    texts = rules(claim, "claim")
    assert texts[0] == f"ether daddr != {cluster.clustermac} accept"
    assert texts[-1] == "ip daddr 192.0.2.10 drop"
    assert [text.split(" @owned ")[1] for text in texts if "@owned" in text] == ["meta pkttype set host accept"] * 2
    assert claim.chains["claim"].hook == 'filter hook ingress device "eth0" priority -500'


@pytest.mark.parametrize(
    ("mode", "key"),
    [
        ("sourceip-sourceport", "ip saddr . tcp sport"),
        ("sourceip-sourceport-destport", "ip saddr . tcp sport . tcp dport"),
    ],
)
def test_ports_are_hashed_where_asked_for_and_whole_packets_alone(mode, key):
    texts = rules(steer(hashmode=mode, services=[{"protocol": "tcp", "port": 443}]), "uplink")
    hashed = [text for text in texts if "jhash" in text]
    assert [f"jhash {key} mod" in text for text in hashed] == [False, False, True, False]
    assert "ip daddr 192.0.2.10 meta l4proto tcp drop" in texts


def test_ports_are_refused_for_udp_unless_forced():
    with pytest.raises(ParameterError, match="hashmode: 'sourceip-sourceport': fragments of UDP"):
        a_cluster(hashmode="sourceip-sourceport")
    assert a_cluster(hashmode="sourceip-sourceport", force=True)


def test_ipv6_is_hashed_whole_and_its_errors_by_the_client_they_are_about():
    texts = rules(steer(address="2001:db8::10"), "uplink")
    assert any("ip6 daddr 2001:db8::10 ether daddr set jhash ip6 saddr mod 4" in text for text in texts)
    assert any("packet-too-big" in text and "jhash @th,256,128 mod 4" in text for text in texts)
    assert not [text for text in texts if "ip daddr" in text]
