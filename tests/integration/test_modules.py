# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The modules netns, veth and bridge on the real kernel."""

from __future__ import annotations

import json
import os
import typing as t
from pathlib import Path

import pytest

from .served import ServedWorld
from .world import COLLECTIONS, ModuleFailed, World, call, sh


class Parts:
    """Parameters of the three modules for two members on a bridge, with names of this test run."""

    def __init__(self, world: World):
        self.world = world
        world.netns("host")
        self.one, self.two = world.name("one"), world.name("two")
        self.namespaces = [
            {"name": self.one, "sysctls": {"net.ipv4.ip_forward": 1, "net/ipv4/conf/all/arp_ignore": 1}},
            {"name": self.two},
        ]
        self.veths = [
            {
                "name": "ve-one",
                "peer": {
                    "name": "eth0",
                    "netns": self.one,
                    "mac": "02:00:00:00:01:01",
                    "mtu": 1400,
                    "addresses": ["10.255.0.11/22", "fd00::11/64"],
                    "routes": [{"dst": "default", "via": "10.255.0.1"}, {"dst": "fd01::/64", "via": "fd00::1"}],
                },
            },
            {"name": "ve-two", "peer": {"name": "eth0", "netns": self.two, "mac": "02:00:00:00:01:02"}},
        ]
        self.bridges = [
            {
                "name": "br-t",
                "mac": "02:00:00:00:01:00",
                "addresses": ["10.255.0.1/22"],
                "flood": False,
                "learning": False,
                "ports": ["ve-one", "ve-two"],
                "fdb": [{"mac": "02:00:00:00:01:01", "port": "ve-one"}, {"mac": "02:00:00:00:01:02", "port": "ve-two"}],
                "routes": [{"dst": "10.8.0.0/24", "via": "10.255.0.11"}],
            }
        ]

    def run(self, check: bool = False, **more: t.Any) -> list[list[str]]:
        """The commands of each module."""
        return [
            self.world.module(name, check=check, **{parameter: getattr(self, parameter)}, **more)["commands"]
            for name, parameter in (("netns", "namespaces"), ("veth", "veths"), ("bridge", "bridges"))
        ]

    def dump(self) -> list[str]:
        """The state of the namespaces as sorted lines, without values that change by themselves."""
        result = []
        for netns in (self.world.host, self.one, self.two):
            for link in json.loads(sh(f"ip -n {netns} -j -d addr", check=False) or "[]"):
                up = "UP" in link["flags"]
                result.append(f"{netns} {link['ifname']} {link['address']} {link['mtu']} {up} {link.get('master')}")
                result += [f"{netns} {a['local']}" for a in link["addr_info"] if a["scope"] != "link"]
            result += [
                f"{netns} {line}"
                for line in sh(f"ip -n {netns} route; bridge -n {netns} fdb", check=False).splitlines()
            ]
        return sorted(result)


@pytest.fixture
def parts(world: World) -> Parts:
    """Parameters of namespaces that do not exist yet."""
    return Parts(world)


def test_check_mode_on_an_empty_host_says_everything_and_does_nothing(parts: Parts) -> None:
    before = parts.world.namespaces(), parts.dump()
    said = parts.run(check=True)
    assert (parts.world.namespaces(), parts.dump()) == before
    assert said == parts.run(), "check mode returns the commands of the run"


def test_a_second_run_changes_nothing(parts: Parts) -> None:
    parts.run()
    before = parts.dump()
    assert parts.run() == [[], [], []]
    assert parts.dump() == before


def test_a_run_that_changes_nothing_does_not_import_pyroute2(parts: Parts, tmp_path: Path) -> None:
    """The import takes longer than the rest of such a run."""
    parts.run()
    (tmp_path / "pyroute2").mkdir()
    (tmp_path / "pyroute2/__init__.py").write_text("raise ImportError('must not be imported')\n")
    cluster = {"name": "absent", "address": "192.0.2.10", "interface": "lo", "bridge": "br-t", "state": "absent"}
    for module, args in (
        ("netns", {"namespaces": parts.namespaces}),
        ("veth", {"veths": parts.veths}),
        ("bridge", {"bridges": parts.bridges}),
        ("clusterip", cluster),
    ):
        for check in (False, True):
            result = call(
                parts.world, module, {**args, "_ansible_check_mode": check}, PYTHONPATH=f"{tmp_path}:{COLLECTIONS}"
            )
            assert not result.get("failed"), result["msg"]
            assert not result["changed"]


