# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Parsers of what OpenVPN, ss, systemd, keepalived and the kernel print take anything, and return what they promise."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import typing as t
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ansible_collections.clustered.openvpn.plugins.module_utils import _params
from ansible_collections.clustered.openvpn.plugins.module_utils._bundle import probe, watch
from ansible_collections.clustered.openvpn.plugins.module_utils._cluster import moved
from ansible_collections.clustered.openvpn.plugins.module_utils._kernel import links
from ansible_collections.clustered.openvpn.plugins.module_utils._openvpn import management, ports, supervisor_systemd
from ansible_collections.clustered.openvpn.plugins.module_utils._ring import claims, election, saved, vrrp

# Digits to str.isdigit(), not to int(); a sign; more digits than Python converts; and pieces of real lines.
ODD = [*("²", "①", "٣", "-1", "+1", " 1", "1_0", "9" * 5000, "1.5", "0x1", ""), *("CONNECTED", "SUCCESS", "1790000000")]
words = st.sampled_from(ODD) | st.text(max_size=8)


def lines(*keywords: str, between: str) -> st.SearchStrategy[str]:
    """Lines of such words and these keywords."""
    return st.lists(st.sampled_from(keywords or ("",)) | words, max_size=12).map(between.join)


@given(words)
@example("²")
@example("9" * 5000)
@example("1\n")
def test_a_printed_number_is_ascii_digits(text: str) -> None:
    number = _params.printed_number(text)
    assert (number is not None) == (text.isascii() and text.isdigit() and len(text) <= 20)
    assert number is None or number == int(text)


@given(st.lists(lines(between=",") | st.text(), max_size=3))
def test_state(answer: list[str]) -> None:
    with contextlib.suppress(management.ManagementError):
        state = management.parse_state(answer)
        assert isinstance(state.ready, bool)


@given(
    st.lists(
        lines("HEADER", "CLIENT_LIST", "Real Address", "Client ID", "Bytes Received", "192.0.2.1:1194", between="\t")
        | lines("TCP/UDP read bytes", between=","),
        max_size=6,
    )
)
@example(["HEADER\tCLIENT_LIST\tClient ID\tBytes Sent", "CLIENT_LIST\t²\t٣"])
@example(["TCP/UDP read bytes,²"])
@example(["HEADER\tCLIENT_LIST\tReal Address", "CLIENT_LIST\tfe80::1%\n:1"])
def test_status_and_its_clients(answer: list[str]) -> None:
    status = management.parse_status(answer)
    assert all(isinstance(value, int) for value in status.counters.values())
    assert all(client.cid >= -1 for client in status.clients)
    moved.misplaced_clients(status.clients, (1,), 256, 0, (None,))


@given(lines("SUCCESS:", "pid=", "nclients=", between=""))
def test_success_and_version(answer: str) -> None:
    assert all("=" not in key for key in management.parse_success(answer))
    assert isinstance(management.parse_version([answer, f"OpenVPN Version: {answer}"]), str)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[tuple[str, list[bytes]]]:
    """A socket that sends what the list holds to each client, and closes the connection."""
    path = str(tmp_path_factory.mktemp("server") / "s")
    answer = [b""]
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(8)

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _peer = listener.accept()
                    with connection, contextlib.suppress(OSError):
                        connection.sendall(answer[0])
                        connection.shutdown(socket.SHUT_WR)
                        while connection.recv(4096):
                            pass

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield path, answer
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(5)


pieces = st.sampled_from(
    [b"\n", b"END\n", b">INFO:\n", b"SUCCESS: pid=\xc2\xb2\n", b"SUCCESS: pid=7\n", b"ERROR: x\n", b","]
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100)
@given(content=st.lists(pieces | st.binary(max_size=12), max_size=12).map(b"".join))
def test_a_conversation_with_a_server_that_sends_anything(server: tuple[str, list[bytes]], content: bytes) -> None:
    path, answer = server
    answer[0] = content
    for question in ("pid", "state", "status", "version", "load_stats"):
        with contextlib.suppress(management.ManagementError), management.Management(path, 1.0) as one:
            getattr(one, question)()


