# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One address on three hosts: every packet reaches all of them, and one accepts it."""

from __future__ import annotations

import os
import socket
import typing as t

import pytest

from ansible_collections.clustered.openvpn.plugins.filter.cluster import bucket, cluster_layout

from .packets import ask_ping, packet_socket
from .world import Echo, ModuleFailed, World, ask_tcp, ask_udp, sh, within

PORT, CLOSED = 1194, 1195
TOTAL, SEED = 16, 0x5EED
HOSTS = 3
CLIENTS = 40
NAME = f"m{os.getpid() % 100000}"
ADDRESS = {4: "192.0.2.10", 6: "2001:db8::10"}
CLUSTERMAC = {4: "03:00:c0:00:02:0a", 6: "03:06:00:00:00:10"}
ETH_P_ARP = 0x0806
MEMBERS = 2  # of a host, where it has some


def client(number: int, version: int) -> str:
    """An address on c1, of 1 to CLIENTS."""
    return f"192.0.2.{100 + number}" if version == 4 else f"2001:db8::{100 + number:x}"


class Ring:
    """Three hosts share an address. Each owns every third bucket, and shares its own among its members in turn."""

    def __init__(self, world: World, uplink: str, version: int = 4):
        self.world, self.uplink, self.version = world, uplink, version
        self.address = ADDRESS[version]
        self.hosts = [world.host, world.name("host2"), world.name("host3")]
        self.names = [
            [f"{world.prefix}-{i}{k}" for k in range(MEMBERS)] if uplink != "local" else [host]
            for i, host in enumerate(self.hosts)
        ]
        self.echoes: list[Echo] = []
        (self.client,) = world.lan(1, bridged=uplink == "bridged")
        for number, host in enumerate(self.hosts[1:], 3):
            world.netns(host.removeprefix(f"{world.prefix}-"))
            world.plug(host, "nic0", f"192.0.2.{number}/24")
            if uplink == "bridged":
                sh(
                    f"ip -n {host} addr flush dev nic0 && ip -n {host} link set nic0 address 02:00:00:00:aa:0{number}"
                    f" && ip -n {host} link add br-lan type bridge mcast_snooping 0"
                    f" && ip -n {host} link set nic0 master br-lan && ip -n {host} link set br-lan up"
                    f" && ip -n {host} addr add 192.0.2.{number}/24 dev br-lan"
                )
        more = "\n".join(f"addr add {client(number, 4)}/24 dev eth0" for number in range(2, CLIENTS + 1))
        sh(f"ip -n {self.client} -batch - <<'EOF'\n{more}\nEOF")
        if version == 6:
            for number, host in enumerate(self.hosts, 2):
                sh(f"ip -n {host} addr add 2001:db8::{number}/64 dev nic0 nodad")
            for number in range(1, CLIENTS + 1):
                sh(f"ip -n {self.client} addr add {client(number, 6)}/64 dev eth0 nodad")

    def owner(self, number: int) -> str:
        """The name of the host or member that should answer a client."""
        found = bucket(client(number, self.version), TOTAL, SEED) - 1
        return self.names[found % HOSTS][found // HOSTS % len(self.names[0])]

    def buckets(self, name: str) -> list[int]:
        """The buckets of a host or member."""
        return [b + 1 for b in range(TOTAL) if self.names[b % HOSTS][b // HOSTS % len(self.names[0])] == name]

    def build(self, **changes: t.Any) -> list[dict[str, t.Any]]:
        """Run the modules on each host: the results of clusterip."""
        return [self.build_host(i, **changes) for i in range(HOSTS)]

    def build_host(self, number: int, **changes: t.Any) -> dict[str, t.Any]:
        """Run the modules on one host."""
        host, names = self.hosts[number], self.names[number]
        args: dict[str, t.Any] = {
            "on": host,
            "name": NAME,
            "address": self.address,
            "interface": "nic0",
            "uplink": self.uplink,
            "shared": True,
            "hash_init": SEED,
            "total_nodes": TOTAL,
            "services": [{"protocol": protocol, "port": PORT} for protocol in ("udp", "tcp")],
            "nodes": [{"local_nodes": self.buckets(host)}],
        }
        if self.uplink != "local":
            args.update(self.members(number))
            args["nodes"] = [{**node, "local_nodes": self.buckets(name)} for node, name in zip(args["nodes"], names)]
        return self.world.module("clusterip", **{**args, **changes})

    def members(self, number: int) -> dict[str, t.Any]:
        """Create the members of a host: their part of the parameters of clusterip."""
        bridged = self.uplink == "bridged"
        lan = {
            "interfaces": ["nic0", "br-lan"],
            "br_lan": {"ipv4": {"address": f"192.0.2.{number + 2}", "netmask": "255.255.255.0"}},
        }
        layout = cluster_layout(
            {
                "name": NAME,
                "address": self.address,
                "interface": "nic0",
                "members": [{"name": n, "number": MEMBERS * number + k + 1} for k, n in enumerate(self.names[number])],
                "instances": [{"name": "udp", "protocol": "udp", "port": PORT, "pool": "10.8.0.0/16"}],
                "slice_prefix": 24,
                "internal_network": f"10.{number}.0.0/22",
                "total_nodes": TOTAL,
                "hash_init": SEED,
                "uplink": self.uplink,
                **({"bridge": "br-lan", "first_member_address": "192.0.2.11", "facts": lan} if bridged else {}),
            }
        )
        for i, (veth, fdb) in enumerate(zip(layout["veths"], layout["bridges"][0]["fdb"])):
            veth["name"] = fdb["port"] = layout["bridges"][0]["ports"][i] = f"ve-{NAME}{i}"
        host = self.hosts[number]
        self.world.module("netns", namespaces=layout["namespaces"], on=host)
        self.world.module("veth", veths=layout["veths"], on=host)
        self.world.module("bridge", bridges=layout["bridges"], on=host)
        return {"bridge": layout["cluster"]["bridge"], "nodes": layout["nodes"]}

    def serve(self) -> None:
        """Start an echo service in every host or member."""
        self.echoes = [Echo(name, self.address, PORT) for names in self.names for name in names]

    def ask(self, number: int, **options: t.Any) -> list[str]:
        """The names in the answers to a client's datagram."""
        return ask_udp(self.client, self.address, PORT, source=client(number, self.version), **options)

    def stop(self) -> None:
        """Stop the services and remove the network."""
        while self.echoes:
            self.echoes.pop().stop()
        self.world.remove()


# Tests that do not depend on members; those of one host cover them.
LOCAL = pytest.mark.parametrize("ring", ["local-4", "local-6"], indirect=True)
LOCAL_IPV4 = pytest.mark.parametrize("ring", ["local-4"], indirect=True)


@pytest.fixture(scope="module", params=["local-4", "local-6", "routed-4", "bridged-4"])
def ring(request: pytest.FixtureRequest) -> t.Iterator[Ring]:
    """Configured and serving."""
    uplink, version = request.param.split("-")
    world = World(f"m{os.getpid() % 10000}{uplink[0]}{version}")
    made = None
    try:
        made = Ring(world, uplink, int(version))
        made.build()
        made.serve()
        yield made
    finally:
        made.stop() if made else world.remove()


def test_each_client_is_answered_once_by_the_predicted_node(ring: Ring) -> None:
    for number in range(1, CLIENTS + 1):
        assert ring.ask(number) == [ring.owner(number)]
        source = client(number, ring.version)
        assert ask_tcp(ring.client, ring.address, PORT, source=source) == ring.owner(number)


def test_a_large_datagram_reaches_the_same_node(ring: Ring) -> None:
    for number in range(1, 9):
        assert ring.ask(number, size=3000) == [ring.owner(number)]


def test_a_ping_is_answered_once(ring: Ring) -> None:
    for number in range(1, 25):
        assert ask_ping(ring.client, ring.address, source=client(number, ring.version)) == 1


def test_other_ports_are_silent(ring: Ring) -> None:
    for number in range(1, 5):
        source = client(number, ring.version)
        assert ask_tcp(ring.client, ring.address, CLOSED, source=source, timeout=0.5) is None
        assert ask_udp(ring.client, ring.address, CLOSED, source=source, timeout=0.3) == []


def test_the_lan_knows_the_address_by_the_cluster_mac(ring: Ring) -> None:
    ring.ask(1)
    # Without -4 or -6, ip lists neighbours of both families.
    assert CLUSTERMAC[ring.version] in sh(f"ip -n {ring.client} neigh show to {ring.address}")


@LOCAL_IPV4
def test_no_host_says_its_own_mac(ring: Ring) -> None:
    with packet_socket(ring.client, ETH_P_ARP) as capture:
        for host in ring.hosts:
            with within(host), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.bind((ring.address, 0))
                sock.sendto(b"?", ("192.0.2.250", 9))  # an address without a host: the kernel sends ARP requests for it
        capture.settimeout(5)
        macs: list[str] = []
        while len(macs) < HOSTS:
            frame = capture.recv(2048)
            if frame[28:32] == socket.inet_aton(ring.address):
                macs.append(frame[22:28].hex(":"))
    assert macs == [CLUSTERMAC[4]] * HOSTS


def test_connections_of_the_hosts_themselves_are_answered(ring: Ring) -> None:
    there = "192.0.2.101" if ring.version == 4 else client(1, 6)
    echo = Echo(ring.client, there, PORT)
    try:
        for host in ring.hosts:
            assert ask_tcp(host, there, PORT) == ring.client
    finally:
        echo.stop()


def test_a_second_run_changes_nothing_and_a_missing_membership_is_repaired(ring: Ring) -> None:
    assert [result["commands"] for result in ring.build()] == [[], [], []]
    if ring.uplink != "bridged":
        host, mac = ring.hosts[1], CLUSTERMAC[ring.version]
        sh(f"ip -n {host} maddr del {mac} dev nic0")
        assert ring.build_host(1)["commands"] == [f"ip maddr add {mac} dev nic0"]


@LOCAL
def test_a_bucket_moves_while_the_service_runs(ring: Ring) -> None:
    number = next(n for n in range(1, CLIENTS + 1) if ring.owner(n) == ring.names[0][0])
    moved = bucket(client(number, ring.version), TOTAL, SEED)
    added = ring.build_host(1, claims="add", nodes=[{"local_nodes": [moved]}])
    assert added["moved"] == 1
    assert sorted(ring.ask(number)) == sorted([ring.hosts[0], ring.hosts[1]]), "accepted before it is released"
    ring.build_host(0, claims="release", nodes=[{"local_nodes": [moved]}])
    assert ring.ask(number) == [ring.hosts[1]]
    shown = ring.world.module("clusterip_info", name=NAME, on=ring.hosts[1])["clusters"]
    (facts,) = shown.values()
    assert (facts["uplink"], facts["total_nodes"], facts["hash_init"]) == ("local", TOTAL, SEED)
    assert facts["owners"] == {"local": sorted([*ring.buckets(ring.hosts[1]), moved])}
    ring.build()
    assert ring.ask(number) == [ring.owner(number)]


def test_nobody_answers_for_a_bucket_of_nobody(ring: Ring) -> None:
    number = next(n for n in range(1, CLIENTS + 1) if ring.owner(n) == ring.names[2][0])
    nodes = [{"local_nodes": [bucket(client(number, ring.version), TOTAL, SEED)]}]
    if ring.uplink != "local":
        nodes = [{**node, **nodes[0]} for node in ring.members(2)["nodes"][:1]]
    ring.build_host(2, claims="release", nodes=nodes)
    assert ring.ask(number, timeout=0.5) == []
    source = client(number, ring.version)
    assert ask_tcp(ring.client, ring.address, PORT, source=source, timeout=0.5) is None
    ring.build()
    assert ring.ask(number) == [ring.owner(number)]


@LOCAL
def test_removal_leaves_the_hosts_as_they_were(ring: Ring) -> None:
    def state() -> list[str]:
        look = "ip -o addr; ip route show table all; nft list ruleset; cat /proc/net/dev_mcast; ip neigh show proxy"
        return [sh(look, host) for host in ring.hosts]

    for result in (ring.build_host(i, state="absent") for i in range(HOSTS)):
        assert result["changed"]
    for host in ring.hosts:
        seen = sh("ip addr; nft list ruleset; cat /proc/net/dev_mcast", host)
        assert ring.address not in seen
        assert "table" not in seen
        assert CLUSTERMAC[ring.version].replace(":", "") not in seen
    before = state()
    ring.build()
    assert state() != before
    for i in range(HOSTS):
        ring.build_host(i, state="absent")
    assert state() == before
    ring.build()
    assert ring.ask(1) == [ring.owner(1)]


@LOCAL_IPV4
def test_a_host_that_does_not_answer_arp_for_it_is_refused(ring: Ring) -> None:
    sh("sysctl -qw net.ipv4.conf.nic0.arp_ignore=1", ring.hosts[0])
    with pytest.raises(ModuleFailed, match="interface: 'nic0': net/ipv4/conf/nic0/arp_ignore is 1"):
        ring.build_host(0)
    sh("sysctl -qw net.ipv4.conf.nic0.arp_ignore=0", ring.hosts[0])
