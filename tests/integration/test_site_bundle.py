# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The playbook bundle.yml on both ends: check mode, creation, refused input, foreign certificates, and removal.

The tests use the same bundle, in their order.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import stat
import subprocess
import tempfile
import typing as t
from pathlib import Path

import pytest

from .bundle_lab import OUTER, SITES, BundleLab
from .site_host import PLACES, PLAYBOOKS
from .world import on_host, sh, within

HOSTS = ("left", "right")


class Play:
    """The output of a playbook, and its results for both hosts."""

    def __init__(self, output: str):
        self.output = output
        found = {
            name: (int(changed), int(failed))
            for name, changed, failed in re.findall(r"^(\w+) +: ok=.*changed=(\d+) .*failed=(\d+)", output, re.M)
        }
        assert set(found) == {*HOSTS}, output[-3000:]
        self.changed = {name: changed for name, (changed, _failed) in found.items()}
        self.failed = {name: failed for name, (_changed, failed) in found.items()}


class Sites:
    """Two hosts with files of their own, each in the namespace of one end."""

    def __init__(self, lab: BundleLab, tmp: Path):
        self.lab, self.tmp = lab, tmp
        self.root = Path(tempfile.mkdtemp(prefix=f"{lab.prefix}-"))
        for name, end in zip(HOSTS, lab.ends):
            places = {place: self.root / name / place.lstrip("/") for place in PLACES}
            for path in places.values():
                path.mkdir(parents=True)
            command = " ".join(f"'{word}'" for word in on_host(end, places))
            python = self.root / f"python-{name}"
            python.write_text(f'#!/bin/sh\nexec {command} /usr/bin/python3 "$@"\n')
            python.chmod(python.stat().st_mode | stat.S_IXUSR)

    def play(self, *options: str, fails: bool = False, **variables: t.Any) -> Play:
        """Run bundle.yml on both hosts."""
        lines = ["[tunnel_bundle]"]
        for i, name in enumerate(HOSTS):
            own = {
                "ansible_connection": "local",
                "ansible_python_interpreter": str(self.root / f"python-{name}"),
                "tunnel_bundle_name": self.lab.names[i],
                "tunnel_bundle_address": OUTER[i],
                "tunnel_bundle_networks": json.dumps(SITES[i]),
            }
            lines.append(" ".join([name, *(f"{key}='{value}'" for key, value in own.items())]))
        (self.tmp / "hosts").write_text("\n".join(lines) + "\n")
        given = {
            "tunnel_bundle_pki_name": "test",
            "tunnel_bundle_pki_directory": str(self.tmp / "pki"),
            "tunnel_bundle_network": "10.99.0.0/24",
            "tunnel_bundle_ipv6_network": "fd99::/64",
            "tunnel_bundle_prerequisites": False,
            "tunnel_bundle_user": "nobody",
            "tunnel_bundle_group": "nogroup",
            **variables,
        }
        (self.tmp / "vars.json").write_text(json.dumps(given))
        done = subprocess.run(
            [
                *("ansible-playbook", "-i", self.tmp / "hosts", "-e", f"@{self.tmp / 'vars.json'}"),
                *(*options, PLAYBOOKS / "bundle.yml"),
            ],
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        play = Play(done.stdout + done.stderr)
        assert fails == any(play.failed.values()), play.output[-4000:]
        for end, name in enumerate(HOSTS):
            path = self.root / name / f"etc/clustered-openvpn/{self.lab.names[end]}.json"
            self.lab.layouts[end] = json.loads(path.read_text()) if path.exists() else {}
        return play

    def remove(self) -> None:
        """Remove the files of the hosts."""
        shutil.rmtree(self.root, ignore_errors=True)


@pytest.fixture(scope="module")
def sites(pki: Path, tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[Sites]:
    """Both hosts, without a bundle."""
    lab = BundleLab(f"y{os.getpid() % 10000}x0", pki)
    made = Sites(lab, tmp_path_factory.mktemp("sites"))
    try:
        yield made
    finally:
        lab.layouts = [{}, {}]
        lab.remove()
        made.remove()


def test_check_mode_says_what_there_would_be(sites: Sites) -> None:
    play = sites.play("--check", "--diff", tunnel_bundle_tunnels=2)
    assert "ip tuntap add dev" in play.output
    assert not sh("ip rule show | grep 197", sites.lab.a, check=False)


def test_the_first_run_builds_it_and_the_second_changes_nothing(sites: Sites) -> None:
    sites.play(tunnel_bundle_tunnels=2)
    assert [sites.lab.live(end) for end in (0, 1)] == [[1, 2], [1, 2]]
    again = sites.play(tunnel_bundle_tunnels=2)
    assert again.changed == {"left": 0, "right": 0}, again.output[-6000:]


def test_bad_input_is_refused_at_both_ends_before_any_change(sites: Sites) -> None:
    with within(sites.lab.a), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("0.0.0.0", 1197))
        play = sites.play(fails=True, tunnel_bundle_tunnels=3)
    assert "1197: udp port 1197 is held by process" in play.output
    assert play.changed == {"left": 0, "right": 0}, "neither end was changed"
    assert [sites.lab.live(end) for end in (0, 1)] == [[1, 2], [1, 2]]


@pytest.mark.soak
def test_certificates_come_from_elsewhere(sites: Sites) -> None:
    for i, name in enumerate(HOSTS):
        shutil.rmtree(sites.root / name / "etc/clustered-openvpn" / sites.lab.names[i])
    sites.play(tunnel_bundle_tunnels=2, tunnel_bundle_pki=False)
    for i, key in enumerate(("server.key", "client.key")):
        path = sites.root / HOSTS[i] / "etc/clustered-openvpn" / sites.lab.names[i] / key
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [sites.lab.live(end) for end in (0, 1)] == [[1, 2], [1, 2]]
    again = sites.play(tunnel_bundle_tunnels=2, tunnel_bundle_pki=False)
    assert again.changed == {"left": 0, "right": 0}, again.output[-6000:]


def test_nothing_is_left_of_it(sites: Sites) -> None:
    other = sites.root / "left/etc/clustered-openvpn" / sites.lab.names[0] / "mine"
    other.touch()
    sites.play(tunnel_bundle_state="absent", tunnel_bundle_tunnels=2)
    other.unlink()  # a foreign file is kept, and with it the directory
    other.parent.rmdir()
    assert not (sites.root / "right/etc/clustered-openvpn" / sites.lab.names[1]).exists()
    for end in sites.lab.ends:
        assert sh("ip -br link show type tun; ip rule show | grep 197; nft list tables", end, check=False) == ""
        assert "10.99.0" not in sh("ip addr; ip route show table all", end)
    files = [path for path in sites.root.rglob("*") if path.is_file() and "python-" not in path.name]
    assert [path for path in files if path.suffix != ".log"] == []
