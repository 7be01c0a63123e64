# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import errno

from ansible_collections.clustered.openvpn.plugins.module_utils._bundle import probe, reconcile
from ansible_collections.clustered.openvpn.plugins.module_utils._bundle.watch import TunnelWatch, received_packets
from ansible_collections.clustered.openvpn.plugins.module_utils._kernel import nft
from ansible_collections.clustered.openvpn.plugins.module_utils._kernel.command import CommandError

from .test_bundle import bundle


def test_packets_are_counted_by_the_interface():
    text = b"Inter-|   Receive\n face |bytes    packets errs\n    lo:  100   7 0 0\nsite-1: 5 9 0\n"
    assert received_packets(text) == {"lo": 7, "site-1": 9}


class Generations:
    """Generations of the ruleset; None: the kernel does not report one."""

    def __init__(self, numbers):
        self.numbers = iter(numbers)

    def now(self):
        number = next(self.numbers)
        if number is None:
            raise OSError
        return number


def refuse(lines):
    raise CommandError(["nft"], "busy")


def watch_of(made, monkeypatch, log=lambda text: None, generations=()):
    monkeypatch.setattr(nft, "Generation", lambda: Generations(generations))
    monkeypatch.setattr(reconcile, "bundle_table", lambda kernel, bundle: None)
    return TunnelWatch(made, None, log)


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

    logged = []
    watch = watch_of(bundle(1, 1), monkeypatch, logged.append)
    monkeypatch.setattr(probe.socket, "socket", Taken)
    for _round in range(3):
        for number in (1, 2):
            watch._send(bundle(1, 1).tunnels[number - 1])
    assert logged == [
        f"site: cannot open the probe socket 10.99.0.{number + 1} port 11940 on site-{number}: Address already in use"
        for number in (1, 2)
    ]


def test_the_table_is_looked_at_when_rules_have_changed(monkeypatch):
    watch = watch_of(bundle(1), monkeypatch, generations=[7, 7, 8, None, 8, 8])
    assert [watch._rules_changed() for _look in range(6)] == [True, False, True, True, False, False]
    monkeypatch.setattr(reconcile, "bundle_table", lambda kernel, bundle: [])
    monkeypatch.setattr(nft, "run", refuse)
    watch._update_spread([1])
    watch._rules.numbers = iter([8])
    assert watch._rules_changed(), "what could not be put right is looked at again"
