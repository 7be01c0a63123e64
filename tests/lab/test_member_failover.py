# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Failover among the members of one host: a hung server, most of them, a dead follower, a crash loop, a bad CRL.

The tests of this file use one host, in their order.
"""

from __future__ import annotations

import json
import subprocess
import time
import typing as t

import pytest

from .cluster import ADDRESS, INSTANCES, Cluster, say, wait_until
from .ring import TABLE
from .test_boot import MEMBERS, all_busy

CLIENTS = 8
NETWORK, FOLLOWER = "clustered-openvpn@vpn", "clustered-openvpn-claims@vpn"
CHECK = "/usr/local/sbin/clustered-openvpn check vpn"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[Cluster]:
    """Four members that serve UDP."""
    made = Cluster(
        "siblings",
        tmp_path_factory.mktemp("siblings"),
        CLIENTS,
        netns_cluster_size=len(MEMBERS),
        netns_cluster_hash_init=all_busy([f"203.0.113.{101 + i}" for i in range(CLIENTS)]),
        netns_cluster_instances=INSTANCES[:1],
        netns_cluster_member_failover=True,
    )
    try:
        made.play()
        made.connect()
        yield made
    finally:
        made.remove()


def owners(cluster: Cluster) -> dict[int, str]:
    """Bucket -> member, from the kernel: read in the host's namespace, since entering the host takes longer."""
    netns = cluster.lab.network.netns("h1")
    listing = ["ip", "netns", "exec", netns, "nft", "-j", "list", "map", "netdev", TABLE, "owner"]
    found = json.loads(subprocess.run(listing, capture_output=True, text=True, check=True).stdout)["nftables"]
    names = {node["mac"]: node["netns"] for node in LAYOUT.setdefault("nodes", cluster.layout()["nodes"])}
    (one,) = (entry["map"] for entry in found if "map" in entry)
    return {int(bucket): names[mac] for bucket, mac in one["elem"]}


LAYOUT: dict[str, t.Any] = {}


def home(cluster: Cluster) -> dict[int, str]:
    """Bucket -> member, as laid out."""
    return {bucket: one["name"] for one in cluster.layout()["members"] for bucket in one["local_nodes"]}


def pid(cluster: Cluster, member: str) -> int:
    """The process of a member's server."""
    return int(cluster.run(f"systemctl show --value --property MainPID openvpn-server@{member}-udp"))


def signal(cluster: Cluster, name: str, *members: str) -> None:
    """Send a signal to servers."""
    cluster.run(f"kill -{name} {' '.join(str(pid(cluster, member)) for member in members)}")


def sessions(cluster: Cluster, *members: str) -> dict[str, t.Any]:
    """Common name -> its session with one of these members."""
    return {
        name: [client.cid for member, client in by]
        for name, by in cluster.served().items()
        if {member for member, _client in by} & set(members)
    }


