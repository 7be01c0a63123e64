# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A ring of one host with the kernel's CLUSTERIP and two with nftables; then the first one is reinstalled."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import typing as t
from pathlib import Path

import pytest

from ansible_collections.clustered.openvpn.plugins.module_utils._cluster import hashing

from .client import LAB
from .main import Lab

PLAYBOOK = Path(__file__).parents[2] / "playbooks/migrate_engine.yml"
NAME = f"engines{os.getpid()}"
ADDRESS, PORT, TOTAL, SEED = "203.0.113.20", 1194, 16, 0x5EED
HOSTS = ["h1", "h2", "h3"]
CLIENTS = [f"10.9.{i // 250}.{i % 250 + 1}" for i in range(300)]

# Answers each datagram, and each byte of a connection, with the host's name.
SERVE = f"""
import asyncio, socket
me = socket.gethostname().encode() + b"\\n"
class Datagrams(asyncio.DatagramProtocol):
    def connection_made(self, transport): self.transport = transport
    def datagram_received(self, data, client): self.transport.sendto(me, client)
async def answer(reader, writer):
    while await reader.read(1):
        writer.write(me)
async def main():
    loop = asyncio.get_running_loop()
    await loop.create_datagram_endpoint(Datagrams, ("{ADDRESS}", {PORT}))
    await (await asyncio.start_server(answer, "{ADDRESS}", {PORT})).serve_forever()
asyncio.run(main())
"""
# Address -> names of the hosts that answer its datagram.
ASK = f"""
import json, select, socket, sys, time
found, socks = {{}}, {{}}
for address in json.load(sys.stdin):
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((address, 0))
    sock.sendto(b"?", ("{ADDRESS}", {PORT}))
    socks[sock], found[address] = address, []
    time.sleep(0.002)
end = time.monotonic() + 3
while time.monotonic() < end:
    for sock in select.select(list(socks), [], [], 0.2)[0]:
        found[socks[sock]].append(sock.recv(100).decode().strip())
print(json.dumps(found))
"""
# One connection from each address, which sends a byte every 200 ms until standard input ends. Prints the hosts that
# have answered each, and the longest pause. Exits on errors.
TALK = f"""
import json, select, socket, sys, time
socks, said, last, worst = {{}}, {{}}, {{}}, {{}}
for address in sys.argv[1:]:
    sock = socket.create_connection(("{ADDRESS}", {PORT}), 10, (address, 0))
    socks[sock], said[address], last[address], worst[address] = address, [], time.monotonic(), 0
print("ready", flush=True)
while not select.select([sys.stdin], [], [], 0.2)[0]:
    for sock, address in socks.items():
        sock.sendall(b"x")
        name = sock.recv(100).decode().strip()
        if name not in said[address]:
            said[address].append(name)
        now = time.monotonic()
        worst[address], last[address] = max(worst[address], now - last[address]), now
print(json.dumps([said, max(worst.values())]))
"""


