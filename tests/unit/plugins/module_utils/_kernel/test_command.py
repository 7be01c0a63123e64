# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import time

import pytest

from ansible_collections.clustered.openvpn.plugins.module_utils._kernel.command import CommandError, Process, run
from ansible_collections.clustered.openvpn.plugins.module_utils._kernel.iproute import batch


def test_output_is_returned_and_input_is_passed() -> None:
    assert run(["cat"], "a\nä\n") == "a\nä\n"
    assert run(["cat"]) == "", "without input, standard input is empty"
    assert run(["printf", r"\377"]) == "\ufffd", "bytes that are not UTF-8 do not raise"


def test_a_failure_has_the_command_and_the_reason() -> None:
    with pytest.raises(CommandError, match=r"^sh -c echo no >&2; exit 3: no$") as caught:
        run(["sh", "-c", "echo no >&2; exit 3"])
    assert caught.value.reason == "no"
    assert not caught.value.missing
    with pytest.raises(CommandError, match=r": on stdout$"):
        run(["sh", "-c", "echo on stdout; false"])
    with pytest.raises(CommandError, match=r"^false: exit status 1$"):
        run(["false"])


def test_a_missing_program_is_reported_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(
        CommandError, match=r"^nft -f -: the program 'nft' is missing: install the package nftables$"
    ) as caught:
        run(["nft", "-f", "-"], "flush ruleset\n")
    assert caught.value.missing
    with pytest.raises(CommandError, match=r"the program 'nobody-has-this' is missing$"):
        run(["nobody-has-this"])
    with pytest.raises(CommandError, match=r"install the package iproute2"):
        batch(["link show"], force=True)


def test_a_file_that_cannot_be_executed() -> None:
    with pytest.raises(CommandError, match=r"^/etc/passwd: Permission denied$") as caught:
        run(["/etc/passwd"])
    assert not caught.value.missing


def test_a_command_that_takes_too_long_is_killed() -> None:
    start = time.monotonic()
    with pytest.raises(CommandError, match=r"^sleep 60: timed out after 0\.1 s$"):
        run(["sleep", "60"], timeout=0.1)
    process = Process(["sleep", "60"])
    process.kill()
    assert time.monotonic() - start < 30


def test_the_environment_is_replaced() -> None:
    assert run(["env"], env={"LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin"}).split() == [
        "LC_ALL=C.UTF-8",
        "PATH=/usr/bin:/bin",
    ]


def test_a_batch_reports_the_line_that_failed() -> None:
    with pytest.raises(CommandError, match=r"^ip link show dev no-such-link: .*does not exist"):
        batch(["link show dev lo", "link show dev no-such-link"])
    batch(["link show dev no-such-link"], force=True)
