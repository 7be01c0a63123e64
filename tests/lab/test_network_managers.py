# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A host whose NIC systemd-networkd configures: networkd leaves the cluster's links alone.

The tests of this file use one host, in their order.
"""

from __future__ import annotations

import itertools
import re
import signal
import subprocess
import time
import typing as t

import pytest
from integration.served import differences_at_last

from .cluster import INSIDE, Cluster, say, wait_until

FILE = "/etc/systemd/network/00-clustered-openvpn-vpn.network"
OUR_LINKS = ("br-vpn", "ve-vpn1", "ve-vpn2")
EVERY = 0.05  # seconds between two pings


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[Cluster]:
    """Two members, on a host that networkd has configured before the run."""
    made = Cluster("networkd", tmp_path_factory.mktemp("networkd"), 1, netns_cluster_size=2)
    try:
        run_networkd(made)
        made.play()
        yield made
    finally:
        made.remove()


def run_networkd(cluster: Cluster) -> None:
    """Have networkd configure the NIC.

    With a writable /sys, networkd waits for udev, which a container lacks. An address that somebody else has added
    makes networkd give up on the link ("failed"), and then it removes nothing: the NIC is flushed first.
    """
    network = f"[Match]\nName=eth0\n[Network]\nAddress={cluster.lab.host('h1').address}/24\nLinkLocalAddressing=no\n"
    cluster.run(
        f"echo '{network}' >/etc/systemd/network/20-lan.network && mount -o remount,bind,ro /sys"
        " && rm /etc/systemd/system/systemd-networkd.service /etc/systemd/system/systemd-networkd.socket"
        " && systemctl daemon-reload && ip addr flush dev eth0 && systemctl start systemd-networkd"
    )
    wait_until(lambda: setup(cluster, "eth0") == "configured", 20, "networkd to configure eth0")


def setup(cluster: Cluster, link: str) -> str:
    """The state of a link as C(networkctl) shows it: configured, unmanaged, failed."""
    found = re.search(rf"^ *\d+ {link} +\S+ +\S+ +(\S+)", cluster.run("networkctl --no-legend list"), re.M)
    return found[1] if found else "missing"


def longest_gap(cluster: Cluster, event: t.Callable[[], object], seconds: float = 5) -> float:
    """The longest time without an answer to the client's pings through its tunnel, from the event on."""
    client = cluster.clients[0]
    ping = client.popen("ping", "-n", "-D", "-i", str(EVERY), INSIDE, stdout=subprocess.PIPE, text=True)
    try:
        time.sleep(1)
        event()
        time.sleep(seconds)
        end = time.time()
    finally:
        ping.send_signal(signal.SIGINT)  # `lab exec` has become ping
        output = ping.communicate(timeout=10)[0]
    answers = [float(at) for at in re.findall(r"^\[([\d.]+)\] .* time=", output, re.M)]
    assert len(answers) > 10, output[-1000:]
    return max(after - before for before, after in itertools.pairwise([*answers, end]))


def test_networkd_leaves_the_links_of_a_new_cluster_alone(cluster: Cluster) -> None:
    assert setup(cluster, "eth0") == "configured"
    cluster.connect()
    cluster.wait_until_served_as_predicted(20)
    assert cluster.run("clustered-openvpn check vpn") == "No changes needed."
    assert {link: setup(cluster, link) for link in OUR_LINKS} == dict.fromkeys(OUR_LINKS, "unmanaged")


@pytest.mark.parametrize("command", ["systemctl restart systemd-networkd", "networkctl reload"])
def test_clients_are_served_while_networkd_restarts_and_reloads(
    cluster: Cluster, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = cluster.state()
    gap = longest_gap(cluster, lambda: cluster.run(command))
    say(capsys, f"{command}: longest time without an answer {gap:.2f} s")
    assert gap < 1
    assert setup(cluster, "eth0") == "configured"
    assert {link: setup(cluster, link) for link in OUR_LINKS} == dict.fromkeys(OUR_LINKS, "unmanaged")
    assert not differences_at_last(lambda: before, cluster.state)


def test_links_that_networkd_has_taken_are_repaired(cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    """As on a host with a cluster of an earlier release, which has no file for networkd."""
    cluster.run(f"rm {FILE} && systemctl restart systemd-networkd")
    wait_until(lambda: "192.168." in cluster.run("ip -4 addr show dev ve-vpn1"), 20, "networkd to take the link")
    assert "master br-vpn" not in cluster.run("ip link show dev ve-vpn1")
    assert not cluster.clients[0].pings(INSIDE)
    steps = cluster.run("clustered-openvpn check vpn", check=False)
    assert FILE in steps
    assert "networkctl reload" in steps
    start = time.monotonic()
    cluster.run("systemctl reload clustered-openvpn@vpn")
    took = wait_until(lambda: cluster.clients[0].pings(INSIDE), 20, "the client to be served")
    say(capsys, f"repaired {time.monotonic() - start:.1f} s after the reload began ({took:.1f} s after its end)")
    # Forwarding and the NAT tables of networkd stay: nobody knows whether the host had them before.
    assert cluster.run("ip -4 addr show dev ve-vpn1") == ""
    assert "master br-vpn" in cluster.run("ip link show dev ve-vpn1")
    assert cluster.run("clustered-openvpn check vpn") == "No changes needed."


def test_the_file_is_written_while_networkd_is_stopped(cluster: Cluster) -> None:
    """Its directories in /run stay, and `networkctl reload` would fail."""
    cluster.run(f"systemctl stop systemd-networkd.socket systemd-networkd && rm {FILE}")
    cluster.run("systemctl reload clustered-openvpn@vpn && clustered-openvpn check vpn")
    cluster.run("systemctl start systemd-networkd")
    wait_until(lambda: setup(cluster, "eth0") == "configured", 20, "networkd to configure eth0")
    assert {link: setup(cluster, link) for link in OUR_LINKS} == dict.fromkeys(OUR_LINKS, "unmanaged")
    assert cluster.clients[0].pings(INSIDE)


def test_removal_removes_the_file(cluster: Cluster) -> None:
    assert cluster.play(whole=False).changed == 0
    cluster.play(whole=False, netns_cluster_state="absent")
    assert cluster.run(f"ls {FILE}", check=False) == ""
    assert setup(cluster, "eth0") == "configured"
