# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.clustered.openvpn.plugins.module_utils._openvpn.config import Config, parse, read_config, split

SERVER = """
config shared.conf   # for all instances
dev tun-a
server 10.8.0.0 255.255.255.0
port 443
"""
SHARED = "ca ca.crt\nkey /keys/server.key\ndh none\ncrl-verify crl.pem\nclient-config-dir ccd\n"


def read(files: dict[str, str], path: str = "/etc/openvpn/server/a.conf") -> Config | None:
    return read_config(path, lambda name: files[name].encode() if name in files else None)


def config(text: str) -> Config:
    made = read({"/c/a.conf": text}, "/c/a.conf")
    assert made
    return made


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("dev tun", ["dev", "tun"]),
        ("  dev\ttun  ", ["dev", "tun"]),
        ("# dev tun", []),
        (";dev tun", []),
        ("dev tun # comment", ["dev", "tun"]),
        ("setenv X a#b;c", ["setenv", "X", "a#b;c"]),
        ('push "route 10.0.0.0 255.0.0.0"', ["push", "route 10.0.0.0 255.0.0.0"]),
        ("up '/bin/a \\b'", ["up", "/bin/a \\b"]),
        ('up "a \\"b\\""', ["up", 'a "b"']),
        (r"ca a\ b", ["ca", "a b"]),
        ('setenv X ""', ["setenv", "X", ""]),
        ("", []),
    ],
)
def test_words(line: str, words: list[str]) -> None:
    assert split(line) == words


def test_inline_files_are_skipped_and_connection_blocks_are_not() -> None:
    text = "--dev tun\n<ca>\nport 1\n</ca>\n<connection>\nremote a 443\n</connection>\nverb 3\n"
    assert list(parse(text)) == [("dev", "tun"), ("remote", "a", "443"), ("verb", "3")]


def test_includes_and_the_files_that_are_read_once() -> None:
    files = {"/etc/openvpn/server/a.conf": SERVER, "/etc/openvpn/server/shared.conf": SHARED}
    made = read(files)
    assert made
    assert made.directives[0] == ("ca", "ca.crt")
    assert made.directives[-1] == ("port", "443")
    assert set(made.files) == {
        "/etc/openvpn/server/a.conf",
        "/etc/openvpn/server/shared.conf",
        "/etc/openvpn/server/ca.crt",
        "/keys/server.key",
        "/etc/openvpn/server/none",
    }


def test_cd_moves_what_follows() -> None:
    made = read({"/etc/openvpn/server/a.conf": "ca one\ncd /keys\nca two\n"})
    assert made
    assert made.files[1:] == ("/etc/openvpn/server/one", "/keys/two")


def test_a_configuration_that_includes_itself_comes_to_an_end() -> None:
    assert config("config a.conf\ndev tun\n").has("dev")


def test_no_configuration() -> None:
    assert read({}) is None


@pytest.mark.parametrize(
    ("name", "same"),
    [
        ("/etc/openvpn/server/a.conf", False),
        ("/etc/openvpn/server/shared.conf", False),
        ("/keys/server.key", False),
        ("/etc/openvpn/server/ca.crt", False),
        ("/etc/openvpn/server/crl.pem", True),
        ("/etc/openvpn/server/ccd/client", True),
    ],
)
def test_the_digest_covers_what_needs_a_restart(name: str, same: bool) -> None:
    files = {"/etc/openvpn/server/a.conf": SERVER, "/etc/openvpn/server/shared.conf": SHARED, "/keys/server.key": "k"}
    before, after = read(files), read({**files, name: files.get(name, "") + "\n"})
    assert before
    assert after
    assert (before.digest == after.digest) is same


@pytest.mark.parametrize(
    ("text", "serves_many", "low_port"),
    [
        ("server 10.8.0.0 255.255.255.0\n", True, False),
        ("mode server\ntls-server\nport 443\n", True, True),
        ("server-bridge\nlport 1194\n", True, False),
        ("client\nremote a 443\nport 0\n", False, False),
        ("tls-server\nifconfig 10.0.0.1 10.0.0.2\nlport 80\n", False, True),
    ],
)
def test_what_is_looked_up(text: str, serves_many: bool, low_port: bool) -> None:
    made = config(text)
    assert (made.serves_many, made.low_port) == (serves_many, low_port)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("daemon\n", "'daemon'"),
        ("user nobody\n", "'user'"),
        ("management-hold\n", "'management-hold'"),
        ("management 127.0.0.1 7505 passwords\n", "password file"),
    ],
)
def test_unsuitable(text: str, word: str) -> None:
    (sentence,) = config(text).unsuitable()
    assert word in sentence
    assert sentence.endswith("remove the directive")


def test_suitable() -> None:
    assert config("management /run/m unix\nstatus /run/s\nlog /run/l\nwritepid /run/p\n").unsuitable() == []


def test_scripts() -> None:
    made = config("up '/bin/a b'\nauth-user-pass-verify /bin/c via-file\nup-restart\n")
    assert made.scripts() == [("up", "/bin/a b"), ("auth-user-pass-verify", "/bin/c", "via-file")]
