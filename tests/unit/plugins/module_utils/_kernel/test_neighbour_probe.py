# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.clustered.openvpn.plugins.module_utils._kernel import neighbour_probe as probe

OWN, THEIRS = bytes.fromhex("020000000001"), bytes.fromhex("020000000002")
V4, V6 = ipaddress.ip_address("192.0.2.20"), ipaddress.ip_address("2001:db8::20")


def test_an_arp_message_from_the_address_is_an_answer():
    reply = probe._arp_request(b"\0" * 4, THEIRS, V4)
    assert probe._arp_answer(reply, V4.packed) == THEIRS
    assert probe._arp_answer(probe._arp_request(V4.packed, THEIRS, None), V4.packed) is None


def advertisement(options=b""):
    body = bytes([probe.ADVERTISEMENT, 0]) + b"\0" * 6 + V6.packed + options
    header = b"\x60\0\0\0" + len(body).to_bytes(2, "big") + bytes([probe.NEXT_HEADER_ICMPV6, 255]) + b"\0" * 32
    return OWN + THEIRS + b"\x86\xdd" + header + body


@pytest.mark.parametrize(
    ("options", "sender"),
    [
        (b"", THEIRS),
        (b"\x02\x01" + OWN, OWN),
        (b"\x05\0" * 8, THEIRS),
        (b"\x05\x01" + b"\0" * 6 + b"\x02\x01" + OWN, OWN),
    ],
)
def test_an_advertisement_names_its_sender(options, sender):
    assert probe._advertisement(advertisement(options), V6.packed) == sender
    assert probe._advertisement(advertisement(options), V4.packed + b"\0" * 12) is None


@given(st.binary(max_size=120), st.integers(0, 100))
def test_any_bytes_are_taken(noise, length):
    for frame in (noise, advertisement(noise)[:length], advertisement(noise)):
        assert probe._arp_answer(frame, V4.packed) in (None, *[frame[i : i + 6] for i in range(len(frame))])
        assert probe._advertisement(frame, V6.packed) in (None, *[frame[i : i + 6] for i in range(len(frame))])


def test_the_checksum_of_a_solicitation_is_right():
    frame = probe._solicitation(V6, OWN, V6)
    assert frame[:6].hex(":") == "33:33:ff:00:00:20"
    assert probe._checksum(frame[22:38], frame[38:54], frame[54:]) == 0
