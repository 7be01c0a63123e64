# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A bundle of real tunnels: who gets how many packets, in all ways that there are."""

from __future__ import annotations

import os
import typing as t
from itertools import count
from pathlib import Path

import pytest

from .bundle_lab import HOSTS, OWN, BundleLab, Counter, send

_numbers = count()


@pytest.fixture(scope="module")
def bundle(pki: Path) -> t.Iterator[BundleLab]:
    """Four tunnels, per packet."""
    made = BundleLab(f"u{os.getpid() % 10000}x{next(_numbers)}", pki)
    try:
        made.converge()
        made.wait_live([1, 2, 3, 4])
        yield made
    finally:
        made.remove()


def shares(bundle: BundleLab, end: int, source: str, to: str, packets: int = 4000) -> dict[int, int]:
    """What each tunnel got of so many datagrams, all of which arrived."""
    other = bundle.hosts[1 - end] if source == bundle.hosts[end] else bundle.ends[1 - end]
    counter = Counter(other, to, 5000)
    try:
        before = bundle.counts(end, 5000)
        send(source, (to, 5000), packets, rate=4000)
        assert counter.wait(packets) == packets
    finally:
        counter.stop()
    return {number: count - before[number] for number, count in bundle.counts(end, 5000).items()}


@pytest.mark.parametrize("end", [0, 1], ids=["a to b", "b to a"])
@pytest.mark.parametrize("version", [0, 1], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("how", ["forwarded", "local"])
def test_four_thousand_packets_are_a_thousand_for_each(bundle: BundleLab, end: int, version: int, how: str) -> None:
    if how == "forwarded":
        found = shares(bundle, end, bundle.hosts[end], HOSTS[1 - end][version])
    else:
        found = shares(bundle, end, bundle.ends[end], OWN[1 - end][version])
    assert found == dict.fromkeys([1, 2, 3, 4], 1000)


@pytest.mark.parametrize("end", [0, 1], ids=["a to b", "b to a"])
def test_weights_of_three_and_one_are_three_and_one(bundle: BundleLab, end: int) -> None:
    bundle.converge(tunnels=[{"weight": 3}, {"weight": 1}, {"weight": 0}, {"weight": 0}])
    bundle.wait_live([1, 2])
    assert shares(bundle, end, bundle.hosts[end], HOSTS[1 - end][0]) == {1: 3000, 2: 1000, 3: 0, 4: 0}
