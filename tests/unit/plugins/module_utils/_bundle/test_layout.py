# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import ipaddress
import json

import pytest

from ansible_collections.clustered.openvpn.plugins.module_utils._bundle import layout as _layout
from ansible_collections.clustered.openvpn.plugins.module_utils._bundle.bundle import bundle_from
from ansible_collections.clustered.openvpn.plugins.module_utils._bundle.plan import plan
from ansible_collections.clustered.openvpn.plugins.module_utils._kernel.routing import Seen
from ansible_collections.clustered.openvpn.plugins.module_utils._params import ParameterError
from ansible_collections.clustered.openvpn.plugins.module_utils._state import files
from ansible_collections.clustered.openvpn.tests.unit.plugins.module_utils import layouts

ENDS = [
    {"name": "left", "address": "203.0.113.1", "networks": ["192.168.1.0/24"]},
    {"name": "right", "address": "203.0.113.2", "networks": ["192.168.2.0/24"]},
]
SETTINGS = {
    "name": "site",
    "end": 0,
    "ends": ENDS,
    "tunnels": 4,
    "port": 1195,
    "network": "10.255.252.0/24",
    "ipv6_network": "fd99::/64",
    "outer_mtu": 1500,
    "device_type": "tun",
    "spread": "per_packet",
    "snat": "none",
    "queue": 1000,
    "timeout": 1.5,
    "probe_port": 11940,
    "reordering": 300,
    "congestion_control": "",
    "rule_priority": 10000,
    "user": "openvpn",
    "group": "openvpn",
}


def lay_out(previous=None, **other):
    """The layout as plain data, after another one that was stored meanwhile."""
    return files.document(_layout.layout({**SETTINGS, **other}, files.state_of(previous) if previous else None))


def draining(layout):
    return _layout.draining(files.state_of(layout))


def settled(layout):
    """The layout that is saved at the end of a run."""
    return {**layout, "retired": [], "gone": []}


def test_both_ends_agree_on_each_tunnel():
    one, two = (lay_out(end=end)["bundles"][0]["tunnels"] for end in (0, 1))
    for here, there in zip(one, two):
        assert (here["number"], here["port"]) == (there["number"], there["port"])
        (a,), (b,) = here["addresses"], there["addresses"]
        assert (a["local"], a["peer"]) == (b["peer"], b["local"])


def test_what_belongs_to_a_tunnel_depends_on_its_number_alone():
    many = lay_out(tunnels=6)["bundles"][0]["tunnels"]
    few = lay_out(tunnels=[{"number": 2}, {"number": 5}])["bundles"][0]["tunnels"]
    assert few == [many[1], many[4]]


def test_the_other_half_and_the_other_site_are_what_is_sent_to():
    (bundle,) = lay_out(end=1)["bundles"]
    assert bundle["networks"] == ["10.255.252.0/25", "192.168.1.0/24"]
    assert bundle["addresses"] == ["10.255.252.129"]
    assert all(ipaddress.ip_address(one) not in ipaddress.ip_network("10.255.252.0/25") for one in bundle["addresses"])


def test_ipv6_comes_with_the_sites():
    ends = [{**ENDS[0], "networks": ["192.168.1.0/24", "fd01:1::/64"]}, ENDS[1]]
    (bundle,) = lay_out(ends=ends, end=1)["bundles"]
    assert len(bundle["tunnels"][0]["addresses"]) == 2
    assert "fd99::/65" in bundle["networks"]


@pytest.mark.parametrize(
    ("address", "device_type", "mtu"),
    [("203.0.113.%d", "tun", 1448), ("2001:db8::%d", "tun", 1428), ("203.0.113.%d", "tap", 1434)],
)
def test_packets_fit_into_the_network_between_the_ends(address, device_type, mtu):
    ends = [{**end, "address": address % (i + 1)} for i, end in enumerate(ENDS)]
    assert lay_out(ends=ends, device_type=device_type)["bundles"][0]["mtu"] == mtu


def test_a_tunnel_less_is_drained_and_then_goes():
    before = settled(lay_out())
    after = lay_out(before, tunnels=3)
    drained = draining(after)["tunnels"]
    assert [(x["number"], x["weight"]) for x in drained] == [(1, 1), (2, 1), (3, 1), (4, 0)]
    assert after["gone"] == [{"name": "site-4", "netns": ""}]


