# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Effects of the role openvpn_client: an instance on a host, and a profile."""

from __future__ import annotations

import os
import typing as t
from pathlib import Path

from testinfra.host import Host

if t.TYPE_CHECKING:
    from lab.client import Client

testinfra_hosts = ["ansible://h2"]

PROFILE = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "pki/profiles/alice.ovpn"


def test_the_unit_runs_and_starts_with_the_host(host: Host) -> None:
    unit = host.service("openvpn-client@branch")
    assert unit.is_running
    assert unit.is_enabled


def test_it_runs_without_privileges(host: Host) -> None:
    pid = host.check_output("systemctl show --property MainPID --value openvpn-client@branch")
    assert host.check_output(f"ps -o user= -p {pid}") == "openvpn"


def test_only_the_service_reads_the_key(host: Host) -> None:
    key = host.file("/etc/openvpn/client/branch/client.key")
    assert (key.user, key.mode) == ("openvpn", 0o600)


def test_the_server_answers_through_the_tunnel(host: Host) -> None:
    assert host.interface("tun-branch").addresses
    host.check_output("ping -c 1 -W 2 10.8.0.1")


def test_a_profile_is_all_that_a_person_needs(clients: list[Client]) -> None:
    assert PROFILE.stat().st_mode & 0o077 == 0
    (client,) = clients
    client.connect("--config", str(PROFILE))
    assert client.pings("10.8.0.1")
