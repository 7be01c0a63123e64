# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import contextlib
import os
import re
import socket
import sys
import time
import typing as t
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.clustered.openvpn.plugins.module_utils._openvpn.instance import Instance
from ansible_collections.clustered.openvpn.plugins.module_utils._ring import follower, health
from ansible_collections.clustered.openvpn.plugins.module_utils._ring.failover import Failover, Member

MEMBER = Member("vpn1", "", (Instance("vpn1-udp"),), (1194,), ("true",))
SETTINGS = t.cast(Failover, SimpleNamespace(interval=0.01, timeout=0.1, fall=2, rise=2))


@pytest.fixture
def checked() -> t.Iterator[t.Callable[..., tuple[health.MemberCheck, list[str]]]]:
    """A member's checks that are not started, and what they log."""
    read, write = os.pipe2(os.O_NONBLOCK)

    def make(checker: t.Callable[[Member, float], str], healthy: bool) -> tuple[health.MemberCheck, list[str]]:
        log: list[str] = []
        check = health.MemberCheck(MEMBER, SETTINGS, write, healthy, log.append)
        check._checker = checker  # type: ignore[assignment]
        return check, log

    yield make
    os.close(read)
    os.close(write)


@pytest.mark.parametrize(
    "failure",
    [OSError(5, "x"), OSError(), IndexError("list index out of range"), ValueError("²"), MemoryError(), KeyError()],
)
def test_each_failure_of_a_check_makes_the_member_unhealthy(checked: t.Any, failure: Exception) -> None:
    def fail(_member: Member, _timeout: float) -> str:
        raise failure

    check, log = checked(fail, True)
    for _round in range(SETTINGS.fall):
        assert check.healthy
        check.round()
    assert not check.healthy
    assert log[0].startswith("vpn1 is unhealthy: ")
    assert len(log[0]) > len("vpn1 is unhealthy: ")


def test_the_thread_survives_whatever_fails(checked: t.Any) -> None:
    rounds: list[float] = []

    def fail(_member: Member, _timeout: float) -> str:
        rounds.append(time.monotonic())
        if len(rounds) % 2:
            raise IndexError("list index out of range")
        return "unhealthy"

    check, log = checked(fail, True)
    check._log = log.__getitem__  # a log that fails: TypeError
    check.start()
    until = time.monotonic() + 10
    while len(rounds) < 8:
        assert time.monotonic() < until
        assert check.is_alive()
        time.sleep(0.01)
    assert not check.healthy
    assert not check.overdue(time.monotonic())


