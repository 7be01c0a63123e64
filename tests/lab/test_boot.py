# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reboots, killed processes and stopped units: systemd restores the cluster without Ansible.

The tests of this file use one host, in their order.
"""

from __future__ import annotations

import concurrent.futures
import socket
import subprocess
import time
import typing as t

import pytest
from integration.served import differences, differences_at_last
from integration.world import within

from ansible_collections.clustered.openvpn.plugins.filter.cluster import bucket_member, bucket_owners

from .client import LAB
from .cluster import ADDRESS, INSIDE, Cluster, say, wait_until

MEMBERS = [f"vpn{i + 1}" for i in range(4)]
CLIENTS = 8
UNIT = "clustered-openvpn@vpn"
KEEPER = "clustered-openvpn-keeper@vpn"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[Cluster]:
    """Four members that serve UDP and TCP."""
    made = Cluster(
        "boot",
        tmp_path_factory.mktemp("boot"),
        CLIENTS,
        netns_cluster_size=len(MEMBERS),
        netns_cluster_hash_init=all_busy([f"203.0.113.{101 + i}" for i in range(CLIENTS)]),
        # After a power loss, UDP clients reconnect when this timeout is over.
        openvpn_server_keepalive_interval=2,
        openvpn_server_keepalive_timeout=8,
    )
    try:
        made.play()
        yield made
    finally:
        made.remove()


def all_busy(addresses: list[str]) -> int:
    """A seed of the hash that gives every member a client."""
    owners = bucket_owners([{"name": member} for member in MEMBERS])
    return next(seed for seed in range(1000) if {bucket_member(a, owners, 256, seed) for a in addresses} == {*MEMBERS})


def ssh_answers(cluster: Cluster) -> bool:
    """Whether the host's ssh server sends its banner."""
    try:
        with within(cluster.lab.network.netns("switch")), socket.create_connection(("203.0.113.1", 22), 0.5) as sock:
            return sock.recv(4) == b"SSH-"
    except OSError:
        return False


def all_ping(cluster: Cluster) -> bool:
    """Whether all clients reach the host through their tunnels."""
    with concurrent.futures.ThreadPoolExecutor(CLIENTS) as pool:
        return all(pool.map(lambda client: client.pings(INSIDE), cluster.clients))


def is_at_home(cluster: Cluster, server: dict[str, t.Any]) -> bool:
    """Whether a server runs in the current namespace of its member."""
    pid = cluster.run(f"systemctl show --value -p MainPID openvpn-server@{server['name']}")
    inodes = cluster.run(f"stat -Lc %i /proc/{pid}/ns/net /run/netns/{server['netns']}", check=False).split()
    return len(inodes) == 2 and inodes[0] == inodes[1]


def refused_to_start(cluster: Cluster) -> list[str]:
    """Journal lines of instances that were started without their namespace, in any boot."""
    lines = cluster.run("journalctl --no-pager -t systemd").splitlines()
    assert len(lines) > 10, "the journal has systemd's messages"
    return [line for line in lines if "NETWORK" in line]


def test_clients_are_served_by_the_member_that_the_filter_predicts(cluster: Cluster) -> None:
    cluster.connect(["udp", "tcp"])
    served = cluster.wait_until_served_as_predicted(20)
    assert {by[0][0] for by in served.values()} == {*MEMBERS}
    assert all_ping(cluster)