def test_a_hung_member_is_replaced_and_gets_its_buckets_back(
    cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    layout = home(cluster)
    cluster.wait_until_served_as_predicted(20)
    assert owners(cluster) == layout
    mine = next(client for client in cluster.clients if cluster.owner(client.address) == "vpn1")
    mine.disconnect()
    before = sessions(cluster, *MEMBERS[1:])
    assert len(before) >= 3
    signal(cluster, "STOP", "vpn1")
    began = time.monotonic()
    wait_until(lambda: "vpn1" not in owners(cluster).values(), 5, "vpn1 owns nothing")
    moved = time.monotonic() - began
    mine.begin(*mine.options_as(mine.name, ADDRESS, 1194, "udp"))
    mine.wait_until_connected(10)
    now = owners(cluster)
    assert {b: m for b, m in now.items() if layout[b] != "vpn1"} == {b: m for b, m in layout.items() if m != "vpn1"}
    shares = sorted([m for b, m in now.items() if layout[b] == "vpn1"].count(member) for member in MEMBERS[1:])
    assert shares == [21, 21, 22]
    assert "64 buckets are moved away from vpn1 since 20" in cluster.run(CHECK)
    cluster.run(f"systemctl reload {NETWORK}")
    assert owners(cluster) == now, "a reload gives nothing back to a member that is unhealthy"
    signal(cluster, "CONT", "vpn1")
    back = wait_until(lambda: owners(cluster) == layout, 12, "all buckets are back")
    say(capsys, f"hung server: its buckets moved {moved:.1f} s after SIGSTOP, and back {back:.1f} s after SIGCONT")
    assert moved < 2.5
    assert "moved away" not in cluster.run(CHECK)
    cluster.wait_until_served_as_predicted(20)
    after = sessions(cluster, *MEMBERS[1:])
    assert {name: after[name] for name in before} == before, "nobody else has connected anew"


def test_a_dead_follower_moves_nothing(cluster: Cluster) -> None:
    layout = home(cluster)
    before = sessions(cluster, *MEMBERS)
    killed = cluster.run(f"systemctl show --value --property MainPID {FOLLOWER}")
    cluster.run(f"kill -KILL {killed}")
    end = time.monotonic() + 4
    while time.monotonic() < end:
        assert owners(cluster) == layout
    assert cluster.run(f"systemctl show --value --property MainPID {FOLLOWER}") not in ("0", killed)
    cluster.run(f"systemctl stop {FOLLOWER}")
    assert owners(cluster) == layout
    cluster.run(f"systemctl start {FOLLOWER}")
    assert sessions(cluster, *MEMBERS) == before


def test_when_most_members_hang_nothing_moves_and_nothing_restarts(cluster: Cluster) -> None:
    layout = home(cluster)
    pids = [pid(cluster, member) for member in MEMBERS]
    signal(cluster, "STOP", *MEMBERS[:3])
    end = time.monotonic() + 13
    try:
        while time.monotonic() < end:
            assert owners(cluster) == layout
    finally:
        cluster.run(f"kill -CONT {' '.join(map(str, pids[:3]))}")
    end = time.monotonic() + 3
    while time.monotonic() < end:
        assert owners(cluster) == layout
    assert [pid(cluster, member) for member in MEMBERS] == pids
    assert "most members became unhealthy at once" in cluster.run(f"journalctl --no-pager -o cat -u {FOLLOWER}")


def test_a_server_that_does_not_answer_is_restarted(cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    layout, before = home(cluster), pid(cluster, "vpn2")
    time.sleep(8)  # nothing moves within ten seconds after most members have failed
    signal(cluster, "STOP", "vpn2")
    wait_until(lambda: "vpn2" not in owners(cluster).values(), 5, "vpn2 owns nothing")
    took = wait_until(lambda: pid(cluster, "vpn2") not in (0, before), 15, "it is restarted")
    back = wait_until(lambda: owners(cluster) == layout, 12, "all buckets are back")
    say(capsys, f"hung server: restarted {took:.1f} s after its buckets had moved; they returned {back:.1f} s later")


def test_check_reports_a_crash_loop_and_a_truncated_revocation_list(
    cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    layout, conf = home(cluster), "/etc/openvpn/server/vpn3-udp.conf"
    cluster.run(f"cp -p {conf} /root/saved && echo no-such-option >>{conf}")
    signal(cluster, "KILL", "vpn3")
    moved = wait_until(lambda: "vpn3" not in owners(cluster).values(), 5, "vpn3 owns nothing")
    say(capsys, f"crash loop: its buckets moved after {moved:.1f} s")
    assert moved < 2.5
    wait_until(lambda: "restarts again and again" in cluster.run(f"{CHECK} 2>&1", check=False), 15, "it is reported")
    cluster.run(f"cp -p /root/saved {conf}")
    wait_until(lambda: owners(cluster) == layout, 15, "all buckets are back")
    path = cluster.run("find /etc/openvpn -name crl.pem")
    cluster.run(f"cp -p {path} /root/crl && head -c 100 /root/crl >{path}")
    output = cluster.run(f"{CHECK} 2>&1; echo status $?")
    cluster.run(f"cp -p /root/crl {path}")
    assert "contains no revocation list in PEM format" in output
    assert output.endswith("status 1")


@pytest.mark.soak
def test_a_run_leaves_buckets_where_they_are_and_false_switches_it_off(cluster: Cluster) -> None:
    wait_until(lambda: owners(cluster) == home(cluster), 15, "all buckets are at home")
    assert cluster.play(whole=False).changed == 0
    cluster.play(whole=False, netns_cluster_member_failover=False)
    assert cluster.run(f"systemctl is-active {FOLLOWER}", check=False) == "inactive"
    assert owners(cluster) == home(cluster)
    assert cluster.play(whole=False, netns_cluster_member_failover=False).changed == 0
    cluster.play(whole=False)  # as before
    assert cluster.run(f"systemctl is-active {FOLLOWER}") == "active"
