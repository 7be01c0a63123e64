# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import socket
import threading
import typing as t
from pathlib import Path

import pytest

from ansible_collections.clustered.openvpn.plugins.module_utils._openvpn import management as _management
from ansible_collections.clustered.openvpn.plugins.module_utils._openvpn.management import (
    Busy,
    Management,
    ManagementError,
    NotListening,
    ask,
    parse_state,
    parse_status,
    parse_success,
    parse_version,
)

GREETING = ">INFO:OpenVPN Management Interface Version 5 -- type 'help' for more info\r\n"


@pytest.mark.parametrize(
    ("rest", "state", "virtual", "remote", "ready"),
    [
        ("CONNECTED,SUCCESS,10.8.0.1,,,,", "CONNECTED SUCCESS", "10.8.0.1", "", True),
        (
            "CONNECTED,SUCCESS,10.8.0.2,192.0.2.2,1194,,,fd00::2",
            "CONNECTED SUCCESS",
            "10.8.0.2",
            "192.0.2.2:1194",
            True,
        ),
        (
            "CONNECTED,ROUTE_ERROR,10.8.0.2,192.0.2.2,1194,,",
            "CONNECTED ROUTE_ERROR",
            "10.8.0.2",
            "192.0.2.2:1194",
            False,
        ),
        ("RECONNECTING,ping-restart,,,,,", "RECONNECTING ping-restart", "", "", False),
        ("WAIT,,,,,,", "WAIT ", "", "", False),
    ],
)
def test_state(rest: str, state: str, virtual: str, remote: str, ready: bool) -> None:
    parsed = parse_state(["1780000000,CONNECTING,,,,,,", f"1790000000,{rest}"])
    assert f"{parsed.name} {parsed.detail}" == state
    assert (parsed.virtual_address, parsed.remote_address, parsed.ready) == (virtual, remote, ready)
    assert parsed.since == 1790000000


def test_an_empty_state_is_an_error() -> None:
    with pytest.raises(ManagementError, match="empty"):
        parse_state([])


HEADER = (
    "HEADER\tCLIENT_LIST\tCommon Name\tReal Address\tVirtual Address\tVirtual IPv6 Address\tBytes Received\tBytes Sent"
    "\tConnected Since\tConnected Since (time_t)\tUsername\tClient ID\tPeer ID\tData Channel Cipher"
)


def test_status_of_a_server() -> None:
    status = parse_status(
        [
            "TITLE\tOpenVPN 2.6.14",
            "TIME\t2026-01-01 00:00:00\t1790000000",
            HEADER,
            "CLIENT_LIST\tSmith, John\t192.0.2.101:40000\t10.8.0.2\tfd00::2\t3508\t4022\t2026-01-01\t1789999999"
            "\tUNDEF\t7\t0\tAES-256-GCM",
            "CLIENT_LIST\tb\tudp4:192.0.2.102:40000\t\t\t1\t2\t2026-01-01\t1789999998\tUNDEF\t8\t1\tAES-256-GCM",
            "HEADER\tROUTING_TABLE\tVirtual Address\tCommon Name\tReal Address\tLast Ref\tLast Ref (time_t)",
            "ROUTING_TABLE\t10.8.0.2\tSmith, John\t192.0.2.101:40000\t2026-01-01\t1790000000",
            "GLOBAL_STATS\tMax bcast/mcast queue length\t0",
        ]
    )
    first, second = status.clients
    assert first.common_name == "Smith, John"
    assert (first.real_address, first.virtual_address, first.virtual_address6) == (
        "192.0.2.101:40000",
        "10.8.0.2",
        "fd00::2",
    )
    assert (first.bytes_received, first.bytes_sent, first.connected_since) == (3508, 4022, 1789999999)
    assert (first.cid, first.peer_id, first.cipher) == (7, 0, "AES-256-GCM")
    assert second.real_address == "192.0.2.102:40000"
    assert status.counters == {}


def test_status_of_a_client() -> None:
    status = parse_status(["OpenVPN STATISTICS", "Updated,2026-01-01 00:00:00", "TCP/UDP read bytes,3508"])
    assert status.clients == ()
    assert status.counters == {"TCP/UDP read bytes": 3508}


@pytest.mark.parametrize(
    ("lines", "version"),
    [
        (["OpenVPN Version: OpenVPN 2.6.14 x86_64-pc-linux-gnu [SSL (OpenSSL)]", "Management Version: 5"], "2.6.14"),
        (["Management Version: 5"], ""),
        ([], ""),
    ],
)
def test_version(lines: list[str], version: str) -> None:
    assert parse_version(lines) == version


def test_load_stats() -> None:
    answer = parse_success("SUCCESS: nclients=2,bytesin=17,bytesout=4")
    assert answer == {"nclients": "2", "bytesin": "17", "bytesout": "4"}


# --- a conversation ---------------------------------------------------------------------------------------------------


@pytest.fixture
def answering(tmp_path: Path) -> t.Iterator[t.Callable[[str], str]]:
    """A function that serves a socket which sends a given text; with "" it sends nothing."""
    path = str(tmp_path / "socket")
    server = socket.socket(socket.AF_UNIX)
    server.bind(path)
    server.listen(1)
    connections = []

    def start(text: str) -> str:
        def serve() -> None:
            connection, _peer = server.accept()
            connections.append(connection)
            connection.sendall(text.encode())

        if text:
            threading.Thread(target=serve, daemon=True).start()
        return path

    yield start
    for connection in connections:
        connection.close()
    server.close()


def test_notifications_in_between_are_skipped(answering: t.Callable[[str], str]) -> None:
    path = answering(GREETING + "1,WAIT,,,,,,\r\n>STATE:2,AUTH,,,,,,\r\n3,CONNECTED,SUCCESS,10.8.0.1,,,,\r\nEND\r\n")
    with Management(path) as management:
        assert management.state().ready


def test_an_error_is_an_error(answering: t.Callable[[str], str]) -> None:
    path = answering(GREETING + "ERROR: unknown command\r\n")
    with Management(path) as management, pytest.raises(ManagementError, match="unknown command"):
        management.pid()


def test_silence_is_busy_within_the_bound(answering: t.Callable[[str], str]) -> None:
    path = answering("")
    with pytest.raises(Busy):
        ask(path, lambda management: management.state(), attempts=2, timeout=0.1)


def test_a_busy_socket_is_asked_again(monkeypatch: pytest.MonkeyPatch, answering: t.Callable[[str], str]) -> None:
    path = answering(GREETING + "SUCCESS: pid=17\r\n")
    real = _management.Management
    calls: list[int] = []

    def once_busy(path: str, timeout: float) -> Management:
        calls.append(1)
        if len(calls) == 1:
            raise Busy(path)
        return real(path, timeout)

    monkeypatch.setattr(_management, "Management", once_busy)
    assert ask(path, lambda management: management.pid()) == 17


def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(NotListening):
        Management(str(tmp_path / "none"))
