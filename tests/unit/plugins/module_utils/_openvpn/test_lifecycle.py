# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The order in which instances are restarted."""

from __future__ import annotations

import pytest

from ansible_collections.clustered.openvpn.plugins.module_utils._openvpn.instance import Instance
from ansible_collections.clustered.openvpn.plugins.module_utils._openvpn.lifecycle import Lifecycle
from ansible_collections.clustered.openvpn.plugins.module_utils._openvpn.managed import ManagedInstance
from ansible_collections.clustered.openvpn.plugins.module_utils._openvpn.plan import Action, Desired, Observed
from ansible_collections.clustered.openvpn.plugins.module_utils._openvpn.supervisor_process import ProcessSupervisor

MEMBERS = [("vpn1-udp", "vpn1"), ("vpn1-tcp", "vpn1"), ("vpn2-udp", "vpn2"), ("vpn2-tcp", "vpn2"), ("a", ""), ("b", "")]


class Recorder(Lifecycle):
    """Records the restarts, and lets those in C(failing) fail."""

    def __init__(self, failing: str = "") -> None:
        super().__init__(ProcessSupervisor(), Desired(), 1, print)
        self.failing = failing
        self.done: list[str] = []
        for name, netns in MEMBERS:
            self.managed[name] = ManagedInstance(Instance(name, netns=netns), None, [], Observed(pid=7), None, "")

    def _apply_one(self, action: Action) -> None:
        self.done.append(action.target.name)
        if action.target.name == self.failing:
            self.managed[self.failing].fail("not ready")

    def restart(self) -> None:
        self._restart_in_turn([Action("restart", managed.instance) for managed in self.managed.values()])


def test_members_are_restarted_in_turn() -> None:
    task = Recorder()
    task.restart()
    assert [set(task.done[:2]), set(task.done[2:4]), task.done[4:]] == [
        {"vpn1-udp", "vpn1-tcp"},
        {"vpn2-udp", "vpn2-tcp"},
        ["a", "b"],
    ]
    assert task.errors == []


def test_after_a_failure_the_other_members_keep_serving() -> None:
    task = Recorder(failing="vpn1-tcp")
    task.restart()
    assert set(task.done) == {"vpn1-udp", "vpn1-tcp"}
    assert len(task.errors) == 5
    assert "vpn2-udp: not restarted, because vpn1-tcp failed; it runs as before" in task.errors


@pytest.mark.parametrize(
    ("op", "observed", "interrupts"),
    [
        ("restart", Observed(pid=7), True),
        ("restart", Observed(pid=0), False),  # its process died
        ("restart", Observed(pid=7, in_netns=False), False),  # it serves nobody: repaired at once
        ("start", Observed(), False),
    ],
)
def test_only_what_serves_waits_for_its_turn(op: str, observed: Observed, interrupts: bool) -> None:
    task = Recorder()
    task.managed["a"].observed = observed
    assert task._interrupts(Action(op, Instance("a"))) is interrupts
