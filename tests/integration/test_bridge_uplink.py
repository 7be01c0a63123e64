# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module bridge_uplink: a NIC with addresses and routes moves to a bridge and back."""

from __future__ import annotations

import os
import time
import typing as t

import pytest

from .served import Killed, ServedWorld, State, differences, differences_at_last, states_of
from .world import ModuleFailed, sh

TAKEN = {"bridge": "br-lan", "interface": "nic0"}


@pytest.fixture
def world() -> t.Iterator[ServedWorld]:
    """A host whose NIC has addresses and routes of many kinds, and a gateway c1."""
    world = ServedWorld(f"u{os.getpid() % 10000}")
    try:
        (gateway,) = world.lan(1)
        sh(
            "ip addr add 192.0.2.3/24 dev nic0 label nic0:1 && ip -6 addr add 2001:db8::2/64 nodad dev nic0"
            " && ip route add default via 192.0.2.101 dev nic0 proto static metric 50"
            " && ip route add 198.18.0.0/16 via 192.0.2.101 dev nic0 src 192.0.2.3 table 77"
            " && ip route add 198.51.100.1 dev nic0 && ip -6 route add default via 2001:db8::101 dev nic0",
            world.host,
        )
        sh("ip -6 addr add 2001:db8::101/64 nodad dev eth0", gateway)
        yield world
    finally:
        world.remove()


def state(world: ServedWorld) -> State:
    """The state of the host's namespace."""
    return states_of([world.host])


def test_a_nic_is_taken_and_given_back_with_all_that_was_on_it(world: ServedWorld) -> None:
    before = state(world)
    planned = world.module("bridge_uplink", **TAKEN, check=True)
    assert planned["changed"]
    assert state(world) == before
    taken = world.module("bridge_uplink", **TAKEN)
    assert taken["commands"] == planned["commands"]
    assert not world.module("bridge_uplink", **TAKEN)["changed"]
    routes = sh("ip route show table all; ip -6 route show default", world.host)
    for line in (
        "default via 192.0.2.101 dev br-lan proto static metric 50",
        "198.18.0.0/16 via 192.0.2.101 dev br-lan table 77 src 192.0.2.3",
        "198.51.100.1 dev br-lan scope link",
        "default via 2001:db8::101 dev br-lan metric 1024 pref medium",
    ):
        assert line in [" ".join(x.split()) for x in routes.splitlines()]
    assert "192.0.2.3/24 scope global secondary br-lan:1" in sh("ip addr show dev br-lan", world.host)
    sh("ping -c 1 -W 2 192.0.2.101 && ping -c 1 -W 2 2001:db8::101", world.host)
    assert world.module("bridge_uplink", **TAKEN, state="absent")["changed"]
    assert not world.module("bridge_uplink", **TAKEN, state="absent")["changed"]
    assert not differences_at_last(lambda: before, lambda: state(world))


def test_everything_is_taken_back_when_the_gateway_does_not_answer_any_more(world: ServedWorld) -> None:
    sh(
        "nft 'add table bridge t; add chain bridge t c { type filter hook prerouting priority 0; policy drop; }'",
        world.host,
    )
    before = state(world)
    with pytest.raises(
        ModuleFailed, match=r"192\.0\.2\.101 did not answer on br-lan within 1 s; all changes were rolled back"
    ):
        world.module("bridge_uplink", **TAKEN, timeout=1)
    assert not differences_at_last(lambda: before, lambda: state(world))


def test_everything_is_taken_back_when_a_step_fails(world: ServedWorld) -> None:
    """A bridge cannot be the port of a bridge; the kernel refuses after the addresses have been removed."""
    sh("ip link add br9 type bridge && ip link set br9 up && ip addr add 203.0.113.1/24 dev br9", world.host)
    sh("ip link add v0 type veth peer name v1 && ip link set v1 up && ip link set v0 master br9 up", world.host)
    sh("ip route add 198.19.0.0/16 via 203.0.113.9 dev br9", world.host)
    before = state(world)
    with pytest.raises(
        ModuleFailed, match=r"^ip link set dev br9 master br-lan: Error: .*; all changes were rolled back"
    ):
        world.module("bridge_uplink", bridge="br-lan", interface="br9")
    assert not differences_at_last(lambda: before, lambda: state(world))


@pytest.mark.parametrize(
    ("by_hand", "args", "message"),
    [
        (
            "ip addr add 192.0.2.9/24 dev nic0 valid_lft 600 preferred_lft 600",
            {},
            "192.0.2.9/24 is dynamic (DHCP or router advertisement)",
        ),
        (
            "ip route add 198.19.0.0/16 dev nic0 proto dhcp",
            {},
            "its route to 198.19.0.0/16 is dynamic (DHCP, router advertisement or redirect)",
        ),
        (
            "ip route add 198.19.0.0/16 dev nic0 mtu 1400",
            {},
            "its route to 198.19.0.0/16 has unsupported attributes (metrics)",
        ),
        ("ip addr add 192.0.2.9 peer 192.0.2.8 dev nic0", {}, "its address 192.0.2.9/32 has a peer"),
        ("ip link add br-lan type bridge", {}, "bridge: 'br-lan': exists already"),
        (
            "ip link add br9 type bridge && ip link set nic0 master br9",
            {},
            "interface: 'nic0': is a port of br9 already",
        ),
        (
            "true",
            {"gateway": "192.0.2.250", "timeout": 0.3},
            "gateway: '192.0.2.250': does not answer on nic0;",
        ),
        ("true", {"timeout": 0}, "timeout: 0.0: must be more than 0"),
        ("true", {"bridge": "a/b"}, "bridge: 'a/b': an interface name has no"),
    ],
)
def test_what_would_not_survive_is_refused_before_anything_is_changed(
    world: ServedWorld, by_hand: str, args: dict[str, object], message: str
) -> None:
    sh(by_hand, world.host)
    before = state(world)
    with pytest.raises(ModuleFailed) as error:
        world.module("bridge_uplink", **{**TAKEN, **args})
    assert message in str(error.value)
    assert not differences(before, state(world))


def test_a_bridge_with_other_ports_is_not_removed(world: ServedWorld) -> None:
    world.module("bridge_uplink", **TAKEN)
    sh("ip link add v0 type veth peer name v1 && ip link set v0 master br-lan", world.host)
    with pytest.raises(ModuleFailed, match="bridge: 'br-lan': has other ports, v0; detach them first"):
        world.module("bridge_uplink", **TAKEN, state="absent")
    planned = world.module("bridge_uplink", **TAKEN, state="absent", check=True)
    assert planned["commands"][-1] == "ip link del dev br-lan", "an earlier task may detach the other ports"


def test_a_module_that_is_killed_leaves_a_change_that_is_complete(world: ServedWorld) -> None:
    """Ten runs, each killed a little later; the process that carries out the move completes it."""
    before = state(world)
    killed = 0
    for i in range(10):
        try:
            world.module("bridge_uplink", **TAKEN, deadline=time.monotonic() + i * 0.02)
        except Killed:
            killed += 1
        world.module("bridge_uplink", **TAKEN)
        assert not world.module("bridge_uplink", **TAKEN)["changed"]
        world.module("bridge_uplink", **TAKEN, state="absent")
        assert not differences_at_last(lambda: before, lambda: state(world))
    assert killed, "some runs were killed"
