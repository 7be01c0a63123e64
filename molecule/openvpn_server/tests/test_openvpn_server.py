# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Effects of the role openvpn_server: units, sockets, privileges and clients."""

from __future__ import annotations

import time
import typing as t

import pytest
from testinfra.host import Host

if t.TYPE_CHECKING:
    from lab.client import Client

SERVERS = [("office-udp", "udp", 1194, "10.8.0.1"), ("office-tcp", "tcp", 443, "10.8.1.1")]


@pytest.mark.parametrize(("name", "protocol", "port", "tunnel"), SERVERS)
class TestServer:
    def test_its_unit_runs_and_starts_with_the_host(
        self, host: Host, name: str, protocol: str, port: int, tunnel: str
    ) -> None:
        unit = host.service(f"openvpn-server@{name}")
        assert unit.is_running
        assert unit.is_enabled

    def test_it_listens(self, host: Host, name: str, protocol: str, port: int, tunnel: str) -> None:
        assert host.socket(f"{protocol}://0.0.0.0:{port}").is_listening

    def test_it_runs_without_privileges(self, host: Host, name: str, protocol: str, port: int, tunnel: str) -> None:
        pid = host.check_output(f"systemctl show --property MainPID --value openvpn-server@{name}")
        assert host.check_output(f"ps -o user= -p {pid}") == "openvpn"

    def test_only_root_and_its_group_manage_it(
        self, host: Host, name: str, protocol: str, port: int, tunnel: str
    ) -> None:
        place = f"/run/clustered-openvpn/{name}"
        assert host.file(f"{place}/management.sock").is_socket
        assert host.run(f"runuser -u nobody -- nc -z -U {place}/management.sock").rc != 0
        assert host.run(f"runuser -u openvpn -- nc -z -U {place}/management.sock").rc == 0

    def test_a_client_is_served(
        self, host: Host, clients: list[Client], name: str, protocol: str, port: int, tunnel: str
    ) -> None:
        client = clients[0]
        client.connect_as("alice", "203.0.113.1", port, protocol)
        assert client.pings(tunnel)

    def test_it_comes_back_when_it_is_killed(
        self, host: Host, name: str, protocol: str, port: int, tunnel: str
    ) -> None:
        before = host.check_output(f"systemctl show --property MainPID --value openvpn-server@{name}")
        host.check_output(f"kill -KILL {before}")
        end = time.monotonic() + 3
        while not host.socket(f"{protocol}://0.0.0.0:{port}").is_listening:
            assert time.monotonic() < end
        assert host.check_output(f"systemctl show --property MainPID --value openvpn-server@{name}") != before
