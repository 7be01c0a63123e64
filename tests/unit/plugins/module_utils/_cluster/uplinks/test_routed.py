# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from dataclasses import replace

import pytest

from ansible_collections.clustered.openvpn.plugins.module_utils._cluster import claim, prerequisites
from ansible_collections.clustered.openvpn.plugins.module_utils._cluster.uplinks.routed import Routed
from ansible_collections.clustered.openvpn.plugins.module_utils._cluster.uplinks.uplink import FORWARDING
from ansible_collections.clustered.openvpn.plugins.module_utils._kernel.observed import (
    RTPROT_CLUSTERIP,
    RTPROT_RA,
    Route,
)
from ansible_collections.clustered.openvpn.plugins.module_utils._kernel.steps import step
from ansible_collections.clustered.openvpn.tests.unit.plugins.module_utils.model import MACS, Model, a_cluster

ROUTED = Routed()
CLUSTER = a_cluster()
ROUTE = {"dev": "br-vpn", "dst": "192.0.2.10/32", "via": None, "proto": RTPROT_CLUSTERIP}


def host():
    model = Model("vpn1", "vpn2")
    model.add("", "nic", up=True)
    model.add("", "br-vpn", "bridge", up=True)
    return model


def ready():
    model = host()
    model.apply(ROUTED.plan_host(CLUSTER, model.views[""]))
    return model


def texts(steps):
    return [s.text for s in steps]


def test_the_proxy_entry_that_attracts_packets_comes_last_and_goes_first():
    model = host()
    steps = texts(ROUTED.plan_host(CLUSTER, model.views[""]))
    assert steps[-1] == "ip neigh add proxy 192.0.2.10 dev nic"
    assert steps[-2] == "ip route replace 192.0.2.10/32 dev br-vpn proto 196"
    assert "sysctl -w net/ipv4/conf/nic/forwarding=1" in steps
    assert ROUTED.plan_host(CLUSTER, ready().views[""]) == []
    steps = texts(ROUTED.plan_no_host(CLUSTER, ready().views[""]))
    assert steps == [
        "ip neigh del proxy 192.0.2.10 dev nic",
        "ip route del 192.0.2.10/32 dev br-vpn proto 196",
        "ip neigh del 192.0.2.10 dev br-vpn",
    ]


def test_what_is_taken_back_is_gone():
    model = ready()
    model.apply(ROUTED.plan_no_host(CLUSTER, model.views[""]))
    assert ROUTED.plan_no_host(CLUSTER, model.views[""]) == []


@pytest.mark.parametrize(
    ("by_hand", "repair"),
    [
        (step("proxy_del", dev="nic", address="192.0.2.10"), ["ip neigh add proxy 192.0.2.10 dev nic"]),
        (step("route_del", **ROUTE), ["ip route replace 192.0.2.10/32 dev br-vpn proto 196"]),
        # A route of another program: another protocol number.
        (step("route_replace", **{**ROUTE, "src": None, "dst": "192.0.2.11/32", "proto": "static"}), []),
        (
            step("sysctl", key="net/ipv4/neigh/nic/proxy_delay", value="80"),
            ["sysctl -w net/ipv4/neigh/nic/proxy_delay=0"],
        ),
        (step("proxy_add", dev="nic", address="192.0.2.99"), []),
    ],
)
def test_drift_of_the_host_is_put_right_alone(by_hand, repair):
    model = ready()
    model.apply([by_hand])
    assert texts(ROUTED.plan_host(CLUSTER, model.views[""])) == repair


@pytest.mark.parametrize(
    "by_hand",
    [
        step("neigh_del", dev="br-vpn", address="192.0.2.10"),
        step("neigh_replace", dev="br-vpn", address="192.0.2.10", lladdr=MACS[4]),
    ],
)
def test_drift_of_the_neighbour_is_put_right_alone(by_hand):
    model = ready()
    wanted = model.views[""].links["br-vpn"].neighbours["192.0.2.10"]
    model.apply([by_hand])
    assert texts(ROUTED.plan_host(CLUSTER, model.views[""])) == [
        f"ip neigh replace 192.0.2.10 lladdr {wanted} dev br-vpn nud permanent"
    ]


def test_ipv6_is_forwarded_where_it_is_wanted():
    key = "net/ipv6/conf/all/forwarding"
    assert key not in ROUTED.host_sysctls(CLUSTER)
    for cluster in (a_cluster(forward_ipv6=True), a_cluster(address="2001:db8::10")):
        assert ROUTED.host_sysctls(cluster)[key] == "1"


@pytest.mark.parametrize(("accept_ra", "forwarding"), [("1", "0"), ("2", "0"), ("0", "0"), ("1", "1")])
def test_a_host_does_not_lose_its_default_route_of_router_advertisements(accept_ra, forwarding):
    view = host().views[""]
    route = {RTPROT_RA: frozenset({Route("::/0", "fe80::1")})}
    view = replace(
        view,
        links={**view.links, "nic": replace(view.links["nic"], routes=route)},
        sysctls={**view.sysctls, "net/ipv6/conf/nic/accept_ra": accept_ra, FORWARDING: forwarding},
    )
    views = {**host().views, "": view}
    assert prerequisites.missing(CLUSTER, views) == []
    said = prerequisites.missing(a_cluster(address="2001:db8::10"), views)
    assert [s[:16] for s in said] == (["interface: 'nic'"] if (accept_ra, forwarding) == ("1", "0") else [])


def test_a_member_carries_the_service_address_on_its_loopback():
    model = host()
    assert claim._plan_address(CLUSTER, model.views["vpn1"], False) == []
    steps = claim._plan_address(CLUSTER, model.views["vpn1"], True)
    assert texts(steps) == ["ip -n vpn1 addr add 192.0.2.10/32 dev lo"]
    model.apply(steps)
    assert claim._plan_address(CLUSTER, model.views["vpn1"], True) == []
    assert texts(claim._plan_address(CLUSTER, model.views["vpn1"], False)) == [
        "ip -n vpn1 addr del 192.0.2.10/32 dev lo"
    ]


def test_what_must_be_there_is_named():
    assert prerequisites.missing(CLUSTER, host().views) == []
    assert [s.split(";")[0] for s in prerequisites.missing(CLUSTER, Model("vpn1").views)] == [
        "interface: 'nic': no such interface on this host",
        "bridge: 'br-vpn': no such interface on this host",
        "nodes.netns: 'vpn2': no such network namespace",
    ]
