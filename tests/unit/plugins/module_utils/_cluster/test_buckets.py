# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ansible_collections.clustered.openvpn.plugins.module_utils._cluster import buckets as _buckets
from ansible_collections.clustered.openvpn.plugins.module_utils._params import ParameterError

NAMES = [f"vpn{i}" for i in range(1, 9)]
WEIGHTS = st.dictionaries(st.sampled_from(NAMES), st.integers(0, 9), min_size=1).filter(lambda w: any(w.values()))
TOTAL = st.integers(9, 64)


def held(owners):
    return {m: len(b) for m, b in owners.items()}


def lost(before, after):
    """The number of buckets that left an owner which still exists."""
    return sum(len(set(before[m]) - set(after[m])) for m in before if m in after)


@given(WEIGHTS, TOTAL, st.none() | WEIGHTS)
def test_every_bucket_has_one_owner(weights, total, before):
    previous = before and _buckets.owners(before, total)
    owners = _buckets.owners(weights, total, previous)
    assert list(owners) == list(weights)
    assert sorted(b for buckets in owners.values() for b in buckets) == list(range(1, total + 1))


@given(WEIGHTS, TOTAL, st.none() | WEIGHTS)
def test_shares_are_by_weight(weights, total, before):
    previous = before and _buckets.owners(before, total)
    for member, count in held(_buckets.owners(weights, total, previous)).items():
        assert abs(count - total * weights[member] / sum(weights.values())) < 1


@given(WEIGHTS, TOTAL)
@example({"vpn1": 1, "vpn2": 3}, 14)  # equal remainders, of unequal shares
def test_nothing_moves_when_nothing_changes(weights, total):
    owners = _buckets.owners(weights, total)
    assert _buckets.owners(weights, total) == owners
    assert _buckets.owners(weights, total, owners) == owners


@given(WEIGHTS, WEIGHTS, TOTAL)
def test_a_change_moves_no_more_than_it_must(before, after, total):
    """Members join, leave, change weights. One that gives away keeps exactly its share, one that gains loses none."""
    previous = _buckets.owners(before, total)
    owners = _buckets.owners(after, total, previous)
    count = held(owners)
    kept = held(previous)
    for member in after:
        assert len(set(owners[member]) & set(previous.get(member, ()))) == min(count[member], kept.get(member, 0))
    # The minimum is the sum of what the members lack.
    moved = sum(len(set(owners[m]) - set(previous.get(m, ()))) for m in after)
    assert moved == sum(max(0, count[m] - kept.get(m, 0)) for m in after)


@given(WEIGHTS, WEIGHTS, TOTAL)
def test_of_equal_remainders_one_that_holds_the_bucket_is_rounded_up(before, after, total):
    previous = _buckets.owners(before, total)
    whole = sum(after.values())
    count = held(_buckets.owners(after, total, previous))
    for up in after:
        for down in after:
            tie = total * after[up] % whole == total * after[down] % whole
            if tie and count[up] > total * after[up] // whole and count[down] == total * after[down] // whole:
                wanted_more = len(previous.get(down, ())) > count[down] and len(previous.get(up, ())) < count[up]
                assert not wanted_more, f"{down} gives a bucket to {up}, with the same right to it"


@given(WEIGHTS, st.integers(1, 9), TOTAL)
def test_growing_at_the_end_moves_no_more_than_it_must_even_without_memory(weights, weight, total):
    before = _buckets.owners(weights, total)
    after = _buckets.owners({**weights, "vpn9": weight}, total)
    assert lost(before, after) == sum(max(0, len(b) - len(before.get(m, ()))) for m, b in after.items())


def test_growing_from_nothing_by_ones_moves_shares_of_256_buckets():
    sizes = [_buckets.owners(dict.fromkeys(NAMES[:n], 1), 256) for n in range(1, 9)]
    assert [lost(a, b) for a, b in zip(sizes, sizes[1:])] == [128, 85, 64, 51, 42, 36, 32]


@pytest.mark.parametrize(
    ("weights", "previous", "expected"),
    [
        ({"a": 1, "b": 1}, None, {"a": [1, 2], "b": [3, 4]}),
        ({"a": 3, "b": 1}, None, {"a": [1, 2, 3], "b": [4]}),
        ({"a": 1, "b": 0}, {"a": [1, 2], "b": [3, 4]}, {"a": [1, 2, 3, 4], "b": []}),
        ({"a": 1, "b": 1}, {"a": [2, 4], "gone": [1, 3]}, {"a": [2, 4], "b": [1, 3]}),
        # Buckets out of range are ignored; a bucket that is claimed twice stays with the first owner.
        ({"a": 1, "b": 1}, {"a": [1, 7], "b": [1, 2, 0]}, {"a": [1, 3], "b": [2, 4]}),
        ({"a": 1, "b": 1, "c": 1}, {"a": [7, 8], "b": [1, 2], "c": [3]}, {"a": [4], "b": [1, 2], "c": [3]}),
        ({"a": 1, "b": 1}, {"a": [4]}, {"a": [1, 4], "b": [2, 3]}),
        ({"a": 1, "b": 1}, {}, {"a": [1, 2], "b": [3, 4]}),
    ],
)
def test_owners_of_four_buckets(weights, previous, expected):
    assert _buckets.owners(weights, 4, previous) == expected


@pytest.mark.parametrize(
    ("weights", "total", "message"),
    [
        ({}, 4, "members: {}: at least one member needs a weight above 0"),
        ({"a": 0}, 4, "members: {'a': 0}: at least one member needs a weight above 0"),
        ({"a": 1, "b": -2}, 4, "members[b].weight: -2: a weight is 0 or more; 0 drains"),
        ({"a": 1, "b": 1, "c": 0}, 1, "total_nodes: 1: fewer buckets than members; use at least 2"),
    ],
)
def test_refused(weights, total, message):
    with pytest.raises(ParameterError) as error:
        _buckets.owners(weights, total)
    assert str(error.value) == message
