# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A bundle between two hosts with a router between them, and a strict rp_filter."""

from __future__ import annotations

import re
import subprocess
import typing as t

import pytest
from testinfra.host import Host

testinfra_hosts = ["ansible://h1", "ansible://h3"]

TUNNELS = [1, 2, 3, 4]
UNITS = ["clustered-openvpn@wide", "clustered-openvpn-watch@wide", *(f"openvpn-server@wide-{k}" for k in TUNNELS)]


def in_client(netns: str, command: str) -> str:
    """Run a command on the host of a site; its output."""
    done = subprocess.run(
        ["ip", "netns", "exec", netns, "sh", "-ec", command], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def sites(host: Host) -> t.Iterator[list[str]]:
    """The hosts of both sites, with addresses and routes."""
    clients = [client["netns"] for client in host.ansible.get_variables()["lab_clients"]]
    for netns, site in zip(clients, (1, 3)):
        in_client(netns, f"ip addr add 192.168.{site}.9/24 dev eth0; ip route add default via 192.168.{site}.1")
    yield clients
    for netns, site in zip(clients, (1, 3)):
        in_client(netns, f"ip route del default; ip addr del 192.168.{site}.9/24 dev eth0")


def sent(host: Host) -> dict[int, int]:
    """Packets sent into each tunnel."""
    lines = host.check_output("cat /proc/net/dev").splitlines()
    found = {line.partition(":")[0].strip(): line.partition(":")[2].split() for line in lines}
    return {k: int(found[f"wide-{k}"][9]) for k in TUNNELS}


@pytest.mark.parametrize("unit", UNITS)
def test_the_units_run(host: Host, unit: str) -> None:
    assert host.service(unit).is_running


def test_tunnels_run_without_privileges(host: Host) -> None:
    pid = host.check_output("systemctl show --property MainPID --value openvpn-server@wide-1")
    assert host.check_output(f"ps -o user= -p {pid}") == "openvpn"
    assert host.check_output('ip -details -json link show wide-1 | grep -o \'"user":"openvpn"\'')


def test_only_the_service_reads_the_key(host: Host) -> None:
    (key,) = host.check_output("find /etc/clustered-openvpn/wide -name server.key -o -name client.key").split()
    assert (host.file(key).user, host.file(key).mode) == ("openvpn", 0o600)


def test_packets_of_the_sites_are_dealt_out_evenly_where_rp_filter_is_strict(host: Host, sites: list[str]) -> None:
    assert host.check_output("sysctl -n net.ipv4.conf.all.rp_filter") == "1"
    before = sent(host)
    output = in_client(sites[0], "ping -q -c 400 -i 0.01 -W 2 192.168.3.9")
    assert re.search(r"400 received", output), output
    delta = {k: count - before[k] for k, count in sent(host).items()}
    # A hundred each, and the probes.
    assert min(delta.values()) >= 100
    assert max(delta.values()) - min(delta.values()) < 25, delta


def test_the_end_itself_uses_all_tunnels(host: Host) -> None:
    before = sent(host)
    other = "10.255.252.129" if host.check_output("hostname") == "h1" else "10.255.252.1"
    assert "100 received" in host.check_output(f"ping -q -c 100 -i 0.01 -W 2 {other}")
    delta = {k: count - before[k] for k, count in sent(host).items()}
    assert min(delta.values()) >= 25, delta