def test_a_server_that_sends_without_end_is_left(
    server: tuple[str, list[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, answer = server
    monkeypatch.setattr(management, "MAX_ANSWER", 1 << 20)
    answer[0] = b"x" * (1 << 21)
    with pytest.raises(management.ManagementError, match="sends more than 1048576 bytes"):
        management.Management(path, 5.0)
    answer[0] = b">INFO:\n" + b"x\n" * (1 << 20)
    with pytest.raises(management.ManagementError, match="sends more than 1048576 bytes"):
        management.Management(path, 5.0).state()


@given(
    lines(
        "udp", "UNCONN", "0", "*:1194", "[::]:²", 'users:(("openvpn",pid=²,fd=5))', "192.0.2.1%eth0:1194", between=" "
    )
)
@example('udp UNCONN 0 0 *:² 0.0.0.0:* users:(("openvpn",pid=7,fd=5))')
@example('udp UNCONN 0 0 *:1194 0.0.0.0:* users:(("openvpn",pid=²,fd=5))')
def test_ss(output: str) -> None:
    assert all(listener.pid >= 0 for listener in ports.parse_ss(output))


@given(st.text())
def test_systemctl_show(output: str) -> None:
    supervisor_systemd.parse_show(output)


@given(lines('INSTANCE "vpn-12" MASTER 250', 'INSTANCE "vpn-', '"', "MASTER", "STOP", between=" "), st.floats(0, 1e9))
@example('INSTANCE "vpn-' + "9" * 5000 + '" MASTER', 0.0)
def test_lines_of_keepalived(line: str, now: float) -> None:
    parsed = vrrp.parse_state(line)
    assert parsed is None or 0 <= parsed[0] <= 999
    one = election.Election(0.1)
    one.read_line(line, now)
    assert all(0 <= slot <= 999 for slot in one.held(now))


def test_slots_that_do_not_exist_claim_nothing() -> None:
    settings_of_claims = claims.Claims((), 4, 16, {"a": 1, "b": 1}, {"a": "", "b": ""})
    shared = claims.shared_out(settings_of_claims, [0, 1, 5, 200, 4], ["a", "b"], {0: "a", 200: "b"})
    assert sorted(shared) == [1, 4]
    assert sorted(claims.elements(settings_of_claims, shared)) == [1, 4, 5, 8, 9, 12, 13, 16]


anything: t.Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["held", "slots", "well", "1"]), inner),
    max_leaves=8,
)


@given(anything.map(json.dumps).map(str.encode) | st.binary())
@example(b'{"held": [Infinity], "slots": {}, "well": []}')
@example(b"[" * 100_000)
def test_the_saved_state_of_a_claims_process(content: bytes) -> None:
    state = saved.parse(content)
    assert saved.parse(saved.text(state).encode()) == state


def test_a_saved_state_is_read_as_it_was_written() -> None:
    state = saved.Saved((1, 3), {1: "vpn1", 3: "vpn2"}, ("vpn1",))
    assert saved.parse(saved.text(state).encode()) == state
    earlier = b'{"held": [1, 3], "slots": {"1": "vpn1", "3": "vpn2"}, "well": ["vpn1"]}'
    assert saved.parse(earlier) == state


NAMES = st.binary(min_size=1, max_size=15).filter(lambda name: not set(name) & set(b" \t\n\v\f\r:/\0"))


@given(NAMES, st.binary(max_size=60))
@example(b"\xff\x1c\xc2\x85", b"")
def test_received_packets_of_an_interface_with_any_name(name: bytes, junk: bytes) -> None:
    header = b"Inter-|   Receive\n face |bytes    packets errs\n"
    row = b"%6b: 12345     678    0    0\n" % name
    found = watch.received_packets(header + junk.replace(b":", b"") + b"\n" + row)
    assert found[name.decode(errors="surrogateescape")] == 678
    watch.received_packets(junk)


@given(NAMES)
@example(b"\xe9\x1c\x1d")
def test_memberships_of_an_interface_with_any_name(name: bytes) -> None:
    rows = b"4    %-15b 1     0     01005e000001\n4    %-15b 1     1     0300cb00710a\n" % (name, name)
    assert links.multicast(b"x\n" + rows) == {4: {"03:00:cb:00:71:0a"}}


@given(st.binary(max_size=30))
def test_probes(data: bytes) -> None:
    found = probe.Probe.parse(data)
    assert found is None or isinstance(found.receiving, bool)


@given(words)
def test_endpoints_of_clients(text: str) -> None:
    with contextlib.suppress(ValueError):
        moved.client_endpoint(text)


def test_the_tables_of_this_kernel_are_read() -> None:
    assert watch.received_packets(Path("/proc/net/dev").read_bytes())["lo"] >= 0
    links.multicast(Path("/proc/net/dev_mcast").read_bytes())