ENDS_IPV6 = [{**ENDS[0], "networks": ["192.168.1.0/24", "fd01:1::/64"]}, ENDS[1]]


@pytest.mark.parametrize("snat", ["none", "common", "tunnel"])
@pytest.mark.parametrize(("before", "after"), [(ENDS, ENDS_IPV6), (ENDS_IPV6, ENDS)], ids=["comes", "goes"])
def test_ipv6_may_come_and_go_with_a_tunnel(before, after, snat):
    now = lay_out(settled(lay_out(ends=before, end=1)), ends=after, end=1, tunnels=3, snat=snat)
    bundle = bundle_from(draining(now))
    assert [tunnel.number for tunnel in bundle.tunnels] == [1, 2, 3, 4]
    texts = [step.text for step in plan(bundle, Seen(), {}, None) if step.op == "ip"]
    assert [text for text in texts if " route " in text and " dev " not in text] == []
    assert [text for text in texts if text.startswith("ip -6") and "1198" in text] == []


def test_a_run_that_was_killed_is_completed():
    killed = lay_out(settled(lay_out()), tunnels=2)
    again = lay_out(json.loads(json.dumps(killed)), tunnels=2)
    assert again == killed


def test_what_others_have_now_is_not_kept_for_a_moment_longer():
    after = lay_out(settled(lay_out()), tunnels=3, port=1196)
    assert [x["number"] for x in draining(after)["tunnels"]] == [1, 2, 3]
    assert [x["name"] for x in after["gone"]] == ["site-4"]


def test_a_tunnel_whose_port_is_the_watchs_now_is_not_kept_either():
    after = lay_out(settled(lay_out()), tunnels=3, probe_port=1198)
    assert bundle_from(draining(after)).probe_port == 1198


def test_former_addresses_are_known():
    after = lay_out(settled(lay_out()), network="10.9.0.0/24")
    assert after["bundles"][0]["former_addresses"] == ["10.255.252.1"]
    again = lay_out(after, network="10.9.0.0/24")
    assert again == after
    other = lay_out(after, network="10.8.0.0/24")
    assert other["bundles"][0]["former_addresses"] == ["10.255.252.1", "10.9.0.1"]
    back = lay_out(after)
    assert back["bundles"][0]["former_addresses"] == ["10.9.0.1"]


def test_the_second_run_lays_out_the_same():
    before = settled(lay_out())
    assert lay_out(before) == before


def test_cores_are_given_in_turn():
    made = lay_out(pin=True, cores=3, tunnels=[{}, {}, {}, {}, {"cpus": [2, 1]}])
    assert [i["cpus"] for i in made["instances"]] == [[0], [1], [2], [0], [2, 1]]


def test_what_is_said_of_a_tunnel_counts_more_than_what_is_said_of_all():
    made = lay_out(rate=40, tunnels=[{"rate": 0}, {"rate": "33.3", "weight": "2"}, {"rate": None, "number": "7"}])
    tunnels = made["bundles"][0]["tunnels"]
    assert [(x["number"], x["weight"], x["rate"]) for x in tunnels] == [(1, 1, 0), (2, 2, 33.3), (7, 1, 40)]


def test_weights_follow_rates_where_no_tunnel_has_one():
    def weights(*tunnels, **other):
        return [tunnel["weight"] for tunnel in lay_out(tunnels=list(tunnels), **other)["bundles"][0]["tunnels"]]

    assert weights({"rate": 40}, {"rate": "20"}, {"rate": 20}, {"rate": 10}) == [4, 2, 2, 1]
    assert weights({}, {"rate": 20}, rate=40) == [2, 1]
    assert weights({"rate": 40, "weight": 1}, {"rate": 20}) == [1, 1]
    assert weights({"rate": 40, "weight": None}, {"rate": 20}) == [2, 1]
    assert weights({}, {}, rate=40) == [1, 1]


def test_what_goes_need_not_fit_the_host():
    assert lay_out(tunnels=[{"cpus": [7]}], cores=2, leaving=True)


