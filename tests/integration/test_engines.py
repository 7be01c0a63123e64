# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The engine xt_cluster, mixed rings, and the choice of an engine, on a kernel without CLUSTERIP."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import time
import typing as t

import pytest

from ansible_collections.clustered.openvpn.plugins.module_utils._cluster import hashing

from .packets import UDP, flow_of, frame, packet_socket
from .test_hash import Flow, random_flows
from .test_many_hosts import CLUSTERMAC, HOSTS, NAME, PORT, SEED, TOTAL, Ring, client
from .world import ModuleFailed, World, ask_tcp, sh, within

RELEASE = os.uname().release
COUNT, BATCH = 10_000, 20  # as many as a socket keeps until they are read
WIDE = 32  # the limit of xt_cluster


class MixedRing(Ring):
    """A ring of xt_cluster; the third host has nftables."""

    def build_host(self, number: int, **changes: t.Any) -> dict[str, t.Any]:
        return super().build_host(number, **{"engine": ("xt_cluster", "xt_cluster", "nftables")[number], **changes})

    def owner_of(self, address: str) -> str:
        """The owner of an address's bucket."""
        return self.hosts[(hashing.bucket(address, TOTAL, SEED) - 1) % HOSTS]


@pytest.fixture(scope="module")
def ring() -> t.Iterator[MixedRing]:
    """A ring with running services."""
    world = World(f"e{os.getpid() % 10000}")
    made = None
    try:
        made = MixedRing(world, "local")
        made.build()
        made.serve()
        yield made
    finally:
        made.stop() if made else world.remove()


def test_each_client_is_answered_once_whatever_engine_a_host_has(ring: MixedRing) -> None:
    for number in range(1, 25):
        assert ring.ask(number) == [ring.owner(number)]
        assert ask_tcp(ring.client, ring.address, PORT, source=client(number, 4)) == ring.owner(number)
    assert ring.ask(1, size=3000) == [ring.owner(1)]
    assert CLUSTERMAC[4] in sh(f"ip -n {ring.client} neigh show to {ring.address}")
    for number in range(1, 7):
        said = sh(f"ping -n -c 2 -i 0.2 -W 2 -I {client(number, 4)} {ring.address}", ring.client)
        assert " 2 received" in said
        assert "duplicates" not in said
    assert ask_tcp(ring.client, ring.address, PORT + 1, timeout=0.5) is None


def test_a_second_run_changes_nothing(ring: MixedRing) -> None:
    assert [result["commands"] for result in ring.build()] == [[], [], []]


