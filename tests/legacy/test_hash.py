# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Compare the filter bucket with CLUSTERIP and xt_cluster: flows through hand-written rules."""

from __future__ import annotations

import socket
import time

import pytest
from integration.packets import TCP, UDP, flow_of, frame, packet_socket
from integration.world import World, sh, within

from ansible_collections.clustered.openvpn.plugins.module_utils._cluster import hashing

from .flows import MODES, drained, random_flows

PORT = 1194
MAC = "01:00:5e:00:00:20"
COUNT = 500


def clusterip(host: str, address: str, protocol: str, mode: str, total: int, seed: int, nodes: list[int]) -> None:
    """A rule as in common recipes; further nodes are added through /proc."""
    sh(
        f"iptables-legacy -A INPUT -d {address} -i eth0 -p {protocol} --dport {PORT} -j CLUSTERIP --new"
        f" --hashmode {mode} --clustermac {MAC} --total-nodes {total} --local-node {nodes[0]} --hash-init {seed}"
        + "".join(f" && echo +{node} >/proc/net/ipt_CLUSTERIP/{address}" for node in nodes[1:]),
        host,
    )


def xt_cluster(host: str, address: str, _protocol: str, _mode: str, total: int, seed: int, nodes: list[int]) -> None:
    """A rule for each node, since iptables refuses masks above 32."""
    rule = f"-m cluster --cluster-total-nodes {total} --cluster-hash-seed {seed} --cluster-local-node"
    lines = [f"-A INPUT -d {address} {rule} {node} -j ACCEPT" for node in nodes] + [f"-A INPUT -d {address} -j DROP"]
    sh("iptables-legacy-restore --noflush <<'EOF'\n*filter\n" + "\n".join(lines) + "\nCOMMIT\nEOF", host)


RULES = {"clusterip": clusterip, "xt_cluster": xt_cluster}


@pytest.mark.parametrize(
    ("engine", "protocol", "mode", "total", "seed"),
    [
        ("clusterip", UDP, "sourceip", 16, 0),
        ("clusterip", TCP, "sourceip", 7, 0x1234),
        ("clusterip", UDP, "sourceip-sourceport", 16, 0x1234),
        ("clusterip", TCP, "sourceip-sourceport", 3, 0xFFFFFFFF),
        ("clusterip", UDP, "sourceip-sourceport-destport", 16, 0xFFFFFFFF),
        ("clusterip", TCP, "sourceip-sourceport-destport", 5, 0x1234),
        ("xt_cluster", UDP, "sourceip", 32, 0x1234),
        ("xt_cluster", TCP, "sourceip", 7, 0),
    ],
)
def test_filter_and_kernel_agree(world: World, engine: str, protocol: int, mode: str, total: int, seed: int) -> None:
    """Each of several addresses accepts the nodes with one bit set; together they give the node number."""
    host, client = world.netns("host"), world.netns("client")
    sh(f"ip link add eth0 type veth peer name eth0 netns {client} && ip link set eth0 up", host)
    sh(
        "ip link set eth0 up; ip route add default dev eth0;"
        " for f in all eth0; do echo 0 >/proc/sys/net/ipv4/conf/$f/rp_filter; done",
        host,
    )
    sh("ip link set eth0 up", client)
    bits = range((total - 1).bit_length())
    addresses = [f"192.0.2.{10 + bit}" for bit in bits]
    name = {UDP: "udp", TCP: "tcp"}[protocol]
    for bit, address in zip(bits, addresses):
        sh(f"ip addr add {address}/32 dev eth0", host)
        RULES[engine](host, address, name, mode, total, seed, [n for n in range(1, total + 1) if (n - 1) >> bit & 1])
    flows = random_flows(COUNT, total)
    taken = dict.fromkeys(flows, 0)

    def note(receiver: socket.socket) -> None:
        for packet in drained(receiver):
            taken[flow_of(packet)] |= 1 << packet[19] - 10

    with within(host):
        receiver = socket.socket(socket.AF_INET, socket.SOCK_RAW, protocol)  # sees what INPUT has accepted
    receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**22)
    mac = sh("ip -br link show eth0", host).split()[2]
    with receiver, packet_socket(client, 0) as sender:
        for i, (source, port) in enumerate(flows):
            for address in addresses:
                sender.send(frame(source, address, protocol, (port, PORT), mac))
            if i % 20 == 0:
                note(receiver)
        time.sleep(0.5)
        note(receiver)
    ports = MODES.index(mode)
    expected = {f: hashing.bucket(f[0], total, seed, (f[1], PORT)[:ports], engine) for f in flows}
    assert {flow: node + 1 for flow, node in taken.items()} == expected