HOST = {"interfaces": ["eth0", "site-1"], "eth0": {"ipv4": {"address": "10.0.0.5", "netmask": "255.0.0.0"}}}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"tunnels": 0}, "tunnels: 0: a bundle has 1 to 64 tunnels"),
        ({"tunnels": []}, "a bundle has 1 to 64 tunnels"),
        ({"tunnels": 65}, "a bundle has 1 to 64 tunnels"),
        ({"tunnels": "many"}, "give a number of tunnels"),
        ({"tunnels": [{"weight": 0}, {"weight": 0}]}, "give one tunnel at least a weight above 0"),
        ({"tunnels": [{"number": 1}, {"number": 1}]}, "named twice"),
        ({"tunnels": [{"rate": -1}]}, "rate"),
        ({"rate": "fast"}, "rate: 'fast': give Mbit/s"),
        ({"tunnels": [{"rate": [1]}]}, "tunnels[0].rate: [1]: give Mbit/s"),
        ({"tunnels": ["1"]}, "tunnels[0]: '1': give a tunnel as a dictionary with any of number, weight, rate, cpus"),
        ({"tunnels": [{}, None]}, "tunnels[1]: None: give a tunnel as a dictionary"),
        ({"tunnels": [{"wieght": 3}]}, "tunnels[0]: {'wieght': 3}: give a tunnel as a dictionary"),
        ({"tunnels": [{"number": 0}]}, "tunnels[0].number: 0: the network has room for the numbers 1 to 126"),
        ({"tunnels": [{"number": 1.5}]}, "tunnels[0].number: 1.5: give a whole number"),
        ({"tunnels": [{"weight": "much"}]}, "tunnels[0].weight: 'much': give a whole number"),
        ({"tunnels": [{"weight": True}]}, "tunnels[0].weight: True: give a whole number"),
        ({"tunnels": [{"cpus": 1}]}, "tunnels[0].cpus: 1: give a list"),
        ({"tunnels": [{"cpus": ["a"]}]}, "tunnels[0].cpus: 'a': give a whole number"),
        ({"tunnels": [{"cpus": [2]}], "cores": 2}, "tunnels[0].cpus: [2]: this host has the CPUs 0 to 1"),
        ({"tunnels": [{"cpus": [-1]}]}, "tunnels[0].cpus: [-1]"),
        ({"port": 65533}, "tunnel 4 would have the port 65536"),
        ({"port": 0}, "port: 0"),
        ({"network": "192.168.0.0/16"}, "overlaps network 192.168.0.0/16"),
        ({"network": "10.255.252.0/29"}, "room for the numbers 1 to 2"),
        ({"network": "203.0.113.0/24"}, "contains ends[left].address 203.0.113.1"),
        ({"facts": HOST}, "overlaps 10.0.0.5/8 of eth0 of this host"),
        ({"ends": ENDS[:1]}, "a bundle has two ends"),
        ({"ends": [ENDS[0], {**ENDS[1], "networks": ["192.168.1.128/25"]}]}, "overlaps ends[left].networks"),
        ({"ends": [ENDS[0], {**ENDS[1], "networks": ["0.0.0.0/0"]}]}, "overlaps"),
        ({"ends": [ENDS[0], {**ENDS[1], "address": "far"}]}, "ends[right].address: 'far'"),
        ({"ends": [ENDS[0], {**ENDS[1], "address": "203.0.113.1"}]}, "two different addresses of the same family"),
        ({"name": "much-too-long"}, "name"),
    ],
)
def test_what_cannot_be_is_refused_with_words(given, message):
    with pytest.raises(ParameterError) as refused:
        lay_out(**given)
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("before", "now", "message"), [("", "blue", "the host's own"), ("blue", "", "the namespace blue")]
)
@pytest.mark.parametrize("leaving", [False, True])
def test_a_bundle_stays_in_its_namespace(before, now, message, leaving):
    with pytest.raises(ParameterError, match=f"netns: '{now}': the bundle is in {message}"):
        lay_out(settled(lay_out(netns=before)), netns=now, leaving=leaving)


def test_the_name_of_a_cluster_is_refused():
    with pytest.raises(ParameterError, match="the name of a cluster on this host"):
        _layout.layout(SETTINGS, files.state_of(layouts.layout(name="site")))
