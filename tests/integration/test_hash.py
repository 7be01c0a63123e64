# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Compare the filter bucket with the kernel: packets from thousands of addresses through the rules of nftables."""

from __future__ import annotations

import ipaddress
import random
import select
import socket
import typing as t

import pytest

from ansible_collections.clustered.openvpn.plugins.module_utils._cluster import hashing
from ansible_collections.clustered.openvpn.plugins.module_utils._cluster.cluster import Cluster, Member, Service
from ansible_collections.clustered.openvpn.plugins.module_utils._cluster.engines import nft_host
from ansible_collections.clustered.openvpn.plugins.module_utils._cluster.engines.nftables import Nftables
from ansible_collections.clustered.openvpn.plugins.module_utils._cluster.uplinks.registry import uplink_of
from ansible_collections.clustered.openvpn.plugins.module_utils._kernel import ruleset

from .packets import TCP, UDP, flow_of, frame, icmp_error, packet_socket
from .world import World, sh, within

ADDRESS = {4: "192.0.2.10", 6: "2001:db8::10"}
PORT = 443
MODES = ["sourceip", "sourceip-sourceport", "sourceip-sourceport-destport"]
COUNT = 10_000
BATCH = 200
Flow = tuple[str, int]


def random_flows(version: int, seed: int) -> list[Flow]:
    """Distinct source addresses and ports, without those that the kernel drops as martians."""
    rng = random.Random(seed)
    flows: set[Flow] = set()
    while len(flows) < COUNT:
        if version == 4:
            address: t.Any = ipaddress.IPv4Address(rng.randrange(0x01000000, 0xE0000000))
        else:
            address = ipaddress.IPv6Address((0x2 << 124) | rng.getrandbits(124))
        if not (address.is_loopback or address.is_multicast or address.is_link_local):
            flows.add((str(address), rng.randrange(1024, 65536)))
    return sorted(flows)


def make_cluster(version: int, members: t.Iterable[Member], **changes: t.Any) -> Cluster:
    """A cluster, as parsed from the options of the module."""
    values: dict[str, t.Any] = {
        "name": "t",
        "address": ADDRESS[version],
        "interface": "nic0",
        "bridge": "br0",
        "clustermac": "03:00:00:00:00:01",
        "distribution": "steer",
        "hashmode": "sourceip",
        "hash_init": random.randrange(2**32),
        "total_nodes": 256,
        "members": tuple(members),
        "services": (Service("tcp", PORT), Service("udp", PORT)),
        "claims": "exact",
        "forward_ipv6": False,
        **changes,
    }
    return Cluster(**values)


def load(netns: str, tables: t.Iterable[ruleset.Table]) -> None:
    """Load tables in one transaction."""
    lines = [line for table in tables for line in ruleset.plan_table(table, None)]
    sh("nft -f - <<'EOF'\n" + "\n".join(lines) + "\nEOF", netns)


def host_between(world: World, uplink: str) -> tuple[str, str]:
    """A client and a host with a NIC and a bridge; with uplink=bridged the NIC is a port. Returns (client, host)."""
    client, host = world.netns("client"), world.netns("host")
    sh(
        f"ip -n {host} link add nic0 type veth peer name eth0 netns {client} && ip -n {host} link set nic0 up"
        f" && ip -n {client} link set eth0 up"
        f" && ip -n {host} link add br0 type bridge mcast_snooping 0 && ip -n {host} link set br0 up"
        + (f" && ip -n {host} link set nic0 master br0" if uplink == "bridged" else "")
    )
    return client, host


def plug(world: World, host: str, short: str, mac: str) -> str:
    """Connect a new namespace to the host's bridge."""
    netns = world.netns(short)
    sh(
        f"ip -n {host} link add p-{short} type veth peer name eth0 address {mac} netns {netns}"
        f" && ip -n {host} link set p-{short} master br0 up && ip -n {netns} link set eth0 up"
        f" && bridge -n {host} fdb replace {mac} dev p-{short} master static"
    )
    return netns


