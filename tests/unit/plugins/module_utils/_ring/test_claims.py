# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.clustered.openvpn.plugins.module_utils._ring import claims
from ansible_collections.clustered.openvpn.plugins.module_utils._ring import election as _election

CLAIMS = claims.Claims(
    tables=(("netdev", "clustered_openvpn_vpn", "map owner"), ("bridge", "clustered_openvpn_vpn", "map owner")),
    slots=4,
    total_nodes=8,
    weights={"vpn1": 1, "vpn2": 1},
    macs={"vpn1": "02:00:00:00:00:01", "vpn2": "02:00:00:00:00:02"},
)
LOCAL = claims.Claims((("netdev", "clustered_openvpn_web", "set owned"),), 4, 8, {"web": 1}, {"web": ""})


def election(*lines, at=0.0, linger=0.1):
    made = _election.Election(linger)
    for line in lines:
        made.read_line(line, at)
    return made


def test_a_slot_is_held_while_keepalived_says_so():
    made = election('INSTANCE "vpn-3" MASTER 250', 'INSTANCE "vpn-4" BACKUP 242')
    assert made.held(100.0) == {3}


def test_what_another_host_takes_is_accepted_for_a_moment_more():
    made = election('INSTANCE "vpn-3" MASTER 250')
    made.read_line('INSTANCE "vpn-3" BACKUP 250', 5.0)
    assert made.next_release() == pytest.approx(5.1)
    made.read_line('INSTANCE "vpn-3" BACKUP 250', 5.05)
    assert made.held(5.09) == {3}
    assert made.held(5.11) == set()
    assert made.next_release() == float("inf"), "nothing to wait for"


def test_a_host_that_is_not_well_lets_go_at_once():
    made = election('INSTANCE "vpn-3" MASTER 250')
    made.read_line('INSTANCE "vpn-3" FAULT 250', 5.0)
    assert made.held(5.0) == set()


@pytest.mark.parametrize(
    "line", ["", 'GROUP "all" MASTER 0', 'INSTANCE "x" MASTER 1', 'INSTANCE "vpn-3" MASTER_RX_LOWER_PRI 250x']
)
def test_other_lines_say_nothing(line):
    assert election(line).held(0.0) == set()


def test_a_message_about_lower_priorities_does_not_give_a_slot():
    made = election('INSTANCE "vpn-3" MASTER_RX_LOWER_PRI 250')
    assert made.held(0.0) == set()
    assert election('INSTANCE "vpn-3" MASTER 250', 'INSTANCE "vpn-3" MASTER_RX_LOWER_PRI 250').held(0.0) == {3}


def test_nobody_at_the_other_end_means_nothing_is_held():
    made = election('INSTANCE "vpn-3" MASTER 250')
    made.clear()
    assert made.held(0.0) == set()


def test_addresses_are_believed_the_second_time():
    made = election('INSTANCE "vpn-3" MASTER 250')
    made.compare({2})
    assert made.held(0.0) == {3}
    made.compare({2})
    assert made.held(0.0) == {2}
    made.compare({2})
    assert made.held(0.0) == {2}


def test_slots_are_shared_out_among_members_that_are_well():
    both = claims.shared_out(CLAIMS, {1, 2, 3, 4}, {"vpn1", "vpn2"}, {})
    assert sorted(both.values()) == ["vpn1", "vpn1", "vpn2", "vpn2"]
    assert claims.shared_out(CLAIMS, {1, 2, 3, 4}, {"vpn1", "vpn2"}, both) == both, "they stay"
    one = claims.shared_out(CLAIMS, {1, 2, 3, 4}, {"vpn2"}, both)
    assert set(one.values()) == {"vpn2"}
    back = claims.shared_out(CLAIMS, {1, 2, 3, 4}, {"vpn1", "vpn2"}, one)
    assert sorted(back.values()) == ["vpn1", "vpn1", "vpn2", "vpn2"]
    assert claims.shared_out(CLAIMS, {1, 2}, set(), both) == {}


def test_a_drained_member_is_better_than_none():
    drained = claims.Claims(CLAIMS.tables, 4, 8, {"vpn1": 0, "vpn2": 1}, CLAIMS.macs)
    assert set(claims.shared_out(drained, {1, 2}, {"vpn1", "vpn2"}, {}).values()) == {"vpn2"}
    assert set(claims.shared_out(drained, {1, 2}, {"vpn1"}, {}).values()) == {"vpn1"}


def test_one_transaction_sets_all_tables():
    wanted = claims.elements(CLAIMS, {1: "vpn1", 2: "vpn2"})
    assert wanted == {1: CLAIMS.macs["vpn1"], 5: CLAIMS.macs["vpn1"], 2: CLAIMS.macs["vpn2"], 6: CLAIMS.macs["vpn2"]}
    owners = "1 : 02:00:00:00:00:01, 2 : 02:00:00:00:00:02, 5 : 02:00:00:00:00:01, 6 : 02:00:00:00:00:02"
    assert claims.transaction(CLAIMS, wanted) == [
        "flush map netdev clustered_openvpn_vpn owner",
        f"add element netdev clustered_openvpn_vpn owner {{ {owners} }}",
        "flush map bridge clustered_openvpn_vpn owner",
        f"add element bridge clustered_openvpn_vpn owner {{ {owners} }}",
    ]


def test_a_host_that_is_the_member_has_a_set():
    assert claims.transaction(LOCAL, claims.elements(LOCAL, {4: "web"})) == [
        "flush set netdev clustered_openvpn_web owned",
        "add element netdev clustered_openvpn_web owned { 4, 8 }",
    ]
    assert claims.transaction(LOCAL, {}) == ["flush set netdev clustered_openvpn_web owned"]


def test_changes_are_told_in_words():
    assert claims.changes({1: "vpn1", 2: "vpn1"}, {2: "vpn2", 3: "vpn2"}) == (
        "1 slots from other hosts to vpn2, 1 slots from vpn1 to other hosts, 1 slots from vpn1 to vpn2"
    )