def test_a_full_pipe_is_no_failure(checked: t.Any) -> None:
    check, log = checked(lambda _member, _timeout: "", False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(check._changed, b"." * 4096)
    check.round()
    check.round()
    assert check.healthy
    assert log == ["vpn1 is healthy"]


def test_a_round_that_does_not_end_is_overdue(checked: t.Any) -> None:
    check, _log = checked(lambda _member, _timeout: "", True)
    longest = SETTINGS.interval + 2 * (SETTINGS.timeout + health.GONE) + health.OVERDUE
    assert not check.overdue(check.finished + longest - 0.01)
    assert check.overdue(check.finished + longest + 0.01)


@pytest.mark.parametrize(
    ("script", "problem"),
    [
        ("pass", ""),
        ("import sys; print('one\\ntwo'); sys.exit(3)", r"exited with status 3: two\Z"),
        ("import os, sys; os.write(1, b'\\xff\\n\\n'); sys.exit(1)", r"exited with status 1: .\Z"),
        ("import time; time.sleep(9)", r"took longer than 0.3 s\Z"),
        ("import os\nwhile True: os.write(1, b'y' * 65536)", r"took longer than 0.3 s\Z"),
        ("import subprocess; subprocess.Popen(['sleep', '9'])", r"took longer than 0.3 s\Z"),
    ],
)
def test_a_command(script: str, problem: str) -> None:
    checker = health.Checker()
    began = time.monotonic()
    timeout = 0.3 if "longer" in problem else 10
    found = checker.command((sys.executable, "-S", "-c", script), "", timeout)
    assert time.monotonic() - began < timeout + 2
    if problem:
        assert found.startswith(sys.executable)
        assert re.search(problem, found), found
    else:
        assert found == ""


def test_a_command_that_cannot_be_ended_is_not_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    checker = health.Checker()
    monkeypatch.setattr(os, "killpg", lambda _pid, _signal: None)  # as for a process that waits for a disk
    assert "took longer" in checker.command(("sleep", "2"), "", 0.1)
    assert "could not be ended" in checker.command(("sleep", "2"), "", 0.1)
    stuck = checker._stuck
    assert stuck is not None
    stuck.kill()
    stuck.wait()
    assert checker.command(("true",), "", 5) == ""


PATH = b"/run/clustered-openvpn/vpn-udp/management.sock"
LINE = b"00000000efee2dcc: 00000003 00000000 00000000 0001 %b 1469825 %b\n"


def test_an_accepted_connection() -> None:
    listening, connected = LINE.replace(b"00000003 ", b"00000002 ") % (b"01", PATH), LINE % (b"03", PATH)
    assert health.accepted(b"Num  RefCount Protocol Flags Type St Inode Path\n" + listening) == set()
    assert health.accepted(listening + connected) == {PATH}


@given(st.binary(max_size=200) | st.lists(st.sampled_from([b"\n", b" ", PATH, b"0", b":", LINE])).map(b"".join))
def test_any_table_of_sockets_is_read(table: bytes) -> None:
    health.accepted(table)
    assert PATH in health.accepted(table + b"\n" + LINE % (b"03", PATH))


def test_names_with_line_feeds_of_an_unprivileged_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The names of abstract sockets made the check fail by an IndexError."""
    path = str(tmp_path / "s")
    monkeypatch.setattr(health, "management_socket", lambda _name: path)
    with contextlib.ExitStack() as stack:
        for name in (b"a\n\nb", b"\n" + path.encode(), b"\n \n"):
            one = stack.enter_context(socket.socket(socket.AF_UNIX))
            one.bind(b"\0" + os.urandom(4).hex().encode() + name)
        server = stack.enter_context(socket.socket(socket.AF_UNIX))
        server.bind(path)
        server.listen()
        assert health.check_instance(Instance("vpn1-udp"), 0.1) == "vpn1-udp does not answer"
        admin = stack.enter_context(socket.socket(socket.AF_UNIX))
        admin.connect(path)
        accepted = [stack.enter_context(server.accept()[0]) for _pending in range(2)]  # ours has gone meanwhile
        assert len(accepted) == 2
        assert health.check_instance(Instance("vpn1-udp"), 0.1) == "the status file of vpn1-udp is too old"


class Systemd:
    """A notification socket."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.setblocking(False)

    def messages(self) -> list[str]:
        """The messages since the last call."""
        found = []
        with contextlib.suppress(BlockingIOError):
            while True:
                found.append(self._socket.recv(4096).decode())
        return found


def test_a_sign_of_life_only_while_all_checks_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: t.Any
) -> None:
    systemd = Systemd(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    overdue = {"vpn1": False, "vpn2": False}
    one = follower.Follower.__new__(follower.Follower)
    one._sign_due, one._overdue = 0.0, []
    one._checks = t.cast(
        t.Any,
        [SimpleNamespace(member=SimpleNamespace(name=n), overdue=lambda _now, n=n: overdue[n]) for n in overdue],
    )
    due = one._watchdog(10.0)
    assert systemd.messages() == ["WATCHDOG=1"]
    assert due == 10.5, "four in the time of the watchdog"
    assert one._watchdog(10.4) == 10.5
    assert systemd.messages() == []
    overdue["vpn2"] = True
    one._watchdog(10.5)
    one._watchdog(11.0)
    assert systemd.messages() == []
    assert capsys.readouterr().out == "the health checks of vpn2 hang; systemd restarts this process\n"
    overdue["vpn2"] = False
    one._watchdog(11.5)
    assert systemd.messages() == ["WATCHDOG=1"]


def test_no_notification_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody"))
    follower.notify("READY=1")
    monkeypatch.delenv("NOTIFY_SOCKET")
    follower.notify("READY=1")


def test_slots_are_kept_for_a_while_when_the_election_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follower.paths, "hold", lambda _name: str(tmp_path / "hold"))
    one = follower.Follower.__new__(follower.Follower)
    one._name = "vpn"
    assert not one._on_hold()
    (tmp_path / "hold").touch()
    assert one._on_hold()
    now = time.time()
    os.utime(tmp_path / "hold", (now, now - follower.HOLD - 1))
    assert not one._on_hold(), "a run that was killed"
    os.utime(tmp_path / "hold", (now, now + follower.HOLD + 9))
    assert not one._on_hold(), "a clock that was set back"
