# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A bundle of real tunnels: the share of each tunnel, refused conflicts, and changes of the settings."""

from __future__ import annotations

import os
import signal
import socket
import typing as t
from itertools import count
from pathlib import Path

import pytest

from ansible_collections.clustered.openvpn.plugins.module_utils._bundle import watch_process

from .bundle_lab import HOSTS, OWN, SITES, BundleLab, Counter, send
from .world import sh, within

_numbers = count()


@pytest.fixture(scope="module")
def bundle(pki: Path) -> t.Iterator[BundleLab]:
    """Four tunnels, per packet."""
    made = BundleLab(f"u{os.getpid() % 10000}x{next(_numbers)}", pki)
    try:
        made.converge()
        made.wait_live([1, 2, 3, 4])
        yield made
    finally:
        made.remove()


def shares(bundle: BundleLab, end: int, source: str, to: str, packets: int = 4000) -> dict[int, int]:
    """Send datagrams, check that all arrive; the number that each tunnel carried."""
    other = bundle.hosts[1 - end] if source == bundle.hosts[end] else bundle.ends[1 - end]
    counter = Counter(other, to, 5000)
    try:
        before = bundle.counts(end, 5000)
        send(source, (to, 5000), packets, rate=4000)
        assert counter.wait(packets) == packets
    finally:
        counter.stop()
    return {number: count - before[number] for number, count in bundle.counts(end, 5000).items()}


@pytest.mark.parametrize("end", [0, 1], ids=["a to b", "b to a"])
@pytest.mark.parametrize("version", [0, 1], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("how", ["forwarded", "local"])
def test_four_thousand_packets_are_a_thousand_for_each(bundle: BundleLab, end: int, version: int, how: str) -> None:
    if how == "forwarded":
        found = shares(bundle, end, bundle.hosts[end], HOSTS[1 - end][version])
    else:
        found = shares(bundle, end, bundle.ends[end], OWN[1 - end][version])
    assert found == dict.fromkeys([1, 2, 3, 4], 1000)


def test_full_packets_fit_and_no_outer_packet_is_a_fragment(bundle: BundleLab) -> None:
    fragments = "chain c { type filter hook forward priority 0; ip frag-off & 0x3fff != 0 counter; };"
    sh(f"nft 'table ip fragments {{ {fragments} }}'", bundle.router)
    size = bundle.layouts[0]["bundles"][0]["mtu"] - 28
    output = sh(f"ping -q -c 8 -i 0.05 -M do -s {size} {HOSTS[1][0]}", bundle.host_a)
    assert "8 received" in output
    output = sh(f"ping -c 1 -M do -s {size + 1} {HOSTS[1][0]} 2>&1", bundle.host_a, check=False)
    assert f"(mtu = {size + 28})" in output
    assert "packets 0 " in sh("nft list table ip fragments", bundle.router)


def test_segments_are_made_to_fit(bundle: BundleLab) -> None:
    with within(bundle.host_b):
        listener = socket.create_server((HOSTS[1][0], 0))
    with within(bundle.host_a), socket.create_connection(listener.getsockname(), 10) as sock:
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG) <= bundle.layouts[0]["bundles"][0]["mtu"] - 40
    listener.close()


def test_where_no_tunnel_is_live_packets_are_refused(bundle: BundleLab) -> None:
    table = f"inet clustered_openvpn_{bundle.names[0]}.bundle"
    watch_process.stop(bundle.names[0])
    lines = [f"flush chain {table} spread", f'add rule {table} spread reject with icmpx no-route comment "live: #0"']
    sh("nft -f - <<'EOF'\n" + "\n".join(lines) + "\nEOF", bundle.a)
    assert "Destination Net Unreachable" in sh(f"ping -c 1 -W 2 {HOSTS[1][0]}", bundle.host_a, check=False)
    assert bundle.converge(), "the watch is started again"
    bundle.wait_live([1, 2, 3, 4])


def test_a_port_that_is_taken_is_refused_before_any_change(bundle: BundleLab) -> None:
    settings, bundle.settings = bundle.settings, {**bundle.settings, "tunnels": 5}
    (params,) = bundle.lay_out(1)["bundles"]
    bundle.settings = settings
    with within(bundle.b), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("0.0.0.0", 1199))
        with pytest.raises(AssertionError, match=r"tunnels\[4\].port: 1199: udp port 1199 is held by process"):
            bundle.run("tunnel_bundle", **params)
    assert bundle.device(1, 5) not in sh("ip -br link", bundle.b)


def test_the_watchs_port_is_refused_as_well(bundle: BundleLab) -> None:
    (params,) = bundle.layouts[1]["bundles"]
    with within(bundle.b), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("0.0.0.0", 11941))
        with pytest.raises(AssertionError, match=r"probe_port: 11941: udp port 11941 of 10\.99\.0\.130 is held by"):
            bundle.run("tunnel_bundle", **{**params, "probe_port": 11941})
    assert bundle.converge() == [], "the port of its own watch is no conflict"


