# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import errno

import pytest

from ansible_collections.clustered.openvpn.plugins.module_utils._bundle import reconcile
from ansible_collections.clustered.openvpn.plugins.module_utils._bundle import watch as _watch
from ansible_collections.clustered.openvpn.plugins.module_utils._bundle.liveness import Health, interval
from ansible_collections.clustered.openvpn.plugins.module_utils._bundle.watch import Watch, received_packets
from ansible_collections.clustered.openvpn.plugins.module_utils._kernel import nft
from ansible_collections.clustered.openvpn.plugins.module_utils._kernel.command import CommandError

from .test_bundle import bundle


def alive(**other):
    return Health(1.0, heard=0.0, good=True, live=True, **other)


def test_a_tunnel_is_back_after_two_answers():
    health = Health(1.0)
    assert not health.judge(0.0)
    health.received(0.1, True, 5.0, 0.0)
    assert not health.judge(0.1)
    health.received(0.2, True, 5.1, 0.1)
    assert health.judge(0.2)


def test_what_was_in_a_queue_brings_no_tunnel_back():
    health = Health(1.0)
    for late in (100.0, 100.1, 100.2):
        health.received(late, True, 5.0, 90.0)
        assert not health.judge(late)


def test_a_silent_tunnel_dies():
    health = alive()
    assert health.judge(0.99)
    assert not health.judge(1.01)


def test_a_busy_tunnel_that_loses_our_datagrams_lives():
    health = alive()
    for tenths in range(1, 50):
        health.carried(tenths / 10)
        assert health.judge(tenths / 10)


def test_a_tunnel_whose_other_end_hears_nothing_dies():
    health = alive()
    health.received(0.1, False, 5.0, 0.0)
    assert not health.judge(0.1)


@pytest.mark.parametrize(("timeout", "seconds"), [(0.8, 0.1), (60, 0.5)])
def test_datagrams_are_many_enough(timeout, seconds):
    assert interval(timeout) == pytest.approx(seconds)


def test_packets_are_counted_by_the_interface():
    text = "Inter-|   Receive\n face |bytes    packets errs\n    lo:  100   7 0 0\nsite-1: 5 9 0\n"
    assert received_packets(text) == {"lo": 7, "site-1": 9}


class Generations:
    """Those of the rules; None where the kernel does not tell."""

    def __init__(self, numbers):
        self.numbers = iter(numbers)

    def now(self):
        number = next(self.numbers)
        if number is None:
            raise OSError
        return number


def refuse(lines):
    raise CommandError(["nft"], "busy")


def watch_of(made, monkeypatch, say=lambda text: None, generations=()):
    monkeypatch.setattr(nft, "Generation", lambda: Generations(generations))
    monkeypatch.setattr(reconcile, "bundle_table", lambda kernel, made: None)
    return Watch(made, None, say)


def test_a_port_that_cannot_be_had_is_told_once(monkeypatch):
    class Taken:
        def __init__(self, *what):
            del what

        def bind(self, address):
            raise OSError(errno.EADDRINUSE, "Address already in use", address)

        def close(self):
            pass

        def setsockopt(self, *what):
            pass

    said = []
    watch = watch_of(bundle(1, 1), monkeypatch, said.append)
    monkeypatch.setattr(_watch.socket, "socket", Taken)
    for _round in range(3):
        for number in (1, 2):
            watch._send(bundle(1, 1).tunnels[number - 1])
    assert said == [
        f"site: 10.99.0.{number + 1} port 11940 on site-{number} cannot be watched: Address already in use"
        for number in (1, 2)
    ]


def test_the_table_is_looked_at_when_rules_have_changed(monkeypatch):
    watch = watch_of(bundle(1), monkeypatch, generations=[7, 7, 8, None, 8, 8])
    assert [watch._touched() for _look in range(6)] == [True, False, True, True, False, False]
    monkeypatch.setattr(reconcile, "bundle_table", lambda kernel, made: [])
    monkeypatch.setattr(nft, "run", refuse)
    watch._spread([1])
    watch._rules.numbers = iter([8])
    assert watch._touched(), "what could not be put right is looked at again"
