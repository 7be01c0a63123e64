# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from dataclasses import replace

import pytest

from ansible_collections.clustered.openvpn.plugins.module_utils._bundle import bundle as _bundle
from ansible_collections.clustered.openvpn.plugins.module_utils._bundle import spread
from ansible_collections.clustered.openvpn.plugins.module_utils._params import ParameterError

PARAMS = {
    "name": "site",
    "networks": ["10.99.0.128/25", "192.168.2.0/24"],
    "addresses": ["10.99.0.1"],
    "device_type": "tun",
    "spread": "per_packet",
    "snat": "none",
    "mtu": 1448,
    "queue": 1000,
    "user": "openvpn",
    "group": "openvpn",
    "timeout": 1.5,
    "probe_port": 11940,
    "reordering": 0,
    "congestion_control": "",
    "rule_priority": 10000,
}


def tunnel(number, weight=1, **other):
    addresses = [{"local": f"10.99.0.{number + 1}", "peer": f"10.99.0.{number + 129}"}]
    made = {"number": number, "device": f"site-{number}", "port": 1194 + number, "mark": 1194 + number}
    return {**made, "weight": weight, "addresses": addresses, **other}


def bundle(*weights, **other):
    given = {**PARAMS, "tunnels": [tunnel(i + 1, weight) for i, weight in enumerate(weights)], **other}
    return _bundle.bundle_from(given)


def listing(made, live):
    """What nft would list of the table: comments are what counts."""
    chain = spread.table(made, live).chains["spread"]
    return [{"rule": {"chain": "spread", "comment": chain.comment(rule), "expr": []}} for rule in chain.rules]


@pytest.mark.parametrize(
    ("weights", "dealt"),
    [
        ({1: 1, 2: 1, 3: 1}, [1, 2, 3]),
        ({1: 3, 2: 1}, [1, 1, 2, 1]),
        ({1: 150, 2: 50}, [1, 1, 2, 1]),
        ({1: 3, 2: 2}, [1, 2, 1, 2, 1]),
        ({1: 0, 2: 5}, [2]),
    ],
)
def test_packets_are_dealt_by_weight_and_evenly(weights, dealt):
    assert _bundle.slots(weights) == dealt


@pytest.mark.parametrize("weights", [{1: 0, 2: 0}, {1: 1009, 2: 17}, {}])
def test_weights_that_say_nothing_are_refused(weights):
    with pytest.raises(ParameterError, match="weight"):
        _bundle.slots(weights)


def test_the_spread_is_over_the_tunnels_that_are_live():
    made = bundle(1, 1, 1, 1)
    (rule,) = spread.table(made, [1, 3, 4]).chains["spread"].rules
    assert rule.text == "meta mark set numgen inc mod 3 map { 0 : 1195, 1 : 1197, 2 : 1198 }"
    assert rule.purpose == "live: 1 3-4"


def test_with_no_live_tunnel_nothing_is_sent_into_one():
    (rule,) = spread.table(bundle(1, 1), []).chains["spread"].rules
    assert rule.text.startswith("reject")


@pytest.mark.parametrize("live", [[1, 2, 3, 4, 5], [2, 4], [1, 2, 5], []])
def test_the_table_says_which_tunnels_are_live(live):
    made = bundle(1, 1, 1, 1, 1)
    assert spread.live_in(made, listing(made, live)) == live


def test_a_comment_stays_short_for_any_live_tunnels():
    made = bundle(*[1] * 64)
    chain = spread.table(made, range(1, 65, 2)).chains["spread"]
    assert all(len(chain.comment(rule)) < 128 for rule in chain.rules)


def test_nobody_watches_so_all_are_live():
    assert spread.live_in(bundle(1, 0, 2, timeout=0), None) == [1, 3]


def test_a_new_bundle_begins_without_live_tunnels():
    assert spread.live_in(bundle(1, 1), None) == []


def test_flows_of_live_tunnels_stay_where_they_are():
    made = bundle(1, 1, 1, 1, spread="per_flow")
    all_live, three = spread.flow_owners(made, [1, 2, 3, 4]), spread.flow_owners(made, [1, 3, 4])
    assert three[2] == []
    assert sorted(b for buckets in three.values() for b in buckets) == list(range(1, 257))
    for number in (1, 3, 4):
        assert set(all_live[number]) <= set(three[number])


def test_flows_need_one_rule_with_ports_and_one_without_for_each_family():
    made = bundle(1, 1, spread="per_flow")
    texts = [rule.text for rule in spread.table(made, [1, 2]).chains["spread"].rules]
    assert len(texts) == 2
    assert ["th sport" in text for text in texts] == [False, True]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"tunnels": []}, "tunnels: 0"),
        ({"tunnels": [tunnel(1), tunnel(1)]}, "named twice"),
        ({"tunnels": [tunnel(1), tunnel(2, port=1195)]}, "port: 1195: named twice"),
        ({"tunnels": [tunnel(1, mark=254)]}, "mark: 254"),
        ({"tunnels": [tunnel(1, weight=0), tunnel(2, weight=0)]}, "weight"),
        ({"networks": []}, "networks"),
        ({"networks": ["10.99.0.0/24"]}, "holds 10.99.0.1, an address of this end"),
        ({"networks": ["fd00::/64"]}, "no IPv6 addresses"),
        ({"probe_port": 1195}, "probe_port: 1195: a tunnel has this port"),
        ({"timeout": 0.01}, "timeout: 0.01"),
        ({"mtu": 500}, "mtu: 500"),
        ({"name": "Site"}, "name: 'Site'"),
        ({"congestion_control": "a b"}, "congestion_control"),
    ],
)
def test_what_cannot_be_is_refused_with_words(given, said):
    with pytest.raises(ParameterError) as refused:
        _bundle.bundle_from({**PARAMS, "tunnels": [tunnel(1)], **given})
    assert said in str(refused.value)


@pytest.mark.parametrize("rate", [0.1, 0.7, 33.3, 66.6, 123.457, 99_999.9])
def test_a_rate_is_one_that_tc_can_hold(rate):
    (made,) = bundle(1, tunnels=[tunnel(1, rate=rate)]).tunnels
    assert made.rate % 8 == 0
    assert made.rate == pytest.approx(rate * 1_000_000, abs=8)


def test_a_common_source_needs_an_address():
    made = replace(bundle(1), snat="common", addresses=())
    with pytest.raises(ParameterError, match="snat"):
        spread.table(made, [1])


def test_no_cluster_can_have_the_name_of_the_table():
    assert bundle(1).table == "clustered_openvpn_site.bundle"
