# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json

import pytest

from ansible_collections.clustered.openvpn.plugins.module_utils._params import ParameterError
from ansible_collections.clustered.openvpn.tests.unit.plugins.module_utils.layouts import BRIDGED, LAN, UDP, layout


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


@pytest.mark.parametrize("holder", ["br1", "eth0", "br0"])
def test_the_lan_is_where_the_nic_is_until_it_is_a_port_of_the_bridge(holder):
    facts = {"interfaces": ["eth0", "br0", "br1"], "eth0": {}, "br0": {"interfaces": ["eth0"]}, "br1": {}}
    facts[holder] = {**facts[holder], "ipv4": LAN["br0"]["ipv4"]}
    facts["default_ipv4"] = {"interface": holder, "gateway": "192.0.2.1"}
    result = layout(**{**BRIDGED, "bridge": "br1", "facts": facts})
    assert result["members"][0]["address"] == "192.0.2.11"
    assert result["veths"][0]["peer"]["routes"][0] == {"dst": "default", "via": "192.0.2.1"}


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