def send(sender: socket.socket, cluster: Cluster, protocol: int, flows: t.Iterable[Flow]) -> None:
    """Send the first packet of each flow."""
    for source, port in flows:
        sender.send(frame(source, cluster.address, protocol, (port, PORT), uplink_of(cluster).unresolved_mac(cluster)))


@pytest.mark.parametrize(
    ("uplink", "version", "protocol", "hashmode", "total", "hash_as"),
    [
        ("routed", 4, UDP, "sourceip", 2, "nftables"),
        ("routed", 4, UDP, "sourceip", 7, "nftables"),
        ("routed", 4, UDP, "sourceip", 16, "nftables"),
        ("routed", 4, UDP, "sourceip", 256, "nftables"),
        ("routed", 6, UDP, "sourceip", 256, "nftables"),
        ("routed", 4, TCP, "sourceip-sourceport", 256, "nftables"),
        ("routed", 4, TCP, "sourceip-sourceport-destport", 256, "nftables"),
        ("routed", 6, TCP, "sourceip-sourceport-destport", 16, "nftables"),
        ("bridged", 4, UDP, "sourceip", 256, "nftables"),
        ("bridged", 6, UDP, "sourceip", 256, "nftables"),
        ("bridged", 4, TCP, "sourceip-sourceport", 16, "nftables"),
        ("bridged", 6, TCP, "sourceip-sourceport-destport", 256, "nftables"),
        ("routed", 4, UDP, "sourceip", 16, "clusterip"),
        ("routed", 4, TCP, "sourceip-sourceport", 256, "clusterip"),
        ("routed", 4, UDP, "sourceip-sourceport-destport", 16, "clusterip"),
        ("bridged", 4, UDP, "sourceip", 256, "clusterip"),
        ("bridged", 4, UDP, "sourceip-sourceport", 16, "clusterip"),
        ("bridged", 4, TCP, "sourceip-sourceport-destport", 256, "clusterip"),
    ],
)
def test_filter_and_kernel_agree(
    world: World, uplink: str, version: int, protocol: int, hashmode: str, total: int, hash_as: str
) -> None:
    """With steer, each bucket has an owner of its own, so the destination MAC address of a frame shows its bucket."""
    client, host = host_between(world, uplink)
    sink = plug(world, host, "sink", "02:00:00:00:ff:ff")
    macs = {number: f"02:00:00:00:{number >> 8:02x}:{number & 255:02x}" for number in range(1, total + 1)}
    members = [Member(f"n{number}", mac, "eth0", (number,)) for number, mac in macs.items()]
    cluster = make_cluster(version, members, total_nodes=total, hashmode=hashmode, uplink=uplink, hash_as=hash_as)
    load(host, nft_host.host_tables(cluster, {}))
    flows = random_flows(version, total)
    seen: dict[Flow, str] = {}
    kind = 0x0800 if version == 4 else 0x86DD
    with packet_socket(client, 0) as sender, packet_socket(sink, kind) as receiver:
        receiver.settimeout(3)
        for start in range(0, COUNT, BATCH):
            batch = flows[start : start + BATCH]
            send(sender, cluster, protocol, batch)
            awaited = set(batch)
            while awaited:
                data = receiver.recv(2048)
                flow = flow_of(data[14:])
                if flow in awaited:  # the kernel sends IPv6 packets of its own
                    awaited.discard(flow)
                    seen[flow] = data[:6].hex(":")
    seed, ports = cluster.hash_init, MODES.index(hashmode)
    expected = {f: macs[hashing.bucket(f[0], total, seed, (f[1], PORT)[:ports], hash_as)] for f in flows}
    assert seen == expected
    counts = [list(seen.values()).count(mac) for mac in macs.values()]
    what = f"{uplink} steer, IPv{version}, {hashmode} as {hash_as}, {total} buckets"
    print(f"{what}: max/mean {max(counts) * total / COUNT:.2f}")


