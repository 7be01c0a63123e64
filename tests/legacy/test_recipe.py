# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One host whose members are namespaces with CLUSTERIP: compare the modules' result with that of a manual recipe."""

from __future__ import annotations

import re
import typing as t

import pytest
from integration.packets import TCP, UDP, frame
from integration.test_packets import Built
from integration.world import ask_tcp, ask_udp, sh

from ansible_collections.clustered.openvpn.plugins.module_utils._cluster import hashing

from .flows import MODES, random_flows, taken
from .forked import ForkedWorld

ADDRESS, PORT = "192.0.2.10", 1194
MAC = "03:00:c0:00:02:0a"
TOTAL, SEED = 3, 0x1234
CLIENTS = 3

# {name} is a member, {number} its node.
RECIPE = f"""
iptables-legacy -A INPUT -d {ADDRESS} -i eth0 -p udp --dport {PORT} -j CLUSTERIP --new --hashmode sourceip \
    --clustermac {MAC} --total-nodes {TOTAL} --local-node {{number}} --hash-init {SEED}
iptables-legacy -A INPUT -d {ADDRESS} -i eth0 -p tcp --dport {PORT} -j CLUSTERIP --new --hashmode sourceip \
    --clustermac {MAC} --total-nodes {TOTAL} --local-node {{number}} --hash-init {SEED}
iptables-legacy -A INPUT -d {ADDRESS} -i eth0 -p icmp --icmp-type echo-request -j CLUSTERIP --new --hashmode sourceip \
    --clustermac {MAC} --total-nodes {TOTAL} --local-node {{number}} --hash-init {SEED}
"""


def state(netns: str) -> dict[str, t.Any]:
    """The state of CLUSTERIP in a namespace: its rules, its nodes, and the multicast addresses of the interface."""
    rules = [line for line in sh("iptables-legacy -S", netns).splitlines() if "-j CLUSTERIP" in line]
    return {
        # The chain, the comment and the first node have no effect on packets.
        "rules": sorted(re.sub(r'^-A \S+ | -m comment --comment ".*?"| --local-node \d+', "", rule) for rule in rules),
        "nodes": sh(f"cat /proc/net/ipt_CLUSTERIP/{ADDRESS}", netns),
        "hears": MAC.replace(":", "") in sh("cat /proc/net/dev_mcast", netns),
        "has": ADDRESS in sh("ip -o -4 addr", netns),
    }


@pytest.fixture(scope="module")
def built() -> t.Iterator[Built]:
    """Three members on a host's bridge, which floods."""
    world = ForkedWorld("one")
    made = None
    try:
        world.lan(CLIENTS, bridged=True)
        made = Built(
            world, 3, uplink="bridged", distribution="flood", engine="clusterip", total_nodes=TOTAL, hash_init=SEED
        )
        for name, node, number in zip(made.names, made.layout["nodes"], (1, 2, 3)):
            node["local_nodes"] = made.owners[name] = [number]
        made.build()
        for name in made.names:
            sh("for f in all eth0; do echo 0 >/proc/sys/net/ipv4/conf/$f/rp_filter; done", name)
        made.serve()
        yield made
    finally:
        if made:
            made.stop()
        world.remove()


def owner(built: Built, address: str, *ports: int) -> str:
    """The member that the filter predicts."""
    return built.names[hashing.bucket(address, TOTAL, SEED, ports, "clusterip") - 1]


def test_clients_are_served_by_the_members_that_the_filter_predicts(built: Built) -> None:
    for i in range(1, CLIENTS + 1):
        client, address = built.world.name(f"c{i}"), f"192.0.2.{100 + i}"
        assert ask_udp(client, ADDRESS, PORT) == [owner(built, address)]
        assert ask_tcp(client, ADDRESS, PORT) == owner(built, address)
        said = sh(f"ping -n -c 2 -i 0.2 -W 2 {ADDRESS}", client)
        assert " 2 received" in said
        assert "duplicates" not in said
    assert ask_tcp(built.world.name("c1"), ADDRESS, PORT + 1, timeout=0.5) is None


def test_a_second_run_changes_nothing(built: Built) -> None:
    assert built.build() == [False] * 4


def test_it_is_what_the_recipes_say_to_type(built: Built) -> None:
    world = built.world
    for number, name in enumerate(built.names, 1):
        typed = world.netns(f"typed{number}")
        sh(
            f"ip link add eth0 type veth peer name p0 && ip link set eth0 up && ip addr add {ADDRESS}/24 dev eth0",
            typed,
        )
        sh(RECIPE.format(number=number), typed)
        assert state(name) == state(typed)
        assert state(name)["nodes"] == str(number)
    (rewritten,) = [
        line for line in sh("nft list ruleset", world.host).splitlines() if f"ether daddr set {MAC}" in line
    ]
    assert f"ip daddr {ADDRESS} ether daddr set {MAC} accept" in rewritten


@pytest.mark.parametrize("mode", MODES)
def test_500_flows_land_where_the_filter_says(built: Built, mode: str) -> None:
    flows, ports = random_flows(500, 7), MODES.index(mode)
    built.layout["cluster"].update(hashmode=mode, force=True)
    built.build()
    expected = {flow: [owner(built, flow[0], *(flow[1], PORT)[:ports])] for flow in flows}
    routed = built.layout["cluster"]["clustermac"].replace("03:", "02:", 1)
    for protocol in (UDP, TCP):
        frames = {flow: frame(flow[0], ADDRESS, protocol, (flow[1], PORT), routed) for flow in flows}
        assert taken(built.world.name("c1"), built.names, protocol, frames) == expected


def test_removal_leaves_nothing(built: Built) -> None:
    parts = built.layout
    built.world.module("clusterip", name=parts["name"], nodes=parts["nodes"], **parts["cluster"], state="absent")
    for netns in (built.world.host, *built.names):
        assert "CLUSTERIP" not in sh("iptables-legacy-save", netns)
        assert parts["name"] not in sh("iptables-legacy-save; nft list ruleset", netns)
        left = sh("ls /proc/net/ipt_CLUSTERIP; ip -o addr; ip neigh; ip route", netns)
        assert ADDRESS not in re.split("[ /\n]", left)
        assert MAC.replace(":", "") not in sh("cat /proc/net/dev_mcast", netns)
