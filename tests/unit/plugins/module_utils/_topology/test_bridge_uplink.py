# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.clustered.openvpn.plugins.module_utils._params import ParameterError
from ansible_collections.clustered.openvpn.plugins.module_utils._topology import bridge_uplink
from ansible_collections.clustered.openvpn.plugins.module_utils._topology.bridge_uplink import InterfaceState

FOREVER = {"valid_life_time": 4294967295}
ADDRESSES = [
    {"family": "inet", "local": "192.0.2.2", "prefixlen": 24, "scope": "global", "label": "nic0", **FOREVER},
    {"family": "inet", "local": "192.0.2.3", "prefixlen": 24, "scope": "global", "label": "nic0:1", **FOREVER},
    {"family": "inet6", "local": "2001:db8::2", "prefixlen": 64, "scope": "global", **FOREVER},
    {"family": "inet6", "local": "fe80::2", "prefixlen": 64, "scope": "link", **FOREVER},
]
ROUTES = [
    {"dst": "192.0.2.0/24", "protocol": "kernel", "scope": "link"},
    {"dst": "0.0.0.0/0", "gateway": "192.0.2.1", "protocol": "static", "metric": 50, "flags": ["onlink"]},
    {"type": "unicast", "dst": "198.18.0.0/16", "scope": "link", "table": "77", "prefsrc": "192.0.2.3", "flags": []},
    {"dst": "::/0", "gateway": "fe80::1", "metric": 1024, "pref": "medium"},
]


def state(name="nic0", ports=(), **link):
    return InterfaceState(
        name, {"address": "02:00:00:00:00:01", "mtu": 9000, "addr_info": ADDRESSES, **link}, ROUTES, ports
    )


def test_a_nic_is_taken_with_all_that_is_on_it_and_the_way_back_is_known():
    move = bridge_uplink.plan_attach(state(), None, "nic0", "br0")
    assert move.lines == (
        "link add name br0 address 02:00:00:00:00:01 mtu 9000 type bridge mcast_snooping 0",
        "link set dev br0 up",
        "route del ::/0 via fe80::1 dev nic0 metric 1024",
        "route del 0.0.0.0/0 via 192.0.2.1 dev nic0 metric 50",
        "route del 198.18.0.0/16 dev nic0 table 77",
        "addr del 2001:db8::2/64 dev nic0",
        "addr del 192.0.2.3/24 dev nic0",
        "addr del 192.0.2.2/24 dev nic0",
        "link set dev nic0 master br0",
        "addr add 192.0.2.2/24 dev br0 scope global label br0",
        "addr add 192.0.2.3/24 dev br0 scope global label br0:1",
        "addr add 2001:db8::2/64 dev br0 nodad",
        "route append 198.18.0.0/16 dev br0 table 77 scope link src 192.0.2.3",
        "route append 0.0.0.0/0 via 192.0.2.1 dev br0 metric 50 proto static onlink",
        "route add ::/0 via fe80::1 dev br0 metric 1024 pref medium",
    )
    assert move.rollback[:2] == ("link set dev nic0 nomaster", "link del dev br0")
    assert [*move.rollback[2:]] == [line.replace("br0", "nic0") for line in move.lines[9:]]
    assert move.commands == [f"ip {line}" for line in move.lines]
    assert (move.source.name, move.target) == ("nic0", "br0")


def test_what_is_on_the_bridge_is_given_back():
    move = bridge_uplink.plan_detach(state("nic0", master="br0"), state("br0", ("nic0",)), "nic0", "br0")
    assert move.lines[6:8] == ("link set dev nic0 nomaster", "addr add 192.0.2.2/24 dev nic0 scope global label nic0")
    assert "link set dev nic0 master br0" in move.rollback
    assert move.rollback[-1] == "route add ::/0 via fe80::1 dev br0 metric 1024 pref medium"
    assert move.commands[-1] == "ip link del dev br0"
    assert (move.source.name, move.target) == ("br0", "nic0")


def test_nothing_is_to_do_where_it_is_done():
    assert bridge_uplink.plan_attach(state(master="br0"), state("br0"), "nic0", "br0") is None
    assert bridge_uplink.plan_detach(state(), None, "nic0", "br0") is None


def test_the_gateway_is_that_of_the_default_route():
    assert state().gateway() == "192.0.2.1"
    assert InterfaceState("nic0", {"addr_info": []}, ROUTES[3:]).gateway() == "fe80::1"
    assert InterfaceState("nic0", {"addr_info": []}, ROUTES[:1]).gateway() is None


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: bridge_uplink.plan_attach(None, None, "nic9", "br0"), "interface: 'nic9': no such interface"),
        (
            lambda: bridge_uplink.plan_attach(state(master="b"), None, "nic0", "br0"),
            "interface: 'nic0': is a port of b already",
        ),
        (
            lambda: bridge_uplink.plan_attach(state(), state("br0"), "nic0", "br0"),
            "bridge: 'br0': exists already, and nic0 is",
        ),
        (
            lambda: bridge_uplink.plan_detach(state(), state("br0"), "nic0", "br0"),
            "interface: 'nic0': is not a port of br0",
        ),
        (
            lambda: bridge_uplink.plan_detach(state(master="br0"), state("br0", ("nic0", "v0")), "nic0", "br0"),
            "bridge: 'br0': has other ports, v0",
        ),
    ],
)
def test_what_cannot_be_is_refused(call, message):
    with pytest.raises(ParameterError) as error:
        call()
    assert str(error.value).startswith(message)
