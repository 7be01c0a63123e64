# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The claims process on one host, with servers and a kernel in memory."""

from __future__ import annotations

import dataclasses
import threading
import time

import pytest

from ansible_collections.clustered.openvpn.plugins.module_utils._ring import (
    away,
    follower,
    health,
    host_follower,
    paths,
    restarts,
    siblings,
)
from ansible_collections.clustered.openvpn.plugins.module_utils._ring.failover import failover_from
from ansible_collections.clustered.openvpn.plugins.module_utils._state import files
from ansible_collections.clustered.openvpn.tests.unit.plugins.module_utils.layouts import layout

# The threads of checks end by SystemExit.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
NAMES = [f"vpn{i + 1}" for i in range(4)]


class Host:
    """Four members. C(stopped) do not answer; C(kernel) has the owners, each written state in C(written)."""

    def __init__(self, tmp_path, monkeypatch):
        settings = failover_from(files.state_of(layout(size=4, member_failover=True)))
        self.home = dict(settings.home)
        # Five times as fast as usual.
        self.settings = dataclasses.replace(settings, interval=0.14, timeout=0.16, rise=3)
        self.macs = settings.claims.macs
        self.stopped, self.kernel, self.written, self.restarted = set(), {}, [], []
        self.ended = False
        self._file = str(tmp_path / "vpn.away")
        self.write(self.home)
        self.written.clear()
        monkeypatch.setattr(paths, "away", lambda name: self._file)
        monkeypatch.setattr(paths, "health", lambda name: str(tmp_path / "health"))
        monkeypatch.setattr(paths, "saved_state", lambda name: str(tmp_path / "state"))
        monkeypatch.setattr(health.Checker, "__call__", lambda _checker, member, timeout: self._check(member, timeout))
        monkeypatch.setattr(follower, "kernel_owners", lambda claims: dict(self.kernel))
        monkeypatch.setattr(follower._claims, "transaction", lambda claims, owners: owners)
        monkeypatch.setattr(follower.nft, "run", self._run)
        monkeypatch.setattr(away, "present_owners", lambda failover, path: self.owners())
        monkeypatch.setattr(restarts, "restart_hung", lambda member, *_args: self.restarted.append(member.name))

    def write(self, owners):
        self.kernel = {bucket: self.macs[owner] for bucket, owner in owners.items()}
        self.written.append(owners)

    def _run(self, kernel):
        names = {mac: name for name, mac in self.macs.items()}
        self.write({bucket: names[mac] for bucket, mac in kernel.items()})

    def owners(self):
        names = {mac: name for name, mac in self.macs.items()}
        return {bucket: names[mac] for bucket, mac in self.kernel.items()}

    def _check(self, member, timeout):
        if self.ended:
            raise SystemExit  # of the thread
        if member.name not in self.stopped:
            return ""
        time.sleep(timeout)
        return "it does not answer"

    def away(self):
        return set(away.read(self._file))


class Process:
    """A claims process; its loop without signals and the FIFO."""

    def __init__(self, host):
        self._host, host.ended = host, False
        self.follower = host_follower.HostFollower(host.settings, "vpn")
        self._ends = threading.Event()
        for check in self.follower._checks:
            check.start()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        while not self._ends.wait(0.02):
            self.follower._apply()

    def end(self):
        self._ends.set()
        self._thread.join()
        self.follower._release()
        self._host.ended = True
        for check in self.follower._checks:
            check.join(5)


@pytest.fixture
def host(tmp_path, monkeypatch):
    return Host(tmp_path, monkeypatch)


@pytest.fixture
def process(host):
    made = Process(host)
    yield made
    made.end()


def wait_until(condition, seconds=5.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_member_that_hangs_is_replaced_and_gets_its_buckets_back(host, process):
    host.stopped.add("vpn1")
    wait_until(lambda: "vpn1" not in host.owners().values())
    assert {bucket for bucket, owner in host.owners().items() if owner != host.home[bucket]} == {
        bucket for bucket, owner in host.home.items() if owner == "vpn1"
    }
    assert host.away() == {"vpn1"}
    host.stopped.clear()
    wait_until(lambda: host.owners() == host.home)
    assert host.away() == set()
    assert len(host.written) == 2, "one move there, one back"


def test_most_members_hang(host, process):
    host.stopped |= {"vpn1", "vpn2", "vpn3"}
    time.sleep(1.5)
    host.stopped.clear()
    time.sleep(1.0)
    assert (host.written, host.restarted) == ([], [])


def test_the_follower_begins_with_what_the_kernel_holds_and_leaves_it(host):
    moved = siblings.shared_out(host.home, host.settings.claims.weights, NAMES[1:], host.home)
    host.write(moved)
    host.written.clear()
    host.stopped.add("vpn1")
    process = Process(host)
    time.sleep(1.0)
    process.end()
    assert host.written == []
    host.stopped.clear()
    process = Process(host)
    wait_until(lambda: host.owners() == host.home)
    process.end()


def test_a_server_that_hangs_is_restarted(host, process, monkeypatch):
    monkeypatch.setattr(siblings, "RESTART_AFTER", 0.5)
    host.stopped.add("vpn1")
    wait_until(lambda: host.restarted)
    time.sleep(0.3)
    assert host.restarted == ["vpn1"]
