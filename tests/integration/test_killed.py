# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs killed with SIGKILL at random moments: one further run always ends where an undisturbed one does.

KILLS=200 makes it longer (60 take a minute), SEED=… repeats a sequence of moments (as far as time can be repeated).
"""

from __future__ import annotations

import copy
import os
import random
import time
import typing as t

import pytest

from .served import Killed, ServedWorld, State, differences_at_last, states_of
from .test_packets import Built

KILLS = int(os.environ.get("KILLS", "60"))
SEED = os.environ.get("SEED") or str(time.time_ns())

MODULES = ("netns", "veth", "bridge", "clusterip")
Arguments = dict[str, dict[str, t.Any]]


class Targets:
    """What the machine is to become: nothing, two members steered, or the same ones otherwise in every respect."""

    def __init__(self, world: ServedWorld):
        self.world = world
        world.lan()
        self.arguments: dict[str, Arguments] = {
            "steered": self._arguments("steer"),
            "flooded": self._changed(self._arguments("flood")),
        }
        layout = self.arguments["steered"]
        self.netnses = [n["name"] for n in layout["netns"]["namespaces"]]
        self.macs = {n["mac"] for n in layout["clusterip"]["nodes"]} | {layout["bridge"]["bridges"][0]["mac"]}
        assert None not in self.macs

    def run(self, now: str, wanted: str, **how: t.Any) -> list[bool]:
        """The four modules, in the order of the role; what each says about 'changed'. now matters for a removal."""
        if wanted != "nothing":
            return [self.world.module(m, **self.arguments[wanted][m], **how)["changed"] for m in MODULES]
        arguments = self.arguments[now]
        return [self.world.module(m, **arguments[m], state="absent", **how)["changed"] for m in reversed(MODULES)]

    def state(self) -> State:
        """Of the host and its members; those of this world that exist."""
        there = self.world.namespaces()
        return states_of((n for n in (self.world.host, *self.netnses) if n in there), self.macs)

    def _arguments(self, distribution: str) -> Arguments:
        parts = Built(self.world, 2, distribution=distribution).layout
        for veth in parts["veths"]:
            veth["mtu"] = veth["peer"]["mtu"] = 1500
        for bridge in parts["bridges"]:
            bridge.setdefault("mac", "02:00:00:00:aa:01")
        return {
            "netns": {"namespaces": parts["namespaces"]},
            "veth": {"veths": parts["veths"]},
            "bridge": {"bridges": parts["bridges"]},
            "clusterip": {"name": parts["name"], "nodes": parts["nodes"], **parts["cluster"]},
        }

    def _changed(self, arguments: Arguments) -> Arguments:
        changed = copy.deepcopy(arguments)
        for i, veth in enumerate(changed["veth"]["veths"]):
            veth["mtu"] = veth["peer"]["mtu"] = 1400
            veth["peer"]["addresses"].append(f"fd00::{11 + i}/64")
            veth["peer"]["routes"].append({"dst": "fd01::/64", "via": "fd00::1"})
        bridge = changed["bridge"]["bridges"][0]
        bridge["addresses"].append("fd00::1/64")
        bridge["routes"].append({"dst": "10.77.0.0/24", "via": "10.255.0.11"})
        bridge["learning"] = not bridge["learning"]
        first, second = changed["clusterip"]["nodes"]
        first["local_nodes"], second["local_nodes"] = second["local_nodes"][1:], first["local_nodes"][:-1]
        changed["clusterip"]["hash_init"] += 1
        return changed


@pytest.fixture
def targets() -> t.Iterator[Targets]:
    """Nothing built yet."""
    world = ServedWorld(f"k{os.getpid() % 10000}")
    try:
        yield Targets(world)
    finally:
        world.remove()


def test_a_run_killed_at_any_moment_is_repaired_by_the_next(targets: Targets) -> None:
    names = ["nothing", *targets.arguments]
    states, durations = {}, {}
    states["nothing"] = targets.state()
    now = "nothing"
    for wanted in ("steered", "flooded", "steered", "nothing", "flooded", "nothing"):
        start = time.monotonic()
        assert any(targets.run(now, wanted))
        durations[now, wanted] = time.monotonic() - start
        assert targets.run(now, wanted) == [False] * 4
        assert not differences_at_last(lambda w=wanted: states.setdefault(w, targets.state()), targets.state)
        now = wanted

    dice = random.Random(SEED)
    kills, too_late, places = 0, 0, dict.fromkeys(durations, 0)
    while kills < KILLS:
        wanted = dice.choice([name for name in names if name != now])
        delay, alone = dice.uniform(0, durations[now, wanted]), dice.random() < 0.5
        what = f"SEED={SEED}: kill {kills}: {now} -> {wanted}, after {delay:.4f} s, alone={alone}"
        try:
            targets.run(now, wanted, deadline=time.monotonic() + delay, alone=alone)
            too_late += 1
            durations[now, wanted] = delay  # it was faster: the machine has less to do than when that was measured
        except Killed:
            kills += 1
            places[now, wanted] += 1
        try:
            targets.run(now, wanted)
            assert not differences_at_last(lambda w=wanted: states[w], targets.state), what
            assert targets.run(now, wanted) == [False] * 4, what
        except Exception as exc:
            raise AssertionError(f"{what}: {exc}") from exc
        now = wanted
    print(f"{kills} runs killed, {too_late} were faster: {places}")
    assert too_late <= KILLS, "the moments are to lie within a run"
    assert KILLS < 60 or min(places.values()) > 0
