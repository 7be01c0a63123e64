# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Packets through a cluster of namespaces: only the owner of the bucket receives them."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import struct
import subprocess
import time
import typing as t

import pytest

from ansible_collections.clustered.openvpn.plugins.filter.cluster import bucket, bucket_member, cluster_layout

from .packets import ask_ping, checksum, ip_header, packet_socket
from .served import ServedWorld, differences, differences_at_last, states_of
from .world import Echo, ModuleFailed, World, ask_tcp, ask_udp, sh, within

PORT = 1194
ADDRESS = "192.0.2.10"
# clusterip_info reads every namespace of the machine, including those of tests that run in parallel.
NAME = f"v{os.getpid() % 100000}"


class Built:
    """A cluster, created by the modules in the order of the role, with an echo service instead of OpenVPN."""

    def __init__(
        self,
        world: World,
        members: int,
        name: str = NAME,
        address: str = ADDRESS,
        distribution: str = "steer",
        uplink: str = "routed",
        **wanted: t.Any,
    ):
        self.world = world
        lan = {
            "interfaces": ["nic0", "br-lan"],
            "br_lan": {"ipv4": {"address": "192.0.2.2", "netmask": "255.255.255.0"}},
        }
        bridged = {"bridge": "br-lan", "first_member_address": "192.0.2.11", "facts": lan}
        self.host_address = "10.255.0.1" if uplink == "routed" else "192.0.2.2"
        self.layout = cluster_layout(
            {
                "name": name,
                "address": address,
                "interface": "nic0",
                "members": [{"name": f"{world.prefix}-{name[0]}{i + 1}", "number": i + 1} for i in range(members)],
                "instances": [
                    {"name": "udp", "protocol": "udp", "port": PORT, "pool": wanted.pop("pool", "10.8.0.0/16")}
                ],
                "slice_prefix": 24,
                "internal_network": wanted.pop("internal_network", "10.255.0.0/22"),
                "total_nodes": wanted.pop("total_nodes", 256),
                "hash_init": wanted.pop("hash_init", 0x1234),
                "clustermac": "",
                "distribution": distribution,
                "uplink": uplink,
                **(bridged if uplink == "bridged" else {}),
                **wanted,
            }
        )
        # ve-NAME has room for short names only, and ours have the prefix of the test run.
        for i, (veth, fdb) in enumerate(zip(self.layout["veths"], self.layout["bridges"][0]["fdb"])):
            veth["name"] = fdb["port"] = self.layout["bridges"][0]["ports"][i] = f"ve-{name}{i}"
        self.layout["cluster"]["services"].append({"protocol": "tcp", "port": PORT})
        self.names = [m["name"] for m in self.layout["members"]]
        self.owners = {m["name"]: m["local_nodes"] for m in self.layout["members"]}
        self.echoes: dict[str, Echo] = {}

    def build(self, **clusterip: t.Any) -> list[bool]:
        """Run the modules; returns the value of 'changed' of each."""
        parts = self.layout
        results = [
            self.world.module("netns", namespaces=parts["namespaces"]),
            self.world.module("veth", veths=parts["veths"]),
            self.world.module("bridge", bridges=parts["bridges"]),
            self.world.module("clusterip", name=parts["name"], nodes=parts["nodes"], **parts["cluster"], **clusterip),
        ]
        return [r["changed"] for r in results]

    def serve(self) -> None:
        """Start an echo service in every member."""
        for name in self.names:
            self.echoes[name] = Echo(name, self.layout["cluster"]["address"], PORT)

    def stop(self) -> None:
        """Stop the services."""
        while self.echoes:
            self.echoes.popitem()[1].stop()

    def owner(self, client: str) -> str | None:
        """The member that the filter predicts."""
        return bucket_member(client, self.owners, 256, 0x1234)


FORMS = [(uplink, distribution) for uplink in ("routed", "bridged") for distribution in ("steer", "flood")]


CLIENTS = 12


