# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import typing as t
from dataclasses import replace
from pathlib import Path

import pytest

from ansible_collections.clustered.openvpn.plugins.module_utils._openvpn import (
    processes,
    supervisor,
    supervisor_process,
)
from ansible_collections.clustered.openvpn.plugins.module_utils._openvpn.command_line import openvpn_command
from ansible_collections.clustered.openvpn.plugins.module_utils._openvpn.config import Config
from ansible_collections.clustered.openvpn.plugins.module_utils._openvpn.instance import Instance
from ansible_collections.clustered.openvpn.plugins.module_utils._openvpn.supervisor_process import tail
from ansible_collections.clustered.openvpn.plugins.module_utils._openvpn.supervisor_systemd import (
    HARDENED,
    drop_in_text,
    hidden_from_unit,
    instances_in,
    parse_show,
    quote,
)
from ansible_collections.clustered.openvpn.plugins.module_utils._openvpn.trial import (
    has_passed,
    missing_scripts,
    trial_command,
)

ONE = Instance("vpn1-udp", "server", "vpn1", "/etc/openvpn/server/vpn1-udp.conf", (0, 2), management="/run/m1")


def config(*directives: tuple[str, ...]) -> Config:
    return Config("/etc/openvpn/server/a.conf", directives, (), "")


# --- systemd ----------------------------------------------------------------------------------------------------------

DROP_IN = """\
[Unit]
StartLimitIntervalSec=0

[Service]
NetworkNamespacePath=/run/netns/vpn1
BindReadOnlyPaths=-/etc/netns/vpn1/resolv.conf:/etc/resolv.conf
User=openvpn
Group=openvpn
AmbientCapabilities=CAP_NET_ADMIN CAP_NET_BIND_SERVICE
CapabilityBoundingSet=
CapabilityBoundingSet=CAP_NET_ADMIN CAP_NET_BIND_SERVICE
LimitNPROC=infinity
TasksMax=64
Restart=always
RestartSec=1s
RuntimeDirectory=clustered-openvpn/vpn1-udp
RuntimeDirectoryMode=0750
StateDirectory=clustered-openvpn/vpn1-udp
StateDirectoryMode=0750
{hardened}
CPUAffinity=0 2
ExecStart=
ExecStart=/usr/sbin/openvpn --suppress-timestamps --cd /etc/openvpn/server --config vpn1-udp.conf \
--management /run/m1 unix --status /run/clustered-openvpn/vpn1-udp/status 10 --status-version 2
"""


def test_drop_in() -> None:
    head, _newline, body = drop_in_text(ONE, ["net_admin", "net_bind_service"]).partition("[Unit]")
    assert "[Unit]" + body == DROP_IN.format(hardened="\n".join(HARDENED))
    assert head.startswith("# Managed by Ansible")
    assert '"netns": "vpn1"' in head


def test_drop_in_of_a_client_on_the_host() -> None:
    text = drop_in_text(replace(ONE, role="client", netns="", cpus=()), ["net_admin"])
    assert "NetworkNamespacePath" not in text
    assert "CPUAffinity" not in text
    assert "\nRestart=on-failure\n" in text


@pytest.mark.parametrize(
    ("word", "quoted"),
    [
        ("/run/a_b-c.sock", "/run/a_b-c.sock"),
        ("/a b", '"/a b"'),
        ("/100%", "/100%%"),
        ("/$HOME", "/$$HOME"),
        ('/a"\\b', '"/a\\"\\\\b"'),
    ],
)
def test_quote(word: str, quoted: str) -> None:
    assert quote(word) == quoted


def test_show() -> None:
    text = "Id=openvpn-server@a.service\nMainPID=17\n\nId=openvpn-server@b.service\nMainPID=0\nX=a=b\n"
    shown = parse_show(text)
    assert shown["openvpn-server@a"]["MainPID"] == "17"
    assert shown["openvpn-server@b"]["X"] == "a=b"


def test_hidden() -> None:
    assert hidden_from_unit(["/root/a.key", "/etc/openvpn/a.key", "/home/u/b"]) == ["/root/a.key", "/home/u/b"]


# --- processes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "ours"),
    [
        (openvpn_command(ONE, systemd=False), True),
        (["ip", "netns", "exec", "vpn1", *openvpn_command(ONE, systemd=False)], True),
        (openvpn_command(replace(ONE, management="/run/m2"), systemd=False), False),
        (["grep", "--management", "/run/m1"], False),
        ([], False),
    ],
)
def test_runs_instance(words: list[str], ours: bool) -> None:
    assert processes.runs_instance(words, ONE) is ours


@pytest.mark.parametrize(
    ("record", "unchanged", "current"),
    [
        ({"pid": 17, "ticks": 5, "digest": "d"}, False, True),
        ({"pid": 17, "ticks": 5, "digest": "old"}, True, False),
        ({"pid": 17, "ticks": 4, "digest": "old"}, True, True),
        ({"pid": 17, "ticks": 4, "digest": "d"}, False, False),
        ({}, True, True),
        ({}, False, False),
    ],
)
def test_is_current(record: dict[str, t.Any], unchanged: bool, current: bool) -> None:
    assert supervisor.is_current(record, 17, 5, "d", unchanged=unchanged) is current