@contextlib.contextmanager
def pinged(ring: MixedRing, number: int, host: str) -> t.Iterator[None]:
    """Ping from a client, and check that the rules drop none of the packets that reach the host. A busy switch may lose
    some before."""
    match = f"ip saddr {client(number, 4)} icmp type echo-request counter"
    sh(
        "nft -f - <<'EOF'\n"
        f"table netdev probe {{ chain c {{ type filter hook ingress device nic0 priority -600 ; {match} ; }} ; }}\n"
        f"table ip probe {{ chain c {{ type filter hook input priority 100 ; {match} ; }} ; }}\nEOF",
        host,
    )
    line = ["ping", "-q", "-n", "-i", "0.002", "-I", client(number, 4), ring.address]
    with subprocess.Popen(
        ["nsenter", f"--net=/run/netns/{ring.client}", *line], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield
        finally:
            process.send_signal(signal.SIGINT)
            output = process.communicate(timeout=60)[0]
            seen = sh("nft list table netdev probe; nft list table ip probe", host)
            sh("nft delete table netdev probe; nft delete table ip probe", host)
    came, passed = (int(packets) for packets in re.findall(r"packets (\d+)", seen))
    assert came == passed > 100, output
    assert "duplicates" not in output


def test_a_client_of_a_kept_bucket_loses_nothing_while_others_move(ring: MixedRing) -> None:
    number = next(n for n in range(1, 41) if ring.owner(n) == ring.hosts[0])
    kept = hashing.bucket(client(number, 4), TOTAL, SEED)
    with pinged(ring, number, ring.hosts[0]):
        for some in ([kept], [kept, 2, 3], [kept, 5], ring.buckets(ring.hosts[0])):
            ring.build_host(0, nodes=[{"local_nodes": some}])


def test_a_bucket_moves_between_engines(ring: MixedRing) -> None:
    number = next(n for n in range(1, 41) if ring.owner(n) == ring.hosts[2])
    moved = hashing.bucket(client(number, 4), TOTAL, SEED)
    assert ring.build_host(0, claims="add", nodes=[{"local_nodes": [moved]}])["moved"] == 1
    # On a busy machine, the second answer may be too late to be counted.
    assert {name for _time in range(5) for name in ring.ask(number)} == {ring.hosts[0], ring.hosts[2]}
    ring.build_host(2, claims="release", nodes=[{"local_nodes": [moved]}])
    assert ring.ask(number) == [ring.hosts[0]]
    (facts,) = ring.world.module("clusterip_info", name=NAME, on=ring.hosts[0])["clusters"].values()
    assert (facts["engine"], facts["total_nodes"], facts["hash_init"]) == ("xt_cluster", TOTAL, SEED)
    assert facts["owners"] == {"local": sorted([*ring.buckets(ring.hosts[0]), moved])}
    ring.build()
    assert ring.ask(number) == [ring.owner(number)]


@pytest.mark.parametrize("guarded", [True, False])
def test_a_server_that_speaks_first_does_not_turn_the_hash(ring: MixedRing, guarded: bool) -> None:
    """Without our rule, once the client's entry has expired, the packet would create one with the server as source."""
    host, port = ring.hosts[1], 20001 + guarded
    number = next(n for n in range(1, 41) if ring.owner(n) == host)
    source = client(number, 4)
    assert ring.owner_of(ring.address) != host, "or the trap is none"
    if not guarded:
        (rule,) = [line for line in sh("iptables-nft -S OUTPUT", host).splitlines() if NAME in line]
        sh(f"iptables-nft {rule.replace('-A', '-D', 1)}", host)
    datagram = frame(ring.address, source, UDP, (PORT, port))[14:]
    dropped = contextlib.suppress(PermissionError)  # the error of a packet that is dropped
    with within(host), dropped, socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as sock:
        sock.sendto(datagram, (source, 0))
    with within(ring.client), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((source, port))
        sock.settimeout(5 if guarded else 0.5)
        sock.sendto(b"?", (ring.address, PORT))
        if guarded:
            assert sock.recv(100).decode() == host
        else:
            with pytest.raises(TimeoutError):
                sock.recv(100)
            assert ring.build_host(1)["changed"]


def test_another_engine_takes_over_while_the_service_runs(ring: MixedRing) -> None:
    """On a kernel with both engines, and with the same hash, no bucket moves."""
    number = next(n for n in range(1, 41) if ring.owner(n) == ring.hosts[0])
    with pinged(ring, number, ring.hosts[0]):
        for engine in ("nftables", "xt_cluster"):
            result = ring.build_host(0, engine=engine)
            assert (result["changed"], result["moved"]) == (True, 0)
            assert ring.build_host(0, engine=engine)["commands"] == []


def test_auto_says_what_it_takes_and_why(ring: MixedRing) -> None:
    result = ring.build_host(2, engine="auto")
    assert (result["engine"], result["engine_reason"]) == ("nftables", "nftables supports this configuration")
    assert not result["changed"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"engine": "clusterip"},
            f"engine: 'clusterip': the kernel {RELEASE} has no CLUSTERIP target, which Linux 6.3 removed; use"
            " engine=nftables with hash_as=clusterip",
        ),
        (
            {"engine": "clusterip", "total_nodes": 17},
            "total_nodes: 17: clusterip supports 16 at most; use fewer, or engine=nftables",
        ),
        (
            {"engine": "xt_cluster", "total_nodes": 33},
            "total_nodes: 33: xt_cluster supports 32 at most; use fewer, or engine=nftables",
        ),
        (
            {"engine": "xt_cluster", "hash_as": "clusterip"},
            "hash_as: 'clusterip': xt_cluster computes its own hash only",
        ),
        ({"engine": "clusterip", "hash_as": "nftables"}, "hash_as: 'nftables': clusterip computes its own hash only"),
        (
            {"engine": "xt_cluster", "address": "2001:db8::10"},
            "engine: 'xt_cluster': hashes IPv4 addresses only, and the service address is 2001:db8::10; use nftables",
        ),
        (
            {"engine": "xt_cluster", "hashmode": "sourceip-sourceport", "force": True},
            "hashmode: 'sourceip-sourceport': xt_cluster hashes addresses only; use sourceip",
        ),
        (
            {
                "engine": "xt_cluster",
                "uplink": "routed",
                "bridge": "br0",
                "nodes": [{"netns": "x", "mac": "02:00:00:00:00:01", "local_nodes": [1]}],
            },
            "distribution: 'steer': with xt_cluster each member decides by itself; use distribution=flood, or"
            " engine=nftables",
        ),
    ],
)
def test_limits_are_told_before_any_change(ring: MixedRing, changes: dict[str, t.Any], message: str) -> None:
    look = "nft list ruleset; iptables-nft-save; ip addr"
    before = sh(look, ring.hosts[1])
    with pytest.raises(ModuleFailed) as caught:
        ring.build_host(1, **changes)
    assert message in str(caught.value)
    assert sh(look, ring.hosts[1]).splitlines()[:5] == before.splitlines()[:5]


