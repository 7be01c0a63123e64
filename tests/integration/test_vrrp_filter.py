# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The VRRP filter of the role on the real kernel: whose advertisements a host receives."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import struct
import subprocess
import time
import typing as t
from pathlib import Path

import pytest
from lab import rootfs

from ansible_collections.clustered.openvpn.plugins.module_utils._ring.audit import recorded
from ansible_collections.clustered.openvpn.tests.unit.roles.test_ring_templates import ring_of_hosts

from .world import World, sh, within

RULES = Path(__file__).parents[1] / "unit/roles/golden/macs-vrrp.nft"
TABLE = "clustered_openvpn_vpn.vrrp"
GROUP, OTHER = "224.0.0.18", "224.0.0.181"
VRRP = 112


class Lan:
    """A host with the filter, and a neighbour that sends anything."""

    def __init__(self, world: World) -> None:
        self.host, self.sender = world.netns("filter"), world.netns("sender")
        sh(
            f"ip -n {self.host} link add eth0 type veth peer name eth0 netns {self.sender}"
            f" && ip -n {self.host} link set eth0 up && ip -n {self.host} addr add 192.0.2.9/24 dev eth0"
            f" && ip -n {self.sender} link set eth0 up"
        )
        sh(f"ip netns exec {self.host} nft -f {RULES}")
        with within(self.host):
            self._receive = socket.socket(socket.AF_INET, socket.SOCK_RAW, VRRP)
            own = socket.inet_aton("192.0.2.9")
            for group in (GROUP, OTHER):
                self._receive.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton(group) + own)
            self._receive.settimeout(0.5)
        with within(self.sender):
            self._send = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
            self._send.bind(("eth0", 0))

    def close(self) -> None:
        """Close the sockets."""
        self._receive.close()
        self._send.close()

    def passes(self, source: str, mac: str, vrid: int, group: str = GROUP, ttl: int = 255) -> bool:
        """Whether the host receives an advertisement."""
        payload = struct.pack("!BBBBHH4s", 0x31, vrid, 100, 1, 30, 0, bytes(4))
        head = struct.pack(
            "!BBHHHBBH4s4s",
            0x45,
            0,
            20 + len(payload),
            1,
            0,
            ttl,
            VRRP,
            0,
            socket.inet_aton(source),
            socket.inet_aton(group),
        )
        total = sum(struct.unpack("!10H", head))
        total = (total & 0xFFFF) + (total >> 16)
        head = head[:10] + struct.pack("!H", 0xFFFF - (total & 0xFFFF) - (total >> 16)) + head[12:]
        to = bytes.fromhex("01005e") + socket.inet_aton(group)[1:]
        self._send.send(to + bytes.fromhex(mac.replace(":", "")) + b"\x08\x00" + head + payload)
        # One that always passes follows, so that a dropped one needs no waiting.
        marker = struct.pack("!BBBBHH4s", 0x31, 77, 0, 1, 30, 0, bytes(4))
        assert vrid != 77
        self._send.send(to + bytes.fromhex(mac.replace(":", "")) + b"\x08\x00" + head + marker)
        found = False
        while True:
            packet = self._receive.recv(2048)
            if packet[21] == 77:
                return found
            found = found or (packet[21], socket.inet_ntoa(packet[12:16])) == (vrid, source)

    def recorded(self) -> dict[str, list[str]]:
        """The senders that the filter has recorded."""
        found = recorded(sh(f"ip netns exec {self.host} nft -j list table ip {TABLE}"))
        assert found is not None
        return found


@pytest.fixture
def lan(world: World) -> t.Iterator[Lan]:
    made = Lan(world)
    yield made
    made.close()


def test_only_hosts_of_the_ring_advertise_its_slots(lan: Lan) -> None:
    mac = "02:00:c0:00:02:%02x"
    assert lan.passes("192.0.2.1", mac % 1, vrid=1)
    assert lan.passes("192.0.2.4", mac % 4, vrid=4)
    assert lan.recorded() == {"strangers": [], "neighbours": []}
    assert not lan.passes("192.0.2.1", mac % 2, vrid=1), "the MAC address of another host"
    assert not lan.passes("192.0.2.2", "02:00:00:00:00:66", vrid=2), "a forged address"
    assert not lan.passes("192.0.2.66", "02:00:00:00:00:66", vrid=4)
    assert not lan.passes("192.0.2.3", mac % 3, vrid=1, ttl=254), "routed"
    assert sorted(lan.recorded()["strangers"]) == ["192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.66"]