@pytest.fixture(scope="module", params=FORMS, ids="-".join)
def shared(request: pytest.FixtureRequest) -> t.Iterator[Built]:
    """Three members and their clients, for all tests of one combination of uplink and distribution."""
    uplink, distribution = request.param
    world = ServedWorld(f"p{os.getpid() % 10000}{uplink[0]}{distribution[0]}")
    built = None
    try:
        world.lan(CLIENTS, bridged=uplink == "bridged")
        built = Built(world, 3, distribution=distribution, uplink=uplink)
        built.build()
        built.serve()
        yield built
    finally:
        if built is not None:
            built.stop()
        world.remove()


@pytest.fixture
def cluster(shared: Built) -> t.Iterator[Built]:
    """The cluster, restored after the previous test."""
    yield shared
    if any(shared.build()):
        shared.stop()
        shared.serve()


def client_address(i: int) -> str:
    """The address of the world's client number i, from 0."""
    return f"192.0.2.{101 + i}"


def clients_of(built: Built) -> list[tuple[str, str]]:
    """(namespace, address) of every client."""
    return [(built.world.name(f"c{i + 1}"), client_address(i)) for i in range(CLIENTS)]


def test_every_client_is_served_by_the_member_that_the_filter_predicts(cluster: Built) -> None:
    predicted = [cluster.owner(address) for _netns, address in clients_of(cluster)]
    assert set(predicted) == set(cluster.names), "the clients are to fall on all members"
    for (netns, _address), owner in zip(clients_of(cluster), predicted):
        assert ask_udp(netns, ADDRESS, PORT) == [owner]
        assert ask_udp(netns, ADDRESS, PORT, size=3000) == [owner], "in fragments"
        assert ask_tcp(netns, ADDRESS, PORT) == owner


def test_the_host_itself_reaches_the_service(cluster: Built) -> None:
    host = cluster.world.host
    owner = cluster.owner(cluster.host_address)
    assert ask_udp(host, ADDRESS, PORT) == [owner]
    assert ask_udp(host, ADDRESS, PORT, size=3000) == [owner]
    assert ask_tcp(host, ADDRESS, PORT) == owner


def test_nothing_else_answers_at_the_service_address(cluster: Built) -> None:
    client = cluster.world.name("c1")
    assert ask_udp(client, ADDRESS, PORT + 1, timeout=0.3) == []
    assert ask_tcp(client, ADDRESS, PORT + 1, timeout=0.3) is None
    assert [ask_ping(client, ADDRESS) for _time in range(3)] == [1, 1, 1]


def test_a_frame_reaches_one_member_only_when_steered_and_all_when_flooded(cluster: Built) -> None:
    before = {name: rx_packets(name) for name in cluster.names}
    sh(f"ping -q -c 500 -i 0.002 -W 1 {ADDRESS}", cluster.world.name("c1"))
    received = {name: rx_packets(name) - before[name] for name in cluster.names}
    owner = t.cast(str, cluster.owner(client_address(0)))
    assert received.pop(owner) >= 500
    if cluster.layout["cluster"]["distribution"] == "steer":
        assert max(received.values()) < 100, "the others may see a broadcast now and then, no more"
    else:
        assert min(received.values()) >= 500


def rx_packets(netns: str) -> int:
    """Packets received on eth0."""
    line = next(x for x in sh("cat /proc/net/dev", netns).splitlines() if x.strip().startswith("eth0:"))
    return int(line.split(":")[1].split()[1])


def test_a_deleted_member_takes_only_its_own_clients_with_it(cluster: Built) -> None:
    world = cluster.world
    dead = cluster.names[0]
    cluster.echoes.pop(dead).stop()
    sh(f"ip netns del {dead}")
    for netns, _address in clients_of(cluster):
        sh("ip neigh flush all", netns)
    for netns, address in clients_of(cluster):
        owner = cluster.owner(address)
        if owner == dead:
            assert ask_udp(netns, ADDRESS, PORT, timeout=0.3) == []
        else:
            assert ask_udp(netns, ADDRESS, PORT) == [owner]
    for netns, _address in clients_of(cluster):
        assert "lladdr" in sh(f"ip neigh show {ADDRESS}", netns), "ARP is answered for everybody"

    assert any(cluster.build())
    cluster.echoes[dead] = Echo(dead, ADDRESS, PORT)
    assert [ask_udp(netns, ADDRESS, PORT) for netns, _address in clients_of(cluster)] == [
        [cluster.owner(address)] for _netns, address in clients_of(cluster)
    ]
    assert cluster.build() == [False] * 4
    assert world.module("clusterip_info")["clusters"][NAME]["unowned"] == []


