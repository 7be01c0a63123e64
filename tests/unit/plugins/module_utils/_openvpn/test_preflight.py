# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.clustered.openvpn.plugins.module_utils._openvpn.config import Config, Endpoint, read_config
from ansible_collections.clustered.openvpn.plugins.module_utils._openvpn.instance import Instance
from ansible_collections.clustered.openvpn.plugins.module_utils._openvpn.plan import describe_drops
from ansible_collections.clustered.openvpn.plugins.module_utils._openvpn.ports import Listener, conflicts, parse_ss
from ansible_collections.clustered.openvpn.plugins.module_utils._openvpn.preflight import (
    changed_since,
    key_files,
    missing_programs,
)


def config(text: str) -> Config:
    made = read_config("/etc/o/a.conf", {"/etc/o/a.conf": text.encode()}.get)
    assert made
    return made


def test_missing_programs() -> None:
    assert missing_programs(lambda name: True) == []
    (error,) = missing_programs(lambda name: name != "ip")
    assert "'ip' is missing" in error
    assert "iproute2" in error


@pytest.mark.parametrize(
    ("text", "listens"),
    [
        ("server 10.8.0.0 255.255.255.0", Endpoint("udp", 1194)),
        ("port 443\nproto tcp-server\nserver 10.8.0.0 255.255.255.0", Endpoint("tcp", 443)),
        ("port 443\nproto tcp4\nserver 10.8.0.0 255.255.255.0", Endpoint("tcp", 443, family=4)),
        ("local 192.0.2.1\nport 1\nlport 2\nport 3", Endpoint("udp", 2, "192.0.2.1")),
        ("proto udp6\nbind ipv6only", Endpoint("udp", 1194, family=6, v6only=True)),
        ("client\nremote a", None),
        ("nobind", None),
        ("proto tcp-client", None),
        ("proto tcp", None),
        ("lport 0", None),
        ("port many", None),
    ],
)
def test_where_a_configuration_listens(text: str, listens: Endpoint | None) -> None:
    assert config(text).listens == listens


ANY, V4, V6, V6ONLY = (
    Endpoint("udp", 1),
    Endpoint("udp", 1, family=4),
    Endpoint("udp", 1, family=6),
    Endpoint("udp", 1, family=6, v6only=True),
)
ONE, TWO, SIX = Endpoint("udp", 1, "192.0.2.1"), Endpoint("udp", 1, "192.0.2.2"), Endpoint("udp", 1, "2001:db8::1")


@pytest.mark.parametrize(
    ("a", "b", "overlap"),
    [
        (ANY, ANY, True),
        (ANY, ONE, True),
        (ANY, V6, True),
        (ANY, V6ONLY, False),
        (V4, V6ONLY, False),
        (V4, V6, True),
        (ONE, V6, True),
        (ONE, V6ONLY, False),
        (ONE, ONE, True),
        (ONE, TWO, False),
        (ONE, SIX, False),
        (SIX, V6ONLY, True),
        (SIX, V4, False),
        (ANY, Endpoint("tcp", 1), False),
        (ANY, Endpoint("udp", 2), False),
    ],
)
def test_overlaps(a: Endpoint, b: Endpoint, overlap: bool) -> None:
    assert a.overlaps(b) is overlap
    assert b.overlaps(a) is overlap


def test_what_ss_says() -> None:
    output = (
        'udp UNCONN 0 0 192.0.2.2%nic0:1194 0.0.0.0:* users:(("openvpn",pid=7,fd=5))\n'
        'udp UNCONN 0 0 0.0.0.0:53 0.0.0.0:* users:(("a \\"b",pid=8,fd=5),("c",pid=9,fd=5))\n'
        "tcp LISTEN 0 128 *:443 *:*\n"
        "tcp LISTEN 0 128 [::]:22 [::]:* \n"
        "tcp LISTEN 0 128 [2001:db8::1]:80 [::]:*\n"
        "udp UNCONN 0 0 [fe80::1]%eth0:546 [::]:*\n"
        "nl UNCONN 0 0 rtnl:kernel *\nnonsense\n\n"
    )
    assert parse_ss(output) == [
        Listener(Endpoint("udp", 1194, "192.0.2.2"), 7, "openvpn"),
        Listener(Endpoint("udp", 53, family=4), 8, 'a \\"b'),
        Listener(Endpoint("udp", 53, family=4), 9, "c"),
        Listener(Endpoint("tcp", 443, family=6)),
        Listener(Endpoint("tcp", 22, family=6, v6only=True)),
        Listener(Endpoint("tcp", 80, "2001:db8::1")),
        Listener(Endpoint("udp", 546, "fe80::1")),
    ]


def test_two_instances_share_a_port_in_one_namespace_only() -> None:
    a, b, c = (Instance(name, netns=netns) for name, netns in (("a", "vpn1"), ("b", "vpn2"), ("c", "vpn1")))
    assert conflicts([(a, ONE), (b, ONE), (c, TWO)]) == []
    (error,) = conflicts([(a, ONE), (b, ONE), (c, ANY)])
    assert error.startswith("c: ")
    assert "udp port 1 is already the port of a in" in error
    assert "vpn1" in error


def test_the_files_that_are_judged_and_where_they_come_from(tmp_path: Path) -> None:
    (tmp_path / "ca.crt").write_text("the CA")
    (tmp_path / "a.conf").write_text(
        "ca ca.crt\ncert gone.crt\ncrl-verify lists dir\n<key>\nsecret\n</key>\n<tls-crypt>\nx\n</tls-crypt>\n"
    )
    read = read_config(str(tmp_path / "a.conf"))
    assert read
    assert {name: (pem.label, pem.data) for name, pem in key_files(read).items()} == {
        "ca": (f"{tmp_path}/ca.crt", b"the CA"),
        "cert": (f"{tmp_path}/gone.crt", None),
        "key": (f"<key> in {tmp_path}/a.conf", b"secret\n"),
    }


def test_what_changed_and_is_read_at_every_connect(tmp_path: Path) -> None:
    (tmp_path / "ccd").mkdir()
    (tmp_path / "crl.pem").touch()
    (tmp_path / "a.conf").write_text("crl-verify crl.pem\nclient-config-dir ccd\n")
    read = read_config(str(tmp_path / "a.conf"))
    assert read
    moment = max(path.stat().st_ctime for path in tmp_path.iterdir())
    assert changed_since(read, moment) == []
    assert changed_since(read, moment - 60) == [f"{tmp_path}/crl.pem", f"{tmp_path}/ccd"]


@pytest.mark.parametrize(
    ("number", "words"), [(0, "no client"), (1, "1 client"), (2, "2 clients"), (None, "its clients (number unknown)")]
)
def test_how_many_clients(number: int | None, words: str) -> None:
    assert describe_drops(number).startswith(f"drops {words}")
