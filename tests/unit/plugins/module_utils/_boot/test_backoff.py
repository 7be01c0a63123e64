# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.clustered.openvpn.plugins.module_utils._boot.backoff import Backoff, Pace, identity

STEP = "ip neigh add proxy 192.0.2.10 dev eth0"


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (STEP, STEP),
        ("nft -f - <<'EOF'\nadd element netdev x owner { 7 : 02:00:00:00:00:01 }\nEOF", "add element netdev x owner"),
        ("ip netns exec vpn1 nft -f - <<'EOF'\nadd table ip x\nadd chain ip x y\nEOF", "add table ip x"),
    ],
)
def test_a_step_is_the_same_whichever_element_it_is_about(step: str, expected: str) -> None:
    assert identity(step) == expected


def undone_at_once(seconds: float) -> list[float]:
    """When the step is repaired, if another program undoes each repair at once."""
    backoff, now, repairs = Backoff(), 0.0, []
    while now < seconds:
        wait = backoff.wait([STEP], now)
        if wait == 0:
            backoff.repaired([STEP], now)
            repairs.append(now)
        now += wait or 0.5
    return repairs


def test_repairs_that_are_undone_get_rarer_up_to_once_a_minute() -> None:
    repairs = undone_at_once(600)
    gaps = [later - earlier for earlier, later in zip(repairs, repairs[1:])]
    assert gaps[:5] == [0.5] * 5
    assert gaps[5:11] == [2, 4, 8, 16, 32, 60]
    assert set(gaps[10:]) == {60}


def test_a_step_that_lasts_is_repaired_at_once_again() -> None:
    backoff = Backoff()
    for now in range(6):
        backoff.repaired([STEP], now)
    assert backoff.wait([STEP], 6.0) == 1.0
    assert backoff.slowest([STEP]) == (STEP, 2.0)
    backoff.repaired([STEP], 1000.0)
    assert backoff.wait([STEP], 1000.1) == 0


def test_another_step_is_not_delayed_by_one_that_is_undone() -> None:
    backoff = Backoff()
    for now in range(6):
        backoff.repaired([STEP], now)
    assert backoff.wait([STEP, "ip link add br-vpn type bridge mcast_snooping 0"], 6.0) == 0


def test_comparisons_in_vain_get_rarer_up_to_once_a_second_and_are_prompt_after_a_rest() -> None:
    pace, now, gaps = Pace(), 0.0, []
    for _time in range(8):
        now = max(now, pace.next())
        pace.compared(now, in_vain=True)
        gaps.append(round(pace.next() - now, 3))
    assert gaps == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0, 1.0, 1.0]
    pace.compared(now + 10, in_vain=True)
    assert round(pace.next() - now, 3) == 10.1