@pytest.mark.parametrize("hash_as", ["nftables", "clusterip"])
@pytest.mark.parametrize("hashmode", MODES)
@pytest.mark.parametrize("uplink", ["routed", "bridged"])
def test_an_icmp_error_goes_where_the_flow_goes_that_it_is_about(
    world: World, uplink: str, hashmode: str, hash_as: str
) -> None:
    client, host = host_between(world, uplink)
    sink = plug(world, host, "sink", "02:00:00:00:ff:ff")
    macs = {number: f"02:00:00:00:00:{number:02x}" for number in range(1, 17)}
    members = [Member(f"n{number}", mac, "eth0", (number,)) for number, mac in macs.items()]
    cluster = make_cluster(4, members, total_nodes=16, hashmode=hashmode, uplink=uplink, hash_as=hash_as)
    load(host, nft_host.host_tables(cluster, {}))
    seed, ports = cluster.hash_init, MODES.index(hashmode)
    with packet_socket(client, 0) as sender, packet_socket(sink, 0x0800) as receiver:
        receiver.settimeout(3)
        for i, (address, port) in enumerate(random_flows(4, 1)[:200]):
            ours = frame(cluster.address, address, (UDP, TCP)[i % 2], (PORT, port))
            sender.send(icmp_error("192.0.2.1", ours, uplink_of(cluster).unresolved_mac(cluster)))
            number = hashing.bucket(address, 16, seed, (port, PORT)[:ports], hash_as)
            assert receiver.recv(2048)[:6].hex(":") == macs[number]


@pytest.mark.parametrize(("version", "hash_as"), [(4, "nftables"), (6, "nftables"), (4, "clusterip")])
@pytest.mark.parametrize("distribution", ["steer", "flood"])
@pytest.mark.parametrize("uplink", ["routed", "bridged"])
def test_each_flow_is_taken_by_the_member_that_the_filter_predicts(
    world: World, uplink: str, distribution: str, version: int, hash_as: str
) -> None:
    """Four members have the address on the loopback. Only the member that the filter predicts gets the datagram."""
    client, host = host_between(world, uplink)
    members = []
    for i in range(4):
        mac = f"02:00:00:00:00:{i + 1:02x}"
        netns = plug(world, host, f"m{i}", mac)
        members.append(Member(netns, mac, "eth0", tuple(range(i + 1, 257, 4))))
        sh(
            f"ip -n {netns} addr add {ADDRESS[version]} dev lo; for f in all eth0; do"
            f" sysctl -qw net.ipv4.conf.$f.rp_filter=0; done",
            netns,
        )
    cluster = make_cluster(version, members, distribution=distribution, uplink=uplink, hash_as=hash_as)
    load(host, nft_host.host_tables(cluster, {}))
    for member in members:
        load(member.netns, Nftables().member_tables(cluster, member, {}))
    flows = random_flows(version, 4)
    taken: dict[Flow, list[str]] = {flow: [] for flow in flows}
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    receivers: dict[socket.socket, str] = {}
    for member in members:
        with within(member.netns):
            made = socket.socket(family, socket.SOCK_DGRAM)
            made.bind((ADDRESS[version], PORT))
        receivers[made] = member.netns
    with packet_socket(client, 0) as sender:
        for start in range(0, COUNT, BATCH):
            send(sender, cluster, UDP, flows[start : start + BATCH])
            awaited = BATCH
            while awaited:
                ready = select.select(list(receivers), [], [], 3)[0]
                assert ready, f"{awaited} of {BATCH} datagrams did not arrive"
                for receiver in ready:
                    source = receiver.recvfrom(64)[1]
                    taken[source[0], source[1]].append(receivers[receiver])
                    awaited -= 1
    for receiver in receivers:
        receiver.close()
    owner = {number: member.netns for member in members for number in member.buckets or ()}
    assert taken == {f: [owner[hashing.bucket(f[0], 256, cluster.hash_init, (), hash_as)]] for f in flows}
    counts = [list(taken.values()).count([member.netns]) for member in members]
    print(f"{uplink} {distribution}, IPv{version}, four members: max/mean {max(counts) * 4 / COUNT:.2f}")