def test_other_routers_are_left_alone(lan: Lan) -> None:
    stranger = ("192.0.2.77", "02:00:00:00:00:77")
    assert lan.passes(*stranger, vrid=5), "another identifier"
    assert lan.passes(*stranger, vrid=51)
    assert lan.passes(*stranger, vrid=1, group=OTHER), "another group"
    assert lan.recorded() == {"strangers": [], "neighbours": ["192.0.2.77"]}
    listing = json.loads(sh(f"ip netns exec {lan.host} nft -j list table ip {TABLE}"))
    assert sum("set" in entry for entry in listing["nftables"]) == 2


SITE = """
global_defs {{
    vrrp_version 3
}}
vrrp_instance site {{
    state BACKUP
    interface eth0
    virtual_router_id 51
    priority {priority}
    advert_int 0.1
    virtual_ipaddress {{
        192.0.2.50/32 dev lo
    }}
}}
"""


@contextlib.contextmanager
def keepalived(netns: str, directory: Path, text: str) -> t.Iterator[None]:
    """A keepalived in a namespace."""
    directory.mkdir()
    (directory / "keepalived.conf").write_text(text)
    root = rootfs.ensure("bookworm")  # that of the lab's hosts: the machine has no keepalived
    (loader,) = root.glob("usr/lib64/ld-linux-*.so.*")
    (libraries,) = {path.parent for path in root.glob("usr/lib/*/libnl-3.so.200")}
    program = [loader, "--library-path", libraries, root / "usr/sbin/keepalived"]
    command = [*program, "--dont-fork", "--log-console", "--vrrp", f"--use-file={directory}/keepalived.conf"]
    pids = [f"--pid={directory}/pid", f"--vrrp_pid={directory}/vrrp.pid"]
    with (directory / "log").open("w") as log:
        process = subprocess.Popen(["ip", "netns", "exec", netns, *command, *pids], stdout=log, stderr=log)
    try:
        yield
    finally:
        process.terminate()
        process.wait(10)


def addresses(netns: str) -> set[str]:
    """The addresses on the loopback of a namespace, which keepalived adds as a master."""
    return set(re.findall(r"inet ([0-9.]+)/32", sh(f"ip -n {netns} -4 addr show dev lo")))


def wait_for(condition: t.Callable[[], bool], seconds: float = 15) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.mark.parametrize("first_vrid", [0, 49])
def test_a_keepalived_of_the_host_keeps_its_peer(world: World, tmp_path: Path, first_vrid: int) -> None:
    """Our filter dropped the advertisements of its peer, whose identifier was one of our slots': two masters."""
    made = ring_of_hosts(
        installed=False, clusterip_cluster_first_vrid=first_vrid, clusterip_cluster_advert_interval=0.1
    )
    first, second = world.netns("h1"), world.netns("h2")
    for number, netns in ((1, first), (77, second)):
        sh(f"ip -n {netns} link set lo up")
        if number == 1:
            sh(f"ip -n {first} link add eth0 type veth peer name eth0 netns {second}")
        sh(f"ip -n {netns} link set eth0 up && ip -n {netns} addr add 192.0.2.{number}/24 dev eth0")
    (tmp_path / "vrrp.nft").write_text(made[0].file("vrrp.nft"))
    sh(f"ip netns exec {first} nft -f {tmp_path}/vrrp.nft")
    own = made[0].file("keepalived.conf")
    for path, name in ((made[0].variables["clusterip_cluster_ring"]["vrrp"][key], key) for key in ("fifo", "health")):
        own = own.replace(path, str(tmp_path / name))
    (tmp_path / "health").write_text("0\n")
    with contextlib.ExitStack() as stack:
        stack.enter_context(keepalived(second, tmp_path / "peer", SITE.format(priority=150)))
        wait_for(lambda: addresses(second) == {"192.0.2.50"})
        stack.enter_context(keepalived(first, tmp_path / "host", SITE.format(priority=100)))
        stack.enter_context(keepalived(first, tmp_path / "ours", own))
        slots = made[0].variables["clusterip_cluster_ring"]["vrrp"]["instances"]
        wait_for(lambda: {one["address"] for one in slots} <= addresses(first))
        time.sleep(1.5)  # four times as long as the backup waits for its peer
        assert "192.0.2.50" not in addresses(first), "two masters"
        assert addresses(second) == {"192.0.2.50"}
        assert any(one["vrid"] == 51 for one in slots) == (first_vrid == 49), "one case has equal identifiers"