@pytest.mark.parametrize("distribution", ["steer", "flood"])
def test_on_a_lan_the_address_has_one_mac_and_one_answer(world: World, distribution: str) -> None:
    """With uplink=bridged, the frames that a client and a neighbour on the same bridge receive."""
    world.lan(2, bridged=True)
    client = world.name("c1")
    neighbour = world.netns("vm")
    sh(f"ip link add vm0 type veth peer name eth0 netns {neighbour} && ip link set vm0 master br-lan up", world.host)
    sh("ip link set eth0 up && ip addr add 192.0.2.50/24 dev eth0", neighbour)
    built = Built(world, 3, uplink="bridged", distribution=distribution)
    mac = sh("ip -br link show br-lan", world.host)
    built.build()
    assert sh("ip -br link show br-lan", world.host) == mac, "the host is the same neighbour as ever"
    built.serve()
    (answer,) = re.findall("lladdr (02[0-9a-f:]*)", sh(f"ip neigh show {ADDRESS}", world.host))
    try:
        for netns, address in ((client, client_address(0)), (neighbour, "192.0.2.50")):
            with packet_socket(netns, 3) as everything:  # ETH_P_ALL
                everything.settimeout(0.2)
                assert ask_udp(netns, ADDRESS, PORT) == [built.owner(address)]
                assert ask_tcp(netns, ADDRESS, PORT) == built.owner(address)
                frames = list(received(everything))
            arp = [f for f in frames if f[12:14] == b"\x08\x06" and f[28:32] == socket.inet_aton(ADDRESS)]
            assert [f[22:28].hex(":") for f in arp if f[21] == 2] == [answer], "one answer"
            assert answer in sh(f"ip neigh show {ADDRESS}", netns)
            theirs = [f for f in frames if f[12:14] == b"\x08\x00" and f[26:30] == socket.inet_aton(ADDRESS)]
            assert theirs
            if netns == client:  # behind the NIC
                assert {f[6:12].hex(":") for f in theirs} == {answer}
                multicast = [f for f in frames if f[:6].hex(":") == built.layout["cluster"]["clustermac"]]
                assert multicast == [], "a flood stays on the bridge"
        # ARP requests of a member with the service address as sender are dropped.
        member = built.names[0]
        sh("sysctl -w net.ipv4.conf.all.arp_announce=0", member)
        sh(f"ping -c 1 -W 1 -I {ADDRESS} 192.0.2.102", member, check=False)
        assert answer in sh(f"ip neigh show {ADDRESS}", client)
        assert sh(f"ip neigh show {ADDRESS}", world.name("c2")) == ""
    finally:
        built.stop()


def received(sock: socket.socket) -> t.Iterator[bytes]:
    """Receive frames until no more arrive."""
    with contextlib.suppress(TimeoutError):
        while True:
            yield sock.recv(65536)


def test_an_icmp_error_reaches_the_member_of_the_client_that_it_is_about(cluster: Built) -> None:
    """An ICMP error about a packet from ADDRESS to a client, "fragmentation needed", reaches the client's member."""
    router = cluster.world.name("c1")
    for i in (2, 5, 9, 11):
        owner = t.cast(str, cluster.owner(client_address(i)))
        learn_path_mtu(router, client_address(i), mtu=1300)
        knowing = [n for n in cluster.names if "mtu 1300" in sh(f"ip route get {client_address(i)}", n)]
        assert knowing == [owner]


