# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from dataclasses import replace

import pytest

from ansible_collections.clustered.openvpn.plugins.module_utils._bundle import spread
from ansible_collections.clustered.openvpn.plugins.module_utils._params import ParameterError

from .test_bundle import bundle


def listing(made, live):
    """The chain as nft lists it; only the comments matter."""
    chain = spread.table(made, live).chains["spread"]
    return [{"rule": {"chain": "spread", "comment": chain.comment(rule), "expr": []}} for rule in chain.rules]


def test_the_spread_is_over_the_tunnels_that_are_live():
    made = bundle(1, 1, 1, 1)
    (rule,) = spread.table(made, [1, 3, 4]).chains["spread"].rules
    assert rule.text == "meta mark set numgen inc mod 3 map { 0 : 1195, 1 : 1197, 2 : 1198 }"
    assert rule.purpose == "live: 1 3-4"


def test_with_no_live_tunnel_nothing_is_sent_into_one():
    (rule,) = spread.table(bundle(1, 1), []).chains["spread"].rules
    assert rule.text.startswith("reject")


@pytest.mark.parametrize("live", [[1, 2, 3, 4, 5], [2, 4], [1, 2, 5], []])
def test_the_table_says_which_tunnels_are_live(live):
    made = bundle(1, 1, 1, 1, 1)
    assert spread.live_tunnels(made, listing(made, live)) == live


def test_a_comment_stays_short_for_any_live_tunnels():
    made = bundle(*[1] * 64)
    chain = spread.table(made, range(1, 65, 2)).chains["spread"]
    assert all(len(chain.comment(rule)) < 128 for rule in chain.rules)


def test_nobody_watches_so_all_are_live():
    assert spread.live_tunnels(bundle(1, 0, 2, timeout=0), None) == [1, 3]


def test_a_new_bundle_begins_without_live_tunnels():
    assert spread.live_tunnels(bundle(1, 1), None) == []


def test_flows_need_one_rule_with_ports_and_one_without_for_each_family():
    made = bundle(1, 1, spread="per_flow")
    texts = [rule.text for rule in spread.table(made, [1, 2]).chains["spread"].rules]
    assert len(texts) == 2
    assert ["th sport" in text for text in texts] == [False, True]


def test_a_common_source_needs_an_address():
    made = replace(bundle(1), snat="common", addresses=())
    with pytest.raises(ParameterError, match="snat"):
        spread.table(made, [1])