# name -> a change by hand, and the module and the command that repair it
DRIFTS = {
    "loopback down": ("ip -n {one} link set lo down", 0, "ip -n {one} link set dev lo up"),
    "sysctl": (
        "ip netns exec {one} sysctl -w net.ipv4.ip_forward=0",
        0,
        "ip netns exec {one} sysctl -w net.ipv4.ip_forward=1",
    ),
    "mac": (
        "ip -n {one} link set eth0 address 02:00:00:00:09:09",
        1,
        "ip -n {one} link set dev eth0 address 02:00:00:00:01:01",
    ),
    "mtu": ("ip -n {one} link set eth0 mtu 1300", 1, "ip -n {one} link set dev eth0 mtu 1400"),
    "address lost": ("ip -n {one} addr del fd00::11/64 dev eth0", 1, "ip -n {one} addr add fd00::11/64 dev eth0"),
    "address added": ("ip -n {one} addr add 10.99.0.1/24 dev eth0", 1, "ip -n {one} addr del 10.99.0.1/24 dev eth0"),
    "route lost": (
        "ip -n {one} route del default",
        1,
        "ip -n {one} route add 0.0.0.0/0 via 10.255.0.1 dev eth0 proto static",
    ),
    "route changed": (
        "ip -n {one} route replace default via 10.255.0.7 dev eth0 proto static",
        1,
        "ip -n {one} route replace 0.0.0.0/0 via 10.255.0.1 dev eth0 proto static",
    ),
    "route added": (
        "ip -n {one} route add 10.99.0.0/24 via 10.255.0.7 proto static",
        1,
        "ip -n {one} route del 10.99.0.0/24 via 10.255.0.7 dev eth0 proto static",
    ),
    "link down": ("ip -n {host} link set ve-two down", 1, "ip link set dev ve-two up"),
    "port gone": ("ip -n {host} link set ve-two nomaster", 2, "ip link set dev ve-two master br-t"),
    "fdb entry lost": (
        "bridge -n {host} fdb del 02:00:00:00:01:02 dev ve-two master",
        2,
        "bridge fdb replace 02:00:00:00:01:02 dev ve-two master static",
    ),
    "fdb entry added": (
        "bridge -n {host} fdb add 02:00:00:00:01:77 dev ve-two master static",
        2,
        "bridge fdb del 02:00:00:00:01:77 dev ve-two master",
    ),
    "flooding": (
        "bridge -n {host} link set dev ve-two flood on",
        2,
        "bridge link set dev ve-two flood off learning off",
    ),
    "snooping": (
        "ip -n {host} link set br-t type bridge mcast_snooping 1",
        2,
        "ip link set dev br-t type bridge mcast_snooping 0",
    ),
}


@pytest.fixture(scope="module")
def built() -> t.Iterator[Parts]:
    """Created once; each test adds drift."""
    world = ServedWorld(f"d{os.getpid() % 10000}")
    try:
        parts = Parts(world)
        parts.run()
        yield parts
    finally:
        world.remove()


@pytest.mark.parametrize("drift", DRIFTS)
def test_drift_is_repaired_by_the_smallest_change(built: Parts, drift: str) -> None:
    parts = built
    before = parts.dump()
    names = {"one": parts.one, "two": parts.two, "host": parts.world.host}
    damage, module, repair = (x.format(**names) if isinstance(x, str) else x for x in DRIFTS[drift])
    sh(damage)
    said = parts.run()
    assert said[module][0] == repair
    if drift != "port gone":  # its entries and flags went with it
        assert sum(map(len, said)) == 1
    assert parts.dump() == before


@pytest.mark.parametrize("damage", ["ip netns del {one}", "ip -n {one} link del eth0", "ip -n {host} link del br-t"])
def test_what_is_deleted_comes_back(parts: Parts, damage: str) -> None:
    parts.run()
    sh(damage.format(one=parts.one, host=parts.world.host))
    assert any(parts.run())
    assert parts.run() == [[], [], []]


def test_absent_leaves_nothing_and_is_content_with_nothing(parts: Parts) -> None:
    before = parts.world.namespaces(), parts.dump()
    parts.run()
    for name, parameter in (("bridge", "bridges"), ("veth", "veths"), ("netns", "namespaces")):
        args = {parameter: getattr(parts, parameter), "state": "absent"}
        said = parts.world.module(name, check=True, **args)["commands"]
        assert parts.world.module(name, **args)["commands"] == said != []
        assert parts.world.module(name, **args)["commands"] == []
    assert (parts.world.namespaces(), parts.dump()) == before


def test_a_link_of_another_kind_is_refused_and_left_alone(parts: Parts) -> None:
    sh("ip link add ve-one type bridge && ip link add br-t type veth peer name ve-other", parts.world.host)
    parts.world.module("netns", namespaces=parts.namespaces)
    before = parts.dump()
    with pytest.raises(ModuleFailed, match=r"veths\[0\]\.name: 've-one': this name belongs to a bridge"):
        parts.world.module("veth", veths=parts.veths)
    with pytest.raises(ModuleFailed, match=r"bridges\[0\]\.name: 'br-t': this name belongs to a veth"):
        parts.world.module("bridge", bridges=parts.bridges, state="absent")
    assert parts.dump() == before


def test_a_missing_namespace_is_named_and_not_made(parts: Parts) -> None:
    with pytest.raises(ModuleFailed, match=f"'{parts.one}': no such network namespace; create it first"):
        parts.world.module("veth", veths=parts.veths)
    assert parts.one not in sh("ip netns list")
