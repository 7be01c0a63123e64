# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.clustered.openvpn.plugins.module_utils._cluster import foreign_names, nic
from ansible_collections.clustered.openvpn.plugins.module_utils._cluster.foreign_names import Present
from ansible_collections.clustered.openvpn.plugins.module_utils._kernel.observed import Link
from ansible_collections.clustered.openvpn.plugins.module_utils._params import ParameterError
from ansible_collections.clustered.openvpn.plugins.module_utils._state import files
from ansible_collections.clustered.openvpn.tests.unit.plugins.module_utils.layouts import BRIDGED, layout

REMEDY = "choose another name, or set netns_cluster_adopt: true to take it over; state absent then removes it"
FILE = "/etc/openvpn/server/vpn1-udp.conf"
BRIDGE = {
    "br-vpn": Link("br-vpn", "bridge", mac="02:00:00:00:00:09", addresses=frozenset({"172.16.0.1/24"})),
    "tap7": Link("tap7", "tun", master="br-vpn"),
}
FOREIGN = {
    "bridge": (Present(links=BRIDGE), "the interface br-vpn (172.16.0.1/24, port tap7) of this host is not its bridge"),
    "namespace": (
        Present(namespaces={"vpn1": {"lo": Link("lo", None), "wg0": Link("wg0", "wireguard")}}),
        "the network namespace vpn1 of this host was not made for it and holds wg0",
    ),
    "empty namespace": (Present(namespaces={"vpn1": {"lo": Link("lo", None)}}), "holds no interface"),
    "link": (Present(links={"ve-vpn2": Link("ve-vpn2", "veth")}), "ve-vpn2 of this host is not its link to a member"),
    "configuration": (Present(configurations={FILE: "# Ansible managed\nport 1194\n"}), f"{FILE} exists and was not"),
}


def errors(present, before=None, **changes):
    now = files.state_of(layout(before, **changes))
    return foreign_names.errors(now, files.state_of(before) if before else None, present)


@pytest.mark.parametrize(("present", "reason"), FOREIGN.values(), ids=FOREIGN)
def test_a_name_that_something_else_has_is_refused_unless_a_state_on_disk_has_it(present, reason):
    for changes in ({}, {"leaving": True}):
        (error,) = errors(present, **changes)
        assert error.startswith("name: 'vpn': ")
        assert reason in error
        assert error.endswith(REMEDY)
    before = layout()
    assert errors(present, before) == []
    # removed from the cluster, and still to be removed from the host
    assert errors(present, layout(before, size=1), leaving=True) == []


def test_a_new_member_may_not_take_a_name_either():
    before = layout(size=1)
    present = Present(namespaces={name: {"lo": Link("lo", None)} for name in ("vpn1", "vpn2")})
    (error,) = errors(present, before, size=2)
    assert "namespace vpn2" in error


def test_without_a_state_ours_are_recognised_by_mac_addresses_and_configurations():
    state = layout()
    inside = {m["name"]: {"eth0": Link("eth0", "veth", mac=m["mac"])} for m in state["members"]}
    links = {"br-vpn": Link("br-vpn", "bridge", mac=state["bridges"][0]["mac"])}
    links |= {veth["name"]: Link(veth["name"], "veth", master="br-vpn") for veth in state["veths"]}
    content = "# Whatever\nconfig /etc/clustered-openvpn/vpn/server.conf\ndev tun-udp\n"
    assert errors(Present(links, inside, {FILE: content})) == []


def test_the_bridge_of_the_lan_is_somebody_elses_and_used():
    assert errors(Present(links={"br0": Link("br0", "bridge")}), **BRIDGED) == []


def test_but_it_is_not_taken_for_one_that_was_made_for_the_nic():
    present, taken = Present(links={"br0": Link("br0", "bridge")}), {**BRIDGED, "take_interface": True}
    for leaving in (False, True):
        (error,) = errors(present, layout(**BRIDGED), **taken, leaving=leaving)
        assert "br0 of this host was not made by netns_cluster_take_interface, which has to be false" in error
    before = layout(**taken)
    assert errors(present, before, **taken) == []


def test_the_tunnel_of_a_host_that_is_the_member_is_one_more_name():
    changes = {"uplink": "local", "members": [{"name": "vpn", "number": 1}]}
    (error,) = errors(Present(links={"tun-udp": Link("tun-udp", "tun")}), **changes)
    assert "tun-udp of this host is not its tunnel" in error
    assert errors(Present(links={"tun-udp": Link("tun-udp", "tun")}), layout(**changes), **changes) == []


# --- the NIC ----------------------------------------------------------------------------------------------------------

ETH = {"eth1": Link("eth1", None, mac="02:00:00:00:00:01", addresses=frozenset({"192.0.2.2/24"}))}


def nic_error(links, before=None, **changes):
    return nic.error(files.state_of(layout(before, **changes)), links)


@pytest.mark.parametrize("mac", [None, "00:00:00:00:00:00", "c0:00:02:01"])
def test_a_nic_without_a_mac_address_is_refused_with_others_to_give(mac):
    message = nic_error({**ETH, "eth0": Link("eth0", "tun", mac=mac)})
    assert message.startswith("interface: 'eth0': has no MAC address")
    assert message.endswith("use one of: eth1")


@pytest.mark.parametrize("kind", ["bridge", "bond", "team"])
def test_a_port_is_refused_with_the_master_to_give(kind):
    links = {
        "br9": Link("br9", kind, mac="02:00:00:00:00:01"),
        "eth0": Link("eth0", None, mac="02:00:00:00:00:01", master="br9"),
    }
    assert nic_error(links) == ("interface: 'eth0': is a port of br9, which receives its packets; use interface br9")
    assert nic_error({**links, "br9": Link("br9", "vrf")}) is None
    assert nic_error(links, **BRIDGED) is None
    assert nic_error({"eth0": links["br9"]}) is None


def test_a_nic_that_comes_back_from_a_bridge_is_not_refused():
    taken = layout(**BRIDGED, take_interface=True)
    links = {
        "br0": Link("br0", "bridge", mac="02:00:00:00:00:01"),
        "eth0": Link("eth0", None, mac="02:00:00:00:00:01", master="br0"),
    }
    assert nic_error(links, taken) is None


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"address": "192.0.2.255"}, "address: '192.0.2.255': is the broadcast address of 192.0.2.0/24 on br0"),
        ({"address": "192.0.2.0"}, "address: '192.0.2.0': is the network address of 192.0.2.0/24 on br0"),
    ],
)
def test_addresses_that_are_no_hosts_are_refused(changes, reason):
    with pytest.raises(ParameterError, match=reason):
        layout(**{**BRIDGED, **changes})
    layout(**{**BRIDGED, **changes, "leaving": True})
