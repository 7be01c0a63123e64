# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections import Counter

import pytest

from ansible_collections.clustered.openvpn.plugins.module_utils._params import ParameterError
from ansible_collections.clustered.openvpn.plugins.module_utils._ring import slots as _slots

THREE = {"a": 1, "b": 1, "c": 1}


def test_every_bucket_is_in_one_slot():
    buckets = [b for slot in range(1, 65) for b in _slots.buckets_of([slot], 64, 256)]
    assert sorted(buckets) == list(range(1, 257))
    assert _slots.buckets_of([3], 64, 256) == [3, 67, 131, 195]


def test_hosts_have_slots_by_their_weights():
    assert [len(slots) for slots in _slots.preferred({"a": 1, "b": 2, "c": 1}, 64).values()] == [16, 32, 16]


def test_a_fourth_host_moves_its_share_alone():
    before = _slots.preferred(THREE, 64)
    after = _slots.preferred({**THREE, "d": 1}, 64, before)
    moves = _slots.moves(before, after)
    assert {to for by in moves.values() for to in by} == {"d"}
    assert sum(len(slots) for by in moves.values() for slots in by.values()) == 16
    gone = _slots.preferred(THREE, 64, after)
    assert set(_slots.moves(after, gone)) == {"d"}


def test_what_a_dead_host_leaves_is_spread():
    hosts = {**THREE, "d": 1, "e": 1}
    first = _slots.preferred(hosts, 64)
    ranks = _slots.ranks(hosts, first)
    assert all(sorted(order) == sorted(hosts) for order in ranks.values())
    assert all(ranks[slot][0] == host for host, slots in first.items() for slot in slots)
    for host, slots in first.items():
        counts = Counter(ranks[slot][1] for slot in slots)
        assert set(counts) == set(hosts) - {host}
        assert max(counts.values()) - min(counts.values()) <= 1
    # When two are gone, too.
    third = Counter(ranks[slot][2] for slot in first["a"] if ranks[slot][1] == "b")
    assert set(third) == {"c", "d", "e"}


def test_a_drained_host_is_the_last():
    hosts = {"a": 1, "b": 1, "z": 0}
    ranks = _slots.ranks(hosts, _slots.preferred(hosts, 8))
    assert {order[-1] for order in ranks.values()} == {"z"}


def test_moves_say_from_whom_to_whom():
    assert _slots.moves({}, {"a": [1, 2]}) == {"": {"a": [1, 2]}}
    assert _slots.moves({"a": [1, 2], "b": []}, {"a": [1], "b": [2]}) == {"a": {"b": [2]}}


@pytest.mark.parametrize("weights", [{"a": 0, "b": 0}, {"a": -1, "b": 1}, {str(i): 1 for i in range(32)}])
def test_weights_that_cannot_be(weights):
    with pytest.raises(ParameterError, match=r"^(weight|hosts): "):
        _slots.preferred(weights, 64)
