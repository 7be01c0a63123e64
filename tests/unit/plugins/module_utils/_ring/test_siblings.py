# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.clustered.openvpn.plugins.filter.cluster import failed_over
from ansible_collections.clustered.openvpn.plugins.module_utils._openvpn.config import Config, read_config
from ansible_collections.clustered.openvpn.plugins.module_utils._ring import away, restarts, siblings
from ansible_collections.clustered.openvpn.plugins.module_utils._ring.failover import failover_from
from ansible_collections.clustered.openvpn.plugins.module_utils._state import files
from ansible_collections.clustered.openvpn.tests.unit.plugins.module_utils.layouts import layout

NAMES = [f"vpn{i + 1}" for i in range(4)]
WEIGHTS = dict.fromkeys(NAMES, 1)
HOME = {bucket: NAMES[(bucket - 1) // 4] for bucket in range(1, 17)}
SOME = st.sets(st.sampled_from(NAMES))


def made(weights=None):
    return siblings.Siblings(HOME, weights or WEIGHTS)


def owned_by(owners, member):
    return [bucket for bucket, owner in owners.items() if owner == member]


# --- who owns which bucket --------------------------------------------------------------------------------------------


@given(st.lists(SOME, max_size=8))
def test_each_bucket_has_an_owner_and_moves_only_if_it_must(steps):
    owners = dict(HOME)
    for healthy in steps:
        before, owners = owners, siblings.shared_out(HOME, WEIGHTS, healthy, owners)
        assert owners.keys() == HOME.keys()
        if not healthy:
            assert owners == before
            continue
        assert set(owners.values()) <= healthy
        for bucket, member in HOME.items():
            if member in healthy:
                assert owners[bucket] == member
            elif before[bucket] in healthy:
                assert owners[bucket] == before[bucket]
    assert siblings.shared_out(HOME, WEIGHTS, NAMES, owners) == HOME


def test_the_buckets_of_a_failed_member_are_shared_by_weight():
    owners = siblings.shared_out(HOME, {"vpn1": 1, "vpn2": 2, "vpn3": 1, "vpn4": 1}, NAMES[1:], HOME)
    assert [len(owned_by(owners, name)) for name in NAMES] == [0, 6, 5, 5]


def test_a_drained_member_takes_over_only_if_no_other_can():
    weights = {**WEIGHTS, "vpn4": 0}
    home = {bucket: NAMES[(bucket - 1) % 3] for bucket in range(1, 10)}
    assert "vpn4" not in siblings.shared_out(home, weights, ["vpn2", "vpn4"], home).values()
    assert set(siblings.shared_out(home, weights, ["vpn4"], home).values()) == {"vpn4"}


def test_a_bucket_without_an_owner_goes_home():
    assert siblings.completed(HOME, {1: "vpn2", 2: "gone"}) == {**HOME, 1: "vpn2"}


def test_a_new_process_takes_members_for_healthy_that_own_a_bucket_of_theirs():
    present = siblings.shared_out(HOME, WEIGHTS, NAMES[1:], HOME)
    assert siblings.starts_healthy(HOME, present) == set(NAMES[1:])


# --- when nothing moves -----------------------------------------------------------------------------------------------


def test_one_member_fails_and_recovers():
    group = made()
    group.update(100.0, ["vpn1"])
    owners = group.owners(100.0, [], HOME)
    assert owned_by(owners, "vpn1") == []
    group.update(105.0, [])
    assert group.owners(105.0, [], owners) == HOME


def test_when_most_fail_at_once_nothing_moves_until_all_is_calm_again():
    group = made()
    group.update(100.0, ["vpn1"])
    assert group.owners(100.0, ["vpn2", "vpn3"], HOME) == HOME, "their checks have no answer yet"
    group.update(100.4, ["vpn1", "vpn2", "vpn3"])
    assert not group.calm(100.4)
    assert group.owners(100.4, [], HOME) == HOME
    group.update(160.0, ["vpn1", "vpn2", "vpn3"])
    assert group.owners(160.0, [], HOME) == HOME, "for as long as it lasts"
    assert group.restarts(160.0) == []
    group.update(161.0, ["vpn3"])
    assert group.owners(161.0, [], HOME) == HOME, "the others may follow"
    assert group.restarts(161.0) == []
    assert owned_by(group.owners(171.0, [], HOME), "vpn3") == [], "it does not"
    assert group.restarts(171.0) == ["vpn3"]


def test_members_that_fail_one_after_the_other_are_replaced():
    group, owners = made(), dict(HOME)
    for i, name in enumerate(NAMES[:3]):
        group.update(100.0 + 20 * i, NAMES[: i + 1])
        owners = group.owners(100.0 + 20 * i, [], owners)
        assert owned_by(owners, name) == []
    assert set(owners.values()) == {"vpn4"}
    group.update(200.0, NAMES)
    assert group.owners(200.0, [], owners) == owners, "with nobody healthy, all stays as it is"


def test_of_two_members_one_replaces_the_other():
    home = {1: "vpn1", 2: "vpn2"}
    group = siblings.Siblings(home, {"vpn1": 1, "vpn2": 1})
    group.update(100.0, ["vpn2"])
    assert group.owners(100.0, ["vpn1"], home) == home, "not before it is certain that vpn1 answers"
    assert group.owners(100.3, [], home) == {1: "vpn1", 2: "vpn1"}
    group.update(101.0, ["vpn1", "vpn2"])
    assert group.owners(101.0, [], {1: "vpn1", 2: "vpn1"}) == {1: "vpn1", 2: "vpn1"}


# --- restarts ---------------------------------------------------------------------------------------------------------


def test_a_member_restarts_after_ten_seconds_and_not_again_for_a_minute():
    group = made()
    group.update(100.0, ["vpn1"])
    assert [group.restarts(now) for now in (100.0, 109.9, 110.0, 110.5, 169.9, 170.0)] == [
        *([], [], ["vpn1"], [], [], ["vpn1"])
    ]
    group.update(180.0, [])
    assert group.restarts(300.0) == []


@pytest.mark.parametrize(
    ("state", "children", "lines", "expected"),
    [
        ("T", True, "plugin x.so", False),
        ("R", True, "plugin x.so", False),
        ("S", False, "", False),
        ("S", True, "", True),
        ("S", False, "plugin x.so", True),
        ("D", True, "", True),
        ("", False, "plugin x.so", False),
    ],
)
def test_a_server_that_may_wait_for_a_log_in_is_not_restarted(state, children, lines, expected):
    assert restarts.waits(state, children, config(lines)) is expected
    assert restarts.waits("S", False, None) is False


def config(text):

    found = read_config("/x/y.conf", lambda path: text.encode() if path == "/x/y.conf" else None)
    assert isinstance(found, Config)
    return found


# --- the file, and a run meanwhile ------------------------------------------------------------------------------------


def test_the_file_of_moved_buckets(tmp_path):
    path = tmp_path / "vpn.away"
    file = away.Away(str(path))
    file.update({})
    assert not path.exists()
    owners = siblings.shared_out(HOME, WEIGHTS, NAMES[1:], HOME)
    file.update(siblings.away(HOME, owners))
    content = away.read(str(path))
    assert {**HOME, **away.owners_in(content)} == owners
    (sentence,) = away.sentences(content)
    assert sentence.startswith("4 buckets are moved away from vpn1 since 20")
    assert sentence.endswith("(2 at vpn2, 1 at vpn3, 1 at vpn4)")
    away.Away(str(path)).update(siblings.away(HOME, siblings.shared_out(HOME, WEIGHTS, NAMES[2:], owners)))
    assert away.read(str(path))["vpn1"]["since"] == content["vpn1"]["since"], "also of another process"
    away.Away(str(path)).update({})
    assert not path.exists()


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"a": 1}', '{"a": {"since": 1, "buckets": {"b": "x"}}}', b"\xff", "[" * 9999]
)
def test_a_damaged_file_is_no_file(text):
    assert away.parse(text) == {}