class Ring:
    """The hosts of the ring, their services and clients."""

    def __init__(self, directory: Path):
        self.directory = directory
        self.lab = Lab(NAME)
        self.servers: dict[str, subprocess.Popen[bytes]] = {}
        subprocess.run([LAB, "up", NAME, "--hosts", "3", "--legacy", "1", "--clients", "1"], check=True, timeout=400)
        self.run("c1", "ip", "-batch", "-", input="".join(f"addr add {c}/16 dev eth0\n" for c in CLIENTS))

    def prepare(self, host: str) -> None:
        """Add the route to the clients, and start the service."""
        self.run(host, "ip", "route", "replace", "10.9.0.0/16", "dev", "eth0")
        self.run(host, "sysctl", "-qw", "net.ipv4.ip_nonlocal_bind=1")
        self.servers[host] = subprocess.Popen(self.lab.host(host).command("python3", "-c", SERVE))

    def run(self, where: str, *command: str, **how: t.Any) -> str:
        """Run a command on a host or client: its output."""
        line = [str(LAB), "exec", NAME, where, "--", *command]
        return subprocess.run(line, capture_output=True, text=True, timeout=60, check=True, **how).stdout

    def play(self, *options: str, engines: t.Sequence[str]) -> str:
        """Run the playbook with these engines: its output."""
        inventory = self.lab.inventory()
        hosts = inventory["all"]["children"]["clustered_openvpn"]["hosts"]
        for host, engine in zip(HOSTS, engines):
            hosts[host]["netns_cluster_engine"] = engine
        inventory["all"]["vars"].update(
            clusterip_cluster_address=ADDRESS,
            clusterip_cluster_interface="eth0",
            clusterip_cluster_total_nodes=TOTAL,
            clusterip_cluster_hash_init=SEED,
            clusterip_cluster_services=[{"protocol": "udp", "port": PORT}, {"protocol": "tcp", "port": PORT}],
            netns_cluster_hash_as="clusterip",
        )
        path = self.directory / "hosts.json"
        path.write_text(json.dumps(inventory, default=str))
        done = subprocess.run(
            ["ansible-playbook", "-i", path, PLAYBOOK, *options],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def owners(self) -> dict[str, list[int]]:
        """Host -> its buckets, from the kernel of each host."""
        found = {}
        for host in HOSTS:
            with contextlib.suppress(subprocess.CalledProcessError):
                text = self.run(host, "sh", "-c", LOOK)
                found[host] = [int(n) for n in re.findall(r"\d+", text)]
        return found

    def ask(self) -> dict[str, list[str]]:
        """Client -> the hosts that answer it."""
        return json.loads(self.run("c1", sys.executable, "-c", ASK, input=json.dumps(CLIENTS)))

    def predicted(self) -> dict[str, list[str]]:
        """Client -> the host that should answer it."""
        owner = {bucket: host for host, buckets in self.owners().items() for bucket in buckets}
        return {c: [owner[hashing.bucket(c, TOTAL, SEED, (), "clusterip")]] for c in CLIENTS}

    def remove(self) -> None:
        """Remove the lab."""
        subprocess.run([LAB, "down", NAME], check=True, timeout=120)
        for server in self.servers.values():
            server.wait(timeout=20)


# Prints the buckets of a host, with either engine.
LOOK = f"""
cat /proc/net/ipt_CLUSTERIP/{ADDRESS} 2>/dev/null || nft list set netdev clustered_openvpn_vpn owned 2>/dev/null |
    tr -d '\\n' | sed 's/.*elements = //' | tr -d '{{}}' || exit 0
"""


@pytest.fixture(scope="module")
def ring(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[Ring]:
    """Configured by the playbook: hosts that are not in the ring join it."""
    made = Ring(tmp_path_factory.mktemp("engines"))
    try:
        for host in HOSTS:
            made.prepare(host)
        made.play(engines=("clusterip", "nftables", "nftables"))
        yield made
    finally:
        made.remove()


def test_each_of_300_clients_is_answered_once_in_a_mixed_ring(ring: Ring) -> None:
    assert sorted(bucket for buckets in ring.owners().values() for bucket in buckets) == list(range(1, TOTAL + 1))
    assert ring.ask() == ring.predicted()
    assert "changed=0" in ring.play(engines=("clusterip", "nftables", "nftables"))


def test_a_host_leaves_and_comes_back_with_another_system(ring: Ring, capsys: pytest.CaptureFixture[str]) -> None:
    """Connections to the two other hosts continue, and no client is answered twice."""
    before, own = ring.predicted(), len(ring.owners()["h1"])
    staying = [client for client, (owner,) in before.items() if owner != "h1"][:40]
    engines = ("nftables", "nftables", "nftables")
    talk = subprocess.Popen(
        [str(LAB), "exec", NAME, "c1", "--", sys.executable, "-c", TALK, *staying],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert talk.stdin
    assert talk.stdout
    try:
        assert talk.stdout.readline() == "ready\n"
        said = ring.play("--check", "-e", "migrate_engine_leaving=h1", engines=engines)
        assert f"h1: engine clusterip -> none; gives {own} and takes 0 of 16 buckets" in said
        assert ring.ask() == before, "it was a check"

        ring.play("-e", "migrate_engine_leaving=h1", engines=engines)
        assert ring.owners()["h1"] == []
        without = ring.ask()
        assert without == ring.predicted()
        assert {c: who for c, who in without.items() if before[c] != ["h1"]} == {
            c: who for c, who in before.items() if who != ["h1"]
        }

        ring.lab.host("h1").switch_off()
        ring.servers.pop("h1").wait(timeout=60)
        (ring.lab.directory / "h1.ssh").unlink(missing_ok=True)  # Ansible's connection to the old system
        made_with = ring.lab.directory / "lab.json"
        made_with.write_text(json.dumps({**ring.lab.settings(), "legacy": 0}))
        ring.lab.host("h1").start()
        ring.lab.host("h1").wait_until_running()
        ring.prepare("h1")
        assert "6.1." not in ring.run("h1", "uname", "-r")

        said = ring.play("--check", engines=engines)
        assert f"h1: engine none -> nftables; gives 0 and takes {own} of 16 buckets" in said
        ring.play(engines=engines)
        after = ring.ask()
        assert after == ring.predicted()
        assert {who for (who,) in after.values()} == set(HOSTS)
        talk.stdin.close()
        answered, pause = json.loads(talk.stdout.read())
        assert talk.wait(timeout=20) == 0
        assert answered == {client: before[client] for client in staying}
        with capsys.disabled():
            print(f"\n  {len(staying)} connections to hosts that stayed went on, paused for {pause:.2f} s at most")
    finally:
        talk.kill()
        talk.wait()
