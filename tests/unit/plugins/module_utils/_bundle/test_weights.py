# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.clustered.openvpn.plugins.module_utils._bundle.weights import flow_buckets, packet_slots
from ansible_collections.clustered.openvpn.plugins.module_utils._params import ParameterError


@pytest.mark.parametrize(
    ("weights", "slots"),
    [
        ({1: 1, 2: 1, 3: 1}, [1, 2, 3]),
        ({1: 3, 2: 1}, [1, 1, 2, 1]),
        ({1: 150, 2: 50}, [1, 1, 2, 1]),
        ({1: 3, 2: 2}, [1, 2, 1, 2, 1]),
        ({1: 0, 2: 5}, [2]),
    ],
)
def test_packets_are_dealt_by_weight_and_evenly(weights, slots):
    assert packet_slots(weights) == slots


@pytest.mark.parametrize("weights", [{1: 0, 2: 0}, {1: 1009, 2: 17}, {}])
def test_weights_that_say_nothing_are_refused(weights):
    with pytest.raises(ParameterError, match="weight"):
        packet_slots(weights)


def test_flows_of_live_tunnels_stay_where_they_are():
    weights = {1: 1, 2: 1, 3: 1, 4: 1}
    all_live, three = flow_buckets(weights, [1, 2, 3, 4]), flow_buckets(weights, [1, 3, 4])
    assert three[2] == []
    assert sorted(b for buckets in three.values() for b in buckets) == list(range(1, 257))
    for number in (1, 3, 4):
        assert set(all_live[number]) <= set(three[number])