def learn_path_mtu(router: str, client: str, mtu: int) -> None:
    """Send "fragmentation needed" about a datagram from ADDRESS to a client, as a router does."""
    inner = ip_header(ADDRESS, client, 17, 28) + struct.pack("!HHHH", PORT, 40000, 8, 0)
    icmp = struct.pack("!BBHHH", 3, 4, 0, 0, mtu) + inner
    icmp = icmp[:2] + struct.pack("!H", checksum(icmp)) + icmp[4:]
    with within(router), socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as sock:
        sock.sendto(icmp, (ADDRESS, 0))


def test_buckets_move_while_traffic_flows_and_nothing_is_lost(cluster: Built) -> None:
    world, client = cluster.world, cluster.world.name("c1")
    number = bucket(client_address(0), 256, 0x1234)
    first = t.cast(str, cluster.owner(client_address(0)))
    second = next(n for n in cluster.names if n != first)
    nodes = {n["netns"]: n for n in cluster.layout["nodes"]}
    common = {"name": NAME, **cluster.layout["cluster"]}
    many = ["nsenter", f"--net=/run/netns/{client}", "ping", "-q", "-i", "0.002", "-c", "1000", "-W", "2", ADDRESS]
    with subprocess.Popen(many, stdout=subprocess.PIPE, text=True) as flood:
        for owner in (second, first, second):
            other = first if owner == second else second
            pair = [{**nodes[owner], "local_nodes": [number]}, {**nodes[other], "local_nodes": []}]
            result = world.module("clusterip", nodes=pair, claims="add", **common)
            assert result["moved"] == 1
            assert len(result["commands"]) == (1 if common["distribution"] == "steer" else 2)
            assert ask_udp(client, ADDRESS, PORT) == [owner]
        output = flood.communicate(timeout=30)[0]
    received = int(output.split(" received", maxsplit=1)[0].split()[-1])
    # In a flood both take a packet that comes between "accept" and "release", so there are answers twice; and where
    # the machine is busy its backlog loses some of the frames that a flood multiplies: 2 of 2000 were seen.
    assert received == 1000 if common["distribution"] == "steer" else received >= 980
    released = world.module("clusterip", nodes=[{**nodes[first], "local_nodes": [number]}], claims="release", **common)
    assert not released["changed"], "a bucket is not taken from somebody who is not named"
    assert world.module("clusterip", nodes=[{**nodes[second], "local_nodes": [number]}], claims="release", **common)[
        "changed"
    ]
    assert ask_udp(client, ADDRESS, PORT, timeout=0.3) == []
    assert world.module("clusterip_info")["clusters"][NAME]["unowned"] == [number]


@pytest.mark.parametrize(("uplink", "distribution"), FORMS)
def test_absent_leaves_the_host_as_it_was(world: World, uplink: str, distribution: str) -> None:
    world.lan(1, bridged=uplink == "bridged")
    before = states_of([world.host])
    built = Built(world, 2, uplink=uplink, distribution=distribution)
    built.build()
    assert differences(before, states_of([world.host]))
    parts = built.layout
    world.module("clusterip", name=NAME, nodes=parts["nodes"], **parts["cluster"], state="absent")
    world.module("bridge", bridges=parts["bridges"], state="absent")
    world.module("veth", veths=parts["veths"], state="absent")
    world.module("netns", namespaces=parts["namespaces"], state="absent")
    assert not differences_at_last(lambda: before, lambda: states_of([world.host]))


def test_two_clusters_on_one_host_do_not_disturb_each_other(world: World) -> None:
    world.lan(12)
    one = Built(world, 2)
    two = Built(world, 2, "second", "192.0.2.20", pool="10.18.0.0/16", internal_network="10.251.0.0/22")
    for built in (one, two):
        built.build()
        built.serve()
    try:
        for built in (one, two):
            assert built.build() == [False] * 4
        for i in range(12):
            assert ask_udp(world.name(f"c{i + 1}"), ADDRESS, PORT) == [one.owner(client_address(i))]
            assert ask_udp(world.name(f"c{i + 1}"), "192.0.2.20", PORT) == [two.owner(client_address(i))]
        world.module("clusterip", name="second", state="absent", nodes=two.layout["nodes"], **two.layout["cluster"])
        assert ask_udp(world.name("c1"), "192.0.2.20", PORT, timeout=0.3) == []
        assert ask_udp(world.name("c1"), ADDRESS, PORT) == [one.owner(client_address(0))]
    finally:
        for built in (one, two):
            built.stop()