def test_removal_leaves_nothing(ring: MixedRing) -> None:
    for i in range(HOSTS):
        ring.build_host(i, state="absent")
        assert not ring.build_host(i, state="absent")["changed"]
        left = sh(
            "nft list ruleset; iptables-nft-save; iptables-legacy-save; ip addr; cat /proc/net/dev_mcast", ring.hosts[i]
        )
        assert NAME not in left
        assert ring.address not in left
        assert CLUSTERMAC[4].replace(":", "") not in left


def test_xt_cluster_and_nftables_agree_in_the_kernel(world: World) -> None:
    """Each of five addresses accepts the buckets with one bit set, by xt_cluster; nftables sees each packet as well."""
    host, peer = world.netns("host"), world.netns("client")
    sh(
        f"ip link add eth0 type veth peer name eth0 netns {peer} && ip link set eth0 up"
        " && ip route add default dev eth0",
        host,
    )
    # No ARP: answers that wait for unreachable neighbours would delay the pings of all namespaces.
    up = "ip link set eth0 arp off up"
    sh(f"for f in all eth0; do echo 0 >/proc/sys/net/ipv4/conf/$f/rp_filter; done; {up}", host)
    sh("ip link set eth0 up", peer)
    rules = ["*mangle"]
    addresses = [f"192.0.2.{10 + bit}" for bit in range(WIDE.bit_length() - 1)]
    for bit, address in enumerate(addresses):
        sh(f"ip addr add {address}/32 dev eth0", host)
        match = f"-m cluster --cluster-total-nodes {WIDE} --cluster-hash-seed {SEED} --cluster-local-node"
        rules += [f"-A INPUT -d {address} {match} {n + 1} -j ACCEPT" for n in range(WIDE) if n >> bit & 1]
        rules.append(f"-A INPUT -d {address} -j DROP")
    sh("iptables-nft-restore --noflush <<'EOF'\n" + "\n".join([*rules, "COMMIT"]) + "\nEOF", host)
    # nft writes the bucket into the identification field, where the receiver reads it.
    numbers = ", ".join(f"{n} : {n}" for n in range(WIDE))
    sh(
        "nft -f - <<'EOF'\ntable netdev t {\n map id { typeof numgen inc mod 256 : ip id;"
        f" elements = {{ {numbers} }} ; }}"
        "\n chain c { type filter hook ingress device eth0 priority 0;"
        f" ip daddr 192.0.2.0/24 ip id set jhash ip saddr mod {WIDE} seed {SEED} map @id ;\n }}\n}}\nEOF",
        host,
    )
    flows = random_flows(4, 6)
    by_match = dict.fromkeys(flows, 0)
    by_nft: dict[Flow, set[int]] = {flow: set() for flow in flows}
    mac = sh("ip -br link show eth0", host).split()[2]
    with within(host):
        receiver = socket.socket(socket.AF_INET, socket.SOCK_RAW, UDP)
    with receiver, packet_socket(peer, 0) as sender:
        for start in range(0, COUNT, BATCH):
            for source, port in flows[start : start + BATCH]:
                for address in addresses:
                    sender.send(frame(source, address, UDP, (port, PORT), mac))
            time.sleep(0.01)
            while True:
                try:
                    packet = receiver.recv(2048, socket.MSG_DONTWAIT)
                except BlockingIOError:
                    break
                by_match[flow_of(packet)] |= 1 << packet[19] - 10
                by_nft[flow_of(packet)].add(int.from_bytes(packet[4:6], "big"))
    silent = [flow for flow, seen in by_nft.items() if not seen]
    assert {flow: {n} for flow, n in by_match.items() if flow not in silent} == {
        flow: seen for flow, seen in by_nft.items() if flow not in silent
    }
    # The bucket without any bit set is accepted by no address.
    assert {hashing.bucket(flow[0], WIDE, SEED) for flow in silent} <= {1}
    assert {flow: n + 1 for flow, n in by_match.items()} == {f: hashing.bucket(f[0], WIDE, SEED) for f in flows}