@pytest.mark.parametrize("version", [0, 1], ids=["IPv4", "IPv6"])
def test_somebody_elses_route_is_refused_before_any_change(bundle: BundleLab, version: int) -> None:
    network = ("10.3.0.0/24", "fd01:3::/64")[version]
    (params,) = bundle.layouts[0]["bundles"]
    params = {**params, "networks": [*params["networks"], network]}
    route = f"ip -{(4, 6)[version]} -n {bundle.a} route %s {network} dev lan"
    sh(route % "add")
    for check in (True, False):
        with pytest.raises(AssertionError, match=rf"networks\[4\]: '{network}': the host has a route to it"):
            bundle.run("tunnel_bundle", check=check, **params)
    sh(route % "del")
    sh(route % "add" + " metric 2000")
    assert any(f"route add {network}" in line for line in bundle.run("tunnel_bundle", **params)["commands"])
    assert bundle.converge(), "the route is removed again"
    assert "dev lan" in sh(f"ip -{(4, 6)[version]} -n {bundle.a} route show {network}")
    sh(route % "del" + " metric 2000")


def test_somebody_elses_route_to_a_peer_is_refused_before_any_change(bundle: BundleLab) -> None:
    (params,) = bundle.layouts[0]["bundles"]
    peer = params["tunnels"][0]["addresses"][1]["peer"] + "/128"
    sh(f"ip -n {bundle.a} -6 route replace {peer} dev lan")
    try:
        for check in (True, False):
            with pytest.raises(AssertionError, match=rf"tunnels\[0\].addresses.peer: '{peer}': the host has a route"):
                bundle.run("tunnel_bundle", check=check, **params)
    finally:
        sh(f"ip -n {bundle.a} -6 route del {peer} dev lan")
    assert any(f"route add {peer}" in line for line in bundle.converge())
    assert bundle.converge() == []


@pytest.mark.parametrize("end", [0, 1], ids=["a to b", "b to a"])
def test_weights_of_three_and_one_are_three_and_one(bundle: BundleLab, end: int) -> None:
    weights = [{"weight": 3}, {"weight": 1}, {"weight": 0}, {"weight": 0}]
    if bundle.settings["tunnels"] != weights:
        bundle.converge(tunnels=weights)
    bundle.wait_live([1, 2])
    assert shares(bundle, end, bundle.hosts[end], HOSTS[1 - end][0]) == {1: 3000, 2: 1000, 3: 0, 4: 0}


def test_frames_of_tap_are_dealt_out_as_well(pki: Path) -> None:
    made = BundleLab(f"u{os.getpid() % 10000}x{next(_numbers)}", pki, tunnels=2, device_type="tap")
    try:
        made.converge()
        made.wait_live([1, 2])
        # No duplicate address detection: until it ended, no neighbour solicitation could be sent.
        for end, netns in enumerate(made.ends):
            assert made.device(end, 1) not in sh(f"ip -n {netns} -6 addr show tentative")
        for version in (0, 1):
            assert shares(made, 0, made.host_a, HOSTS[1][version], 1000) == {1: 500, 2: 500}
    finally:
        made.remove()


@pytest.fixture(scope="module")
def changed(pki: Path) -> t.Iterator[BundleLab]:
    """Three tunnels; the next tests change them in their order."""
    made = BundleLab(f"u{os.getpid() % 10000}x{next(_numbers)}", pki, tunnels=3)
    try:
        made.converge()
        made.wait_live([1, 2, 3])
        yield made
    finally:
        made.remove()


IPV4_ALONE = [[one for one in site if ":" not in one] for site in SITES]


@pytest.mark.parametrize(
    ("sites", "given"),
    [
        (SITES, {"port": 1196}),
        (SITES, {"rate": 33.3}),
        (IPV4_ALONE, {"tunnels": 2}),
        (IPV4_ALONE, {"tunnels": 3, "port": 1195}),
        (SITES, {"tunnels": 2, "snat": "common"}),
        (SITES, {"tunnels": 3}),
        (IPV4_ALONE, {"tunnels": 2, "rate": 0}),
    ],
    ids=["a port on", "a rate", "IPv6 goes", "a port back", "IPv6 comes", "a tunnel more", "IPv6 and its SNAT go"],
)
def test_every_change_comes_to_rest(
    changed: BundleLab, sites: t.Sequence[t.Sequence[str]], given: dict[str, t.Any]
) -> None:
    changed.sites = sites
    assert changed.converge(**given)
    changed.wait_live(range(1, changed.settings["tunnels"] + 1))
    assert changed.converge() == []


def test_ports_are_exchanged_also_where_a_process_is_slow_to_end(changed: BundleLab) -> None:
    os.kill(changed.pid(0, 2), signal.SIGSTOP)
    changed.converge(port=1196)
    changed.wait_live([1, 2])