@pytest.mark.parametrize("how", [[], ["--hard"]], ids=["reboot", "hard"])
def test_after_a_reboot_everything_is_as_before_and_clients_are_served(
    cluster: Cluster, how: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    before, leader = cluster.state(), cluster.lab.host("h1").leader()
    with subprocess.Popen([LAB, "reboot", *how, cluster.lab.name, "h1"]) as reboot:
        start = time.monotonic()
        wait_until(lambda: cluster.lab.host("h1").leader() not in (None, leader), 60, "the host to go down")
        wait_until(lambda: ssh_answers(cluster), 60, "ssh to be back")
        back = time.monotonic()
        assert reboot.wait(timeout=90) == 0, "it booted, and no unit failed"
    cluster.wait_until_served_as_predicted(15 - (time.monotonic() - back))
    served = time.monotonic()
    assert all_ping(cluster)
    say(capsys, f"ssh is back after {back - start:.1f} s, all clients are served {served - back:.1f} s later")
    assert served - back < 15
    assert not differences_at_last(lambda: before, cluster.state)
    again = cluster.play(whole=not how)
    assert again.changed == 0, again.output
    assert not differences(before, cluster.state())
    assert refused_to_start(cluster) == []


def test_a_killed_instance_is_back_within_three_seconds(cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    for unit in cluster.units()[:2]:
        server = unit.partition("@")[2]
        pid = cluster.run(f"systemctl show --value --property MainPID {unit}")
        cluster.run(f"kill -KILL {pid}")
        # The process may still exist for a moment.
        wait_until(lambda s=server: not cluster.is_ready(s), 3, f"{server} to end")
        took = wait_until(lambda s=server: cluster.is_ready(s), 3, f"{server} to be ready")
        say(capsys, f"{server}: ready {took:.1f} s after SIGKILL")
        assert cluster.run(f"systemctl show --value --property MainPID {unit}") != pid
    cluster.wait_until_served_as_predicted(20)


def test_stop_takes_the_cluster_down_and_start_brings_it_back(cluster: Cluster) -> None:
    before = cluster.state()
    cluster.run(f"systemctl stop {UNIT}")
    assert cluster.run("ip netns list") == ""
    links = cluster.run("ip -br link").splitlines()
    assert {link.split()[0].partition("@")[0] for link in links} == {"lo", "eth0"}
    assert cluster.run("nft list ruleset") == ""
    assert cluster.run("ip neigh show proxy; ip neigh show nud permanent") == ""
    assert "openvpn" not in cluster.run("ps -eo comm")
    for unit in [UNIT, *cluster.units()]:
        assert cluster.run(f"systemctl is-active {unit}", check=False) == "inactive"
    cluster.run(f"systemctl start {UNIT}")
    for server in cluster.layout()["servers"]:
        wait_until(lambda s=server["name"]: cluster.is_ready(s), 10, f"{server['name']} to be ready")
    cluster.wait_until_served_as_predicted(20)
    assert not differences_at_last(lambda: before, cluster.state)


def test_a_namespace_made_again_is_repaired_by_reload(cluster: Cluster) -> None:
    before = cluster.state()
    cluster.run(f"systemctl stop {KEEPER}; ip netns del vpn2; ip netns add vpn2")
    assert "ip link add" in cluster.run("clustered-openvpn check vpn", check=False)
    cluster.run(f"systemctl reload {UNIT}")
    for server in cluster.layout()["servers"]:
        wait_until(lambda s=server: is_at_home(cluster, s), 10, f"{server['name']} to be in its namespace")
        wait_until(lambda s=server: cluster.is_ready(s["name"]), 10, f"{server['name']} to be ready")
    assert cluster.run("clustered-openvpn check vpn") == "No changes needed."
    cluster.run(f"systemctl start {KEEPER}")
    cluster.wait_until_served_as_predicted(20)
    assert not differences_at_last(lambda: before, cluster.state)
    assert refused_to_start(cluster) == []


LOSSES = {
    "NIC down and up": "ip link set eth0 down; ip link set eth0 up",
    "address removed and added": "ip addr del 203.0.113.1/24 dev eth0; ip addr add 203.0.113.1/24 dev eth0",
    "nftables restarted": "systemctl restart nftables",
    "forwarding on and off": "sysctl -qw net.ipv4.ip_forward=1 net.ipv4.ip_forward=0",
    "bridge deleted": "ip link del br-vpn",
    "port deleted": "ip link del ve-vpn1",
    "namespace deleted": "ip netns del vpn2",
}


@pytest.mark.parametrize("loss", LOSSES)
def test_the_keeper_repairs_each_loss(cluster: Cluster, loss: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = cluster.state()
    (pid,) = set(cluster.run(f"systemctl show --value --property MainPID {KEEPER}").split())
    since = cluster.run("date +%s.%N")
    cluster.run(LOSSES[loss])
    said = f"journalctl --no-pager -o short-unix -u {KEEPER} --since @{since}"
    wait_until(lambda: "repaired within" in cluster.run(said), 10, "the keeper's message")
    (*_others, last) = [line for line in cluster.run(said).splitlines() if "repaired within" in line]
    took = float(last.split()[0]) - float(since)
    say(capsys, f"{loss}: repaired {took:.1f} s after the command was sent")
    for server in cluster.layout()["servers"]:
        wait_until(lambda s=server: is_at_home(cluster, s), 10, f"{server['name']} to be in its namespace")
        wait_until(lambda s=server: cluster.is_ready(s["name"]), 10, f"{server['name']} to be ready")
    assert cluster.run("clustered-openvpn check vpn") == "No changes needed."
    cluster.run("systemctl stop nftables")
    cluster.wait_until_served_as_predicted(20)
    assert not differences_at_last(lambda: before, cluster.state)
    assert cluster.run(f"systemctl show --value --property MainPID {KEEPER}") == pid
    assert took < 2.5, cluster.run(said)  # with ssh


def test_rules_that_nftables_flushed_are_repaired(cluster: Cluster) -> None:
    """nftables.service flushes all rules. Its reload reloads the cluster's unit, too; its restart does not."""
    before = cluster.state()
    try:
        cluster.run(f"systemctl stop {KEEPER}")
        cluster.run(f"systemctl restart nftables && ! clustered-openvpn check vpn && systemctl reload {UNIT}")
        beside = cluster.state()
        assert all(": + " in line and "clustered" not in line for line in differences(before, beside)), "its own rules"
        cluster.run("systemctl reload nftables")
        assert not differences_at_last(lambda: beside, cluster.state)
        assert all_ping(cluster)
    finally:
        cluster.run(f"systemctl stop nftables; systemctl reload {UNIT}; systemctl start {KEEPER}")
    assert not differences_at_last(lambda: before, cluster.state)


def test_with_a_broken_manifest_the_host_boots_and_the_unit_says_why(cluster: Cluster) -> None:
    manifest = "/etc/clustered-openvpn/vpn.json"
    cluster.run(f"cp {manifest} /root/ && echo '{{\"name\": ' >{manifest}")
    start = time.monotonic()
    done = subprocess.run(
        [LAB, "reboot", cluster.lab.name, "h1"], capture_output=True, text=True, timeout=180, check=False
    )
    assert f"units of host h1 failed: {UNIT}" in done.stderr, "its boot has ended"
    assert time.monotonic() - start < 30
    assert cluster.run("systemctl is-active multi-user.target") == "active"
    assert ssh_answers(cluster)
    output = cluster.run(f"journalctl --no-pager -b -u {UNIT} -o cat")
    assert f"clustered-openvpn: vpn: {manifest} is damaged" in output
    assert "Traceback" not in output
    assert cluster.run("systemctl is-active 'openvpn-server@*'", check=False).split().count("active") == 0
    assert ADDRESS not in cluster.run("ip neigh show proxy")
    cluster.run(f"cp /root/vpn.json {manifest} && systemctl restart {UNIT}")
    cluster.wait_until_served_as_predicted(20)
    assert cluster.play(whole=False).changed == 0
    assert refused_to_start(cluster) == []
