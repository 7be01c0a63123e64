# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.clustered.openvpn.plugins.module_utils._bundle.liveness import Liveness
from ansible_collections.clustered.openvpn.plugins.module_utils._bundle.probe import Probe, interval


def alive(**other):
    return Liveness(1.0, last_received=0.0, peer_receiving=True, live=True, **other)


def test_a_tunnel_is_back_after_two_answers():
    tunnel = Liveness(1.0)
    assert not tunnel.update(0.0)
    tunnel.probe_received(0.1, Probe(True, 5.0, 0.0))
    assert not tunnel.update(0.1)
    tunnel.probe_received(0.2, Probe(True, 5.1, 0.1))
    assert tunnel.update(0.2)


def test_what_was_in_a_queue_brings_no_tunnel_back():
    tunnel = Liveness(1.0)
    for late in (100.0, 100.1, 100.2):
        tunnel.probe_received(late, Probe(True, 5.0, 90.0))
        assert not tunnel.update(late)


def test_a_silent_tunnel_dies():
    tunnel = alive()
    assert tunnel.update(0.99)
    assert not tunnel.update(1.01)


def test_a_busy_tunnel_that_loses_our_datagrams_lives():
    tunnel = alive()
    for tenths in range(1, 50):
        tunnel.packets_received(tenths / 10)
        assert tunnel.update(tenths / 10)


def test_a_tunnel_whose_other_end_hears_nothing_dies():
    tunnel = alive()
    tunnel.probe_received(0.1, Probe(False, 5.0, 0.0))
    assert not tunnel.update(0.1)


@pytest.mark.parametrize(("timeout", "seconds"), [(0.8, 0.1), (60, 0.5)])
def test_datagrams_are_many_enough(timeout, seconds):
    assert interval(timeout) == pytest.approx(seconds)


def test_a_probe_is_read_as_it_was_sent():
    probe = Probe(True, 5.25, 7.5)
    assert len(probe.pack()) == 25
    assert Probe.parse(probe.pack()) == probe
    for other in (b"", probe.pack()[:-1], b"cluster2" + probe.pack()[8:]):
        assert Probe.parse(other) is None
