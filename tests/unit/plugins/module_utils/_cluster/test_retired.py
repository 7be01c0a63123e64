# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.clustered.openvpn.tests.unit.plugins.module_utils.layouts import (
    BRIDGED,
    FAILOVER,
    INSTANCES,
    LAN,
    MEMBERS,
    NOTHING,
    SIX,
    UDP,
    UDP_IPV6,
    layout,
    members,
    names,
)


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


def test_a_server_with_the_port_or_the_pool_of_a_former_one_waits_for_it_to_stop():
    first = layout(members=members(1, 2), instances=[UDP])
    renamed = layout(first, members=members(1), instances=[{**UDP, "name": "other"}])
    assert names(renamed["retired"]["in_the_way"]) == {"vpn1-udp"}
    assert names(renamed["retired"]["servers"]) == {"vpn1-udp", "vpn2-udp"}
    fewer = layout(first, members=members(1), instances=[UDP])
    assert fewer["retired"]["in_the_way"] == []


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


# The NIC is a port of a bridge that has its addresses.
STILL_AT_BR0 = {**LAN, "br0": {**LAN["br0"], "interfaces": ["eth0"]}}


def test_a_nic_that_was_taken_is_given_back_when_the_bridge_is_left():
    taken = layout(**BRIDGED, take_interface=True)
    nic = {"bridge": "br0", "interface": "eth0"}
    assert layout(taken, **BRIDGED, take_interface=True)["retired"] == NOTHING
    routed = layout(taken)
    assert routed["retired"]["nics"] == [nic]
    assert layout(routed)["retired"]["nics"] == [nic], "until it was"
    assert layout({**routed, "retired": NOTHING})["retired"]["nics"] == []
    assert layout(routed, **BRIDGED, take_interface=True)["retired"]["nics"] == [], "it is back before it has left"
    moved = layout(taken, **{**BRIDGED, "bridge": "br1", "facts": STILL_AT_BR0}, take_interface=True)
    assert moved["retired"]["nics"] == [nic]
    assert moved["take_interface"]
    again = layout(moved)
    assert again["retired"]["nics"] == [{"bridge": "br1", "interface": "eth0"}, nic], "neither is forgotten"
    somebodys = layout(**BRIDGED)
    assert layout(somebodys)["retired"]["nics"] == [], "a bridge that the role has not made"


def test_members_that_were_about_to_leave_a_bridge_leave_it_with_the_others():
    facts = {**LAN, "interfaces": [*LAN["interfaces"], "ve-vpn3"]}
    shrinking = layout(layout(**BRIDGED), **{**BRIDGED, "size": 2, "facts": facts})
    routed = layout(shrinking, size=2, facts={"interfaces": ["eth0", "ve-vpn3"]})
    (former,) = routed["retired"]["former_bridges"]
    assert former["ports"] == ["ve-vpn1", "ve-vpn2", "ve-vpn3"]
    assert layout(routed, size=2)["retired"]["former_bridges"] == [former]


def test_an_election_that_is_wanted_no_more_is_to_be_ended():
    first = layout(members=members(1), failover=FAILOVER)
    second = layout(first, members=members(1))
    assert first["retired"]["failover"] == {}
    assert second["retired"]["failover"] == FAILOVER
    assert layout(second, members=members(1))["retired"]["failover"] == FAILOVER, "until it has been"
    assert layout(second, members=members(1), failover=FAILOVER)["retired"]["failover"] == {}
