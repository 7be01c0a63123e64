# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Three hosts share an address by CLUSTERIP, configured by the module."""

from __future__ import annotations

import typing as t

import pytest
from integration.packets import TCP, UDP, frame
from integration.test_many_hosts import CLUSTERMAC, HOSTS, NAME, PORT, SEED, TOTAL, Ring, client
from integration.world import ask_tcp, sh

from ansible_collections.clustered.openvpn.plugins.module_utils._cluster import hashing

from .flows import MODES, random_flows, taken
from .forked import ForkedWorld


class OldRing(Ring):
    """A ring of CLUSTERIP."""

    def build_host(self, number: int, **changes: t.Any) -> dict[str, t.Any]:
        return super().build_host(number, **{"engine": "clusterip", "force": True, **changes})

    def owner(self, number: int) -> str:
        return self.owner_of(client(number, 4))

    def owner_of(self, address: str, *ports: int) -> str:
        """The hosts that answer a flow."""
        return self.hosts[(hashing.bucket(address, TOTAL, SEED, ports, "clusterip") - 1) % HOSTS]


@pytest.fixture(scope="module")
def ring() -> t.Iterator[OldRing]:
    """A ring with running services, and a route back to any source."""
    world = ForkedWorld("ring")
    made = None
    try:
        made = OldRing(world, "local")
        for host in made.hosts:
            sh("for f in all nic0; do echo 0 >/proc/sys/net/ipv4/conf/$f/rp_filter; done", host)
            sh("ip route add default dev nic0", host)
        made.build()
        made.serve()
        yield made
    finally:
        made.stop() if made else world.remove()


def test_a_client_is_answered_once_by_the_predicted_host(ring: OldRing) -> None:
    for number in range(1, 11):
        assert ring.ask(number) == [ring.owner(number)]
        assert ask_tcp(ring.client, ring.address, PORT, source=client(number, 4)) == ring.owner(number)
    assert CLUSTERMAC[4] in sh(f"ip -n {ring.client} neigh show to {ring.address}")
    said = sh(f"ping -n -c 3 -i 0.2 -W 2 {ring.address}", ring.client)
    assert " 3 received" in said
    assert "duplicates" not in said
    assert ring.ask(1, size=3000) == [ring.owner(1)]


def test_other_ports_are_silent(ring: OldRing) -> None:
    assert ask_tcp(ring.client, ring.address, PORT + 1, timeout=0.5) is None


def test_a_second_run_changes_nothing(ring: OldRing) -> None:
    assert [result["commands"] for result in ring.build()] == [[], [], []]


@pytest.mark.parametrize("mode", MODES)
def test_500_flows_land_where_the_filter_says(ring: OldRing, mode: str) -> None:
    flows, ports = random_flows(500, 5), MODES.index(mode)
    ring.build(hashmode=mode)
    expected = {flow: [ring.owner_of(flow[0], *(flow[1], PORT)[:ports])] for flow in flows}
    for protocol in (UDP, TCP):
        frames = {flow: frame(flow[0], ring.address, protocol, (flow[1], PORT), CLUSTERMAC[4]) for flow in flows}
        assert taken(ring.client, ring.hosts, protocol, frames) == expected


def test_a_bucket_moves_at_run_time(ring: OldRing) -> None:
    ring.build()
    number = next(n for n in range(1, 40) if ring.owner(n) == ring.hosts[0])
    moved = hashing.bucket(client(number, 4), TOTAL, SEED, (), "clusterip")
    gave = ring.build_host(1, claims="add", nodes=[{"local_nodes": [moved]}])
    assert gave["moved"] == 1
    answers = {name for _time in range(5) for name in ring.ask(number)}  # the second one may be too late to be counted
    assert answers == set(ring.hosts[:2]), "accepted before it is released"
    ring.build_host(0, claims="release", nodes=[{"local_nodes": [moved]}])
    assert ring.ask(number) == [ring.hosts[1]]
    assert not ring.build_host(1, claims="add", nodes=[{"local_nodes": [moved]}])["changed"]
    (facts,) = ring.world.module("clusterip_info", name=NAME, on=ring.hosts[1])["clusters"].values()
    assert (facts["engine"], facts["total_nodes"], facts["hash_init"]) == ("clusterip", TOTAL, SEED)
    assert facts["owners"] == {"local": sorted([*ring.buckets(ring.hosts[1]), moved])}
    ring.build()
    assert ring.ask(number) == [ring.owner(number)]


def test_a_host_may_own_nothing(ring: OldRing) -> None:
    mine = [n for n in range(1, 40) if ring.owner(n) == ring.hosts[2]]
    ring.build_host(2, state="absent")
    ring.build_host(2, nodes=[{"local_nodes": []}])
    assert ring.build_host(2, nodes=[{"local_nodes": []}])["commands"] == []
    assert ring.ask(mine[0], timeout=0.5) == []
    ring.build()
    assert ring.ask(mine[0]) == [ring.hosts[2]]


def test_removal_leaves_nothing(ring: OldRing) -> None:
    look = (
        "iptables-legacy-save | grep -v '^#' | sed 's/[[].*//'; ls /proc/net/ipt_CLUSTERIP; cat /proc/net/dev_mcast;"
        " ip -o addr; nft list ruleset; arptables-legacy -L"
    )
    built = sh(look, ring.hosts[0])
    for i in range(HOSTS):
        ring.build_host(i, state="absent")
        assert not ring.build_host(i, state="absent")["changed"]
    for host in ring.hosts:
        left = sh(look, host)
        assert NAME not in left
        assert ring.address not in left
        assert CLUSTERMAC[4].replace(":", "") not in left
    assert NAME in built
    assert CLUSTERMAC[4].replace(":", "") in built
