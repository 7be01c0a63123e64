# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import ipaddress

import pytest

from ansible_collections.clustered.openvpn.plugins.module_utils._cluster import foreign_routes
from ansible_collections.clustered.openvpn.plugins.module_utils._kernel.host_routes import HostRoute, HostRule
from ansible_collections.clustered.openvpn.plugins.module_utils._state import files
from ansible_collections.clustered.openvpn.tests.unit.plugins.module_utils.layouts import BRIDGED, SIX, TCP, UDP, layout

POOLS = [(f"instances[{one['name']}].pool", ipaddress.ip_network(one["pool"])) for one in (UDP, TCP)]
RULES = [HostRule(4, 0, table=255), HostRule(4, 32766), HostRule(4, 32767, table=253)]
NEIGHBOUR = ("192.0.2.9",)


def found(*routes, rules=RULES, before=None, **changes):
    """The errors and warnings about a cluster on a host with these routes."""
    now = files.state_of(layout(before, **changes))
    return foreign_routes.findings(now, files.state_of(before) if before else None, POOLS, routes, rules)


@pytest.mark.parametrize(
    "dst",
    ["10.8.0.0/16", "10.8.0.0/24", "10.8.2.0/25", "10.8.77.0/24", "10.9.0.0/20", "10.255.0.0/22", "10.255.0.12/32"],
)
def test_a_route_for_a_network_of_the_cluster_or_a_part_of_it_is_refused(dst):
    (error,), warnings = found(HostRoute(dst, gateways=NEIGHBOUR, devices=("eth0",)))
    assert f"this host has the route {dst} via 192.0.2.9 dev eth0; remove it, or choose another network" in error
    assert not warnings


def test_the_error_names_the_parameter():
    (error,), _warnings = found(HostRoute("10.8.0.0/16", gateways=NEIGHBOUR))
    assert error.startswith("instances[udp].pool: '10.8.0.0/16': ")
    (error,), _warnings = found(HostRoute("192.0.2.10/32", gateways=NEIGHBOUR))
    assert error.startswith("address: '192.0.2.10/32': ")


@pytest.mark.parametrize(
    "route",
    [
        HostRoute("0.0.0.0/0", gateways=NEIGHBOUR),
        HostRoute("10.0.0.0/8", gateways=NEIGHBOUR),  # a summary: the members' routes are preferred
        HostRoute("10.8.0.0/16", "blackhole"),  # protects slices without a member
        HostRoute("10.99.0.0/16", gateways=NEIGHBOUR),
        HostRoute("192.0.2.10/32", "local", devices=("eth0",), table=255, protocol=2),
        HostRoute("10.8.0.0/24", gateways=NEIGHBOUR, table=100),  # no rule uses the table
        HostRoute("fd00::/8", gateways=("fe80::1",)),
    ],
    ids=str,
)
def test_other_routes_are_not(route):
    assert found(route) == ([], [])


def test_a_blackhole_for_a_slice_is_refused():
    errors, _warnings = found(HostRoute("10.8.1.0/24", "blackhole"))
    assert "the route blackhole 10.8.1.0/24" in errors[0]


def test_tables_that_rules_use_count():
    rules = [*RULES, HostRule(4, 100, table=100, src="10.1.0.0/16")]
    (error,), _warnings = found(HostRoute("10.8.0.0/24", gateways=NEIGHBOUR, table=100), rules=rules)
    assert "10.8.0.0/24 via 192.0.2.9 table 100" in error


def test_a_rule_before_the_main_table_that_takes_every_packet_is_refused():
    default = HostRoute("0.0.0.0/0", devices=("wg0",), table=51820)
    errors, _warnings = found(default, rules=[*RULES, HostRule(4, 100, table=51820)])
    assert "the route 0.0.0.0/0 dev wg0 table 51820, which the rule 100: from all lookup 51820 puts before" in errors[0]
    errors, _warnings = found(rules=[*RULES, HostRule(4, 100, "blackhole", dst="10.8.0.0/15")])
    assert "this host has the rule 100: from all to 10.8.0.0/15 blackhole" in errors[-1]


@pytest.mark.parametrize(
    "rule",
    [
        HostRule(4, 100, table=51820, selectors=("not", "fwmark 0xca6c")),  # wg-quick, after its rule about main
        HostRule(4, 100, table=51820, src="192.0.2.0/24"),  # routing by source, of a host with two providers
        HostRule(4, 40000, table=51820),
        HostRule(4, 100, table=51820, suppress=0),
        HostRule(6, 100, table=51820),
    ],
    ids=str,
)
def test_other_rules_are_not(rule):
    assert found(HostRoute("0.0.0.0/0", devices=("wg0",), table=51820), rules=[*RULES, rule]) == ([], [])


@pytest.mark.parametrize("changes", [{}, SIX, {**BRIDGED}])
def test_the_clusters_own_routes_are_not_foreign(changes):
    before = layout(**changes)
    (bridge,) = before["bridges"]
    routes = [
        HostRoute(r["dst"], gateways=(r["via"],), devices=(bridge["name"],), protocol=4) for r in bridge["routes"]
    ]
    routes += [HostRoute("192.0.2.10/32", devices=(bridge["name"],), protocol=196)]
    assert routes[0].dst == "10.8.0.0/24"
    assert found(*routes, before=before, **changes) == ([], [])
    assert found(*routes, before=before, **{**changes, "size": 1}) == ([], [])
    # and not those of an installation whose state was lost: the next run has the same
    assert found(*routes, **changes) == ([], [])


def test_an_installed_cluster_is_warned_and_a_new_slice_is_refused():
    before = layout()
    route = HostRoute("10.8.0.0/16", gateways=NEIGHBOUR)
    for size in (3, 4):
        errors, (warning,) = found(route, before=before, size=size)
        assert not errors
        assert "10.8.0.0/16 via 192.0.2.9" in warning
    in_the_way = HostRoute("10.8.3.0/24", gateways=NEIGHBOUR)
    assert found(in_the_way, before=before)[0] == []
    (error,), _warnings = found(in_the_way, before=before, size=4)
    assert "10.8.3.0/24 via 192.0.2.9" in error


def test_hosts_that_share_an_address_may_have_routes_to_each_others_slices():
    shared = {"shared": True, "buckets": [1], "size": 1}
    assert found(HostRoute("10.8.16.0/24", gateways=NEIGHBOUR), **shared) == ([], [])
    assert found(HostRoute("10.8.0.0/16", gateways=NEIGHBOUR), **shared) == ([], [])
    assert found(HostRoute("10.8.0.0/24", gateways=NEIGHBOUR), **shared)[0]