def test_a_record_comes_back(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(supervisor, "RUN", str(tmp_path))
    monkeypatch.setattr(Instance, "record", property(lambda self: f"{tmp_path}/{self.name}.json"))
    supervisor.write_record(ONE, os.getpid(), "d")
    record = supervisor.read_record(ONE)
    assert (record["pid"], record["digest"]) == (os.getpid(), "d")
    assert record["ticks"] == processes.start_ticks(os.getpid()) > 0
    assert supervisor.recorded_instances() == [ONE]
    (tmp_path / "broken.json").write_text("{")
    assert supervisor.recorded_instances() == [ONE]


def test_the_cpus_of_a_running_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(supervisor, "RUN", str(tmp_path))
    monkeypatch.setattr(Instance, "record", str(tmp_path / "a.json"))
    instance = Instance("a", cpus=(1,))
    assert supervisor.recorded_cpus(instance, os.getpid(), (7,)) == (7,), "no record"
    supervisor.write_record(instance, os.getpid(), "digest")
    assert supervisor.recorded_cpus(Instance("a", cpus=(2,)), os.getpid(), (7,)) == (1,)
    assert supervisor.recorded_cpus(instance, 1, (7,)) == (7,), "the record of another process"
    assert supervisor.pin_command(instance, 42) == ["taskset", "-a", "-c", "-p", "1", "42"]
    assert supervisor.pin_command(Instance("a"), 42)[-2].startswith("0")


def test_the_instance_of_a_drop_in() -> None:
    instance = Instance("a", netns="vpn1", cpus=(1, 2))
    assert instances_in(drop_in_text(instance, ["net_admin"])) == [instance]
    assert instances_in("# Instance: {damaged\n") == instances_in("") == []


def test_a_process_that_is_not_there() -> None:
    assert processes.start_ticks(2**22 + 1) == 0
    assert not processes.in_netns(2**22 + 1, "")


@pytest.mark.parametrize(
    ("mode", "user", "closed"), [(0o666, "nobody", False), (0o600, "nobody", True), (0o600, "root", False)]
)
def test_tun(monkeypatch: pytest.MonkeyPatch, mode: int, user: str, closed: bool) -> None:
    node = os.stat_result((mode, 0, 0, 1, 0, 0, 0, 0, 0, 0))  # of root
    monkeypatch.setattr(supervisor_process.os, "stat", lambda _path: node)
    assert supervisor_process.tun_is_closed(user, "nogroup") is closed


def test_tail(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("old\nnew\n")
    assert tail(str(log)) == ["old", "new"]
    assert tail(str(log), 4) == ["new"]
    assert tail(str(log), 400) == ["old", "new"], "rotated since"
    assert tail(str(tmp_path / "none")) == []


# --- trial ------------------------------------------------------------------------------------------------------------


def test_a_trial_overrides_everything_that_a_running_instance_owns() -> None:
    given = config(
        ("ifconfig-pool-persist", "pool", "60"),
        ("up", "/etc/up x"),
        ("up", "/etc/up y"),
        ("auth-user-pass-verify", "/etc/verify", "via-file"),
    )
    assert " ".join(trial_command(ONE, given, "/t")) == (
        "/usr/sbin/openvpn --log-append /t.log --cd /etc/openvpn/server --config vpn1-udp.conf --verb 3"
        " --management /t/management.sock unix --status /t/status --writepid /t/pid"
        " --ifconfig-pool-persist /t/ifconfig-pool-persist --up /bin/true --auth-user-pass-verify /bin/true via-file"
    )


def test_scripts_that_are_missing() -> None:
    given = config(("up", "/bin/true x"), ("down", "hooks/down 'y z'"))
    assert missing_scripts(given, lambda path: path == "/bin/true") == [
        "down: /etc/openvpn/server/hooks/down is not executable; run chmod +x, or use another script"
    ]


@pytest.mark.parametrize(
    ("line", "server", "client"),
    [
        ("2026-01-01 00:00:00 Initialization Sequence Completed", True, True),
        ("UDPv4 link remote: [AF_INET]192.0.2.10:1194", False, True),
        ("TCP: connect to [AF_INET]192.0.2.10:443 failed", False, False),
        ("Attempting to establish TCP connection with [AF_INET]192.0.2.10:443", False, True),
        ("RESOLVE: Cannot resolve host address: vpn.example.com:1194", False, True),
        ("Cannot load certificate file client.crt", False, False),
    ],
)
def test_has_passed(line: str, server: bool, client: bool) -> None:
    assert has_passed([line], serves_many=True) is server
    assert has_passed([line], serves_many=False) is client