def test_a_run_gives_nothing_back_to_a_member_that_has_failed():
    given_layout = layout(size=4, member_failover=True)
    home = {bucket: one["netns"] for one in given_layout["nodes"] for bucket in one["local_nodes"]}
    moved = siblings.away(home, siblings.shared_out(home, WEIGHTS, NAMES[1:], home))
    found = json.dumps({member: {"since": 1.0, "buckets": some} for member, some in moved.items()})
    held = failed_over(given_layout, found)
    assert {one["netns"]: len(one["local_nodes"]) for one in held["nodes"]} == {
        "vpn1": 0,
        "vpn2": 86,
        "vpn3": 85,
        "vpn4": 85,
    }
    for holder in held["holders"]:
        (node,) = (one for one in held["nodes"] if holder["name"].startswith(one["netns"] + "-"))
        assert holder["local_nodes"] == node["local_nodes"]
    assert {**held, "nodes": 0, "holders": 0} == {**given_layout, "nodes": 0, "holders": 0}
    assert failed_over(given_layout) == given_layout
    smaller = failed_over(layout(given_layout, size=3, member_failover=True), found)
    owners = {bucket: one["netns"] for one in smaller["nodes"] for bucket in one["local_nodes"]}
    assert (len(owners), set(owners.values())) == (256, {"vpn2", "vpn3"}), "also those that vpn4 had for vpn1"


# --- where it is on ---------------------------------------------------------------------------------------------------


def test_members_of_one_host_replace_each_other():
    state = files.state_of(layout(size=2, member_failover=True))
    settings = failover_from(state)
    assert settings.home == {bucket: one.netns for one in state.nodes for bucket in one.local_nodes}
    assert settings.claims.slots == 256
    longest = settings.interval + settings.fall * settings.timeout
    assert longest <= 2.3, "clients are served within 2.5 s"


@pytest.mark.parametrize(
    "changes",
    [
        {"member_failover": False},
        {"claims": "keep"},
        {"shared": True, "buckets": [1, 2]},
        {"size": 1},
        {"distribution": "flood"},
        {"engine": "xt_cluster", "distribution": "flood", "total_nodes": 16},
        {"instances": [], "services": [{"protocol": "tcp", "port": 80}]},
    ],
)
def test_where_it_is_off(changes):
    assert not layout(**{"size": 2, "member_failover": True, **changes})["failover"]