@pytest.mark.parametrize(("uplink", "distribution"), FORMS)
def test_a_second_service_address_of_ipv6(world: World, uplink: str, distribution: str) -> None:
    """A cluster with an IPv4 and an IPv6 address, of the same name."""
    address, clients = "2001:db8::10", world.lan(6, bridged=uplink == "bridged")
    lan = "nic0" if uplink == "routed" else "br-lan"
    for i, netns in enumerate([world.host, *clients]):
        sh(f"ip -n {netns} addr add 2001:db8::{100 + i}/64 nodad dev {'eth0' if i else lan}")
    ipv6 = {"ipv6_address": address, "ipv6_internal_network": "fd00::/64"} if uplink == "routed" else {}
    built = Built(world, 3, uplink=uplink, distribution=distribution, **ipv6)
    if uplink == "bridged":
        for i, veth in enumerate(built.layout["veths"]):
            veth["peer"]["addresses"].append(f"2001:db8::{11 + i}/64")
    built.build()
    common = {k: v for k, v in built.layout["cluster"].items() if k != "clustermac"}
    six = {**common, "address": address, "name": NAME, "nodes": built.layout["nodes"]}
    assert world.module("clusterip", **six)["changed"]
    assert not world.module("clusterip", **six)["changed"]
    assert built.build() == [False] * 4
    built.serve()
    echoes = [Echo(name, address, PORT) for name in built.names]
    try:
        for i, netns in enumerate(clients):
            owner = built.owner(f"2001:db8::{101 + i}")
            wait_for(lambda netns=netns: ask_udp(netns, address, PORT, timeout=0.5) != [])
            assert ask_udp(netns, address, PORT) == [owner]
            assert ask_udp(netns, address, PORT, size=3000) == [owner]
            assert ask_tcp(netns, address, PORT) == owner
            assert ask_udp(netns, ADDRESS, PORT) == [built.owner(client_address(i))]
        assert ask_tcp(world.host, address, PORT) == built.owner("fd00::1" if uplink == "routed" else "2001:db8::100")
        assert ask_tcp(clients[0], address, PORT + 1, timeout=0.3) is None
        assert ask_ping(clients[0], address) == 1
        assert set(world.module("clusterip_info", name=NAME)["clusters"]) == {NAME, f"{NAME}.v6"}
        world.module("clusterip", **six, state="absent")
        assert ask_udp(clients[0], address, PORT, timeout=0.3) == []
        assert ask_udp(clients[0], ADDRESS, PORT) == [built.owner(client_address(0))]
        assert not world.module("clusterip", **six, state="absent")["changed"]
        assert built.build() == [False] * 4
        assert set(world.module("clusterip_info")["clusters"]) == {NAME}
    finally:
        built.stop()
        for echo in echoes:
            echo.stop()


def test_a_host_does_not_lose_its_default_route_of_router_advertisements(world: World) -> None:
    world.lan(0)
    sh(f"ip -n {world.host} -6 route add default via fe80::1 dev nic0 proto 9")
    built = Built(world, 2, ipv6_address="2001:db8::10", ipv6_internal_network="fd00::/64")
    with pytest.raises(ModuleFailed, match="set net/ipv6/conf/nic0/accept_ra to 2 first"):
        built.build()
    assert sh("sysctl -n net.ipv6.conf.all.forwarding; nft list tables", world.host) == "0"
    sh("sysctl -w net.ipv6.conf.nic0.accept_ra=2", world.host)
    built.build()
    assert sh("sysctl -n net.ipv6.conf.all.forwarding", world.host) == "1"


def wait_for(condition: t.Callable[[], bool], seconds: float = 10) -> None:
    """Wait for the duplicate address detection of the bridge, a second or two."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
