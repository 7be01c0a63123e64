# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Many members of one user, each with a client, while certificates are revoked and replaced.

MEMBERS=16 says how many.
"""

from __future__ import annotations

import os
import ssl
import subprocess
import sys
import time
import typing as t

import pytest

from ansible_collections.clustered.openvpn.plugins.filter.cluster import bucket_member, bucket_owners

from .cluster import ADDRESS, INSIDE, INSTANCES, Cluster, say, wait_until

MEMBERS = [f"vpn{i + 1}" for i in range(int(os.environ.get("MEMBERS", "16")))]
LAST = f"c{len(MEMBERS)}"
NODE = "/etc/clustered-openvpn/vpn"

pytestmark = pytest.mark.soak

# A conversation through the tunnel: a line each second, and the same one back.
TALK = f"""
import socket, sys, time
sock = socket.create_connection(("{INSIDE}", 7000), 20)
sock.settimeout(60)
while True:
    sock.sendall(b"x")
    assert sock.recv(1) == b"x"
    print(time.monotonic(), flush=True)
    time.sleep(0.2)
"""
LISTEN = f"""
import asyncio
async def answer(reader, writer):
    while data := await reader.read(1):
        writer.write(data)
async def main():
    server = await asyncio.start_server(answer, "{INSIDE}", 7000)
    await server.serve_forever()
asyncio.run(main())
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[Cluster]:
    """Each client has an address that another member serves."""
    made = Cluster(
        "many",
        tmp_path_factory.mktemp("many"),
        len(MEMBERS),
        netns_cluster_size=len(MEMBERS),
        netns_cluster_instances=INSTANCES[:1],
    )
    try:
        owners = bucket_owners([{"name": member} for member in MEMBERS])
        addresses = [f"203.0.113.{number}" for number in range(21, 254)]
        by_member = {bucket_member(address, owners, 256, 0): address for address in reversed(addresses)}
        for client, member in zip(made.clients, MEMBERS, strict=True):
            client.move(by_member[member])
        made.play()
        made.connect()
        yield made
    finally:
        made.remove()


def pids(cluster: Cluster) -> list[str]:
    """Of all instances."""
    return cluster.run(f"systemctl show --value --property MainPID {' '.join(cluster.units())}").split()


def sessions(cluster: Cluster) -> dict[str, tuple[str, int, int]]:
    """Common name -> member, number and beginning of its session; the same ones mean that none was dropped."""
    served = cluster.wait_until_served_as_predicted(30)
    return {name: (by[0][0], by[0][1].cid, by[0][1].connected_since) for name, by in served.items()}


def wait_until_refused(cluster: Cluster, name: str) -> None:
    """Reconnect a client, which the server refuses."""
    client = next(client for client in cluster.clients if client.name == name)
    client.disconnect()
    client.begin(*client.options_as(name, ADDRESS, 1194, "udp"))
    told = f"journalctl --quiet --no-pager --output=cat | grep 'certificate revoked: CN={name}'"
    wait_until(lambda: cluster.run(told, check=False), 20, f"{name} to be refused")
    assert "Initialization Sequence Completed" not in client.log.read_text()


def test_processes_of_one_user_serve_a_client_each(cluster: Cluster) -> None:
    served = cluster.wait_until_served_as_predicted(60)
    assert sorted(by[0][0] for by in served.values()) == sorted(MEMBERS)
    users = cluster.run(f"ps -o user= -p {','.join(pids(cluster))}").split()
    assert users == ["openvpn"] * len(MEMBERS)
    assert all(client.pings(INSIDE) for client in cluster.clients)


def test_a_client_that_is_revoked_is_refused_and_nobody_else_is_disturbed(cluster: Cluster) -> None:
    before, processes = sessions(cluster), pids(cluster)
    run = cluster.play(pki_revoked=[LAST], netns_cluster_prerequisites=False)
    assert run.changed > 0
    assert pids(cluster) == processes, "a revocation list is read at each connect: nothing was restarted"
    assert sessions(cluster) == before, "no session dropped, not even the revoked one's"
    wait_until_refused(cluster, LAST)
    gone = cluster.clients.pop()
    gone.disconnect()
    cluster.clients[0].disconnect()
    cluster.clients[0].connect_as("c1", ADDRESS, 1194, "udp")
    after = sessions(cluster)
    assert {name: s for name, s in after.items() if name != "c1"} == {
        name: s for name, s in before.items() if name not in ("c1", LAST)
    }


def test_a_new_server_certificate_is_seen_and_what_goes_through_the_tunnels_goes_on(
    cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    """OpenVPN reads it when it starts. So the servers are restarted, and their clients told: they are back at once."""
    served, processes = sessions(cluster), pids(cluster)
    tunnels = {client.name: client.tunnel_address() for client in cluster.clients}
    listener = subprocess.Popen(cluster.lab.host("h1").command("python3", "-c", LISTEN))
    talks: list[subprocess.Popen[str]] = []
    try:
        wait_until(lambda: ":7000" in cluster.run("ss -Hlnt"), 10, "the service to listen")
        for client in cluster.clients:
            talks.append(client.popen(sys.executable, "-c", TALK, stdout=subprocess.PIPE, text=True))
        (cluster.pki / "server.crt").unlink()
        run = cluster.play(pki_revoked=[LAST], netns_cluster_prerequisites=False)
        assert run.changed > 0
        assert set(pids(cluster)).isdisjoint(processes), "they all run from the new one"
        new = ssl.PEM_cert_to_DER_cert((cluster.pki / "server.crt").read_text())
        assert new == ssl.PEM_cert_to_DER_cert(cluster.run(f"cat {NODE}/server.crt"))
        cluster.wait_until_served_as_predicted(30)
        assert {client.name: client.tunnel_address() for client in cluster.clients} == tunnels
        assert {name: s[0] for name, s in served.items()} == {name: s[0] for name, s in sessions(cluster).items()}
        time.sleep(5)  # longer than TCP's retransmission waits here
        pauses = []
        for talk in talks:
            assert talk.poll() is None, "the connection has lived through it"
            talk.terminate()
            assert talk.stdout is not None
            times = [float(line) for line in talk.stdout.read().split()]
            pauses.append(max(b - a for a, b in zip(times, times[1:], strict=False)))
        say(capsys, f"connections through the tunnels paused for {min(pauses):.1f} to {max(pauses):.1f} s")
    finally:
        for process in (*talks, listener):
            process.kill()
            process.wait()
