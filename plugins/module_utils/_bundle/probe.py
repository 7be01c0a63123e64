# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The probe: a UDP datagram that both ends send through each tunnel, and the socket for it."""

from __future__ import annotations

import contextlib
import socket
import struct
import typing as t

from .bundle import Bundle, Tunnel

PER_TIMEOUT = 8  # probes within the timeout after which a tunnel is dead
MAX_INTERVAL = 0.5  # seconds between two probes
SO_BINDTODEVICE = 25
TOS_CONTROL = 0xC0  # network control: queues with priorities send it first
_MAGIC = b"cluster1"
_FORMAT = struct.Struct("!8s?dd")


class Probe(t.NamedTuple):
    """The content of a probe. Times are seconds of the monotonic clock of the end that wrote them."""

    receiving: bool  # whether the sender receives packets from this tunnel
    sent: float  # time of the sender
    echo: float  # the latest time that the sender has received from its peer; 0.0: none yet

    def pack(self) -> bytes:
        """The datagram."""
        return _FORMAT.pack(_MAGIC, *self)

    @classmethod
    def parse(cls, data: bytes) -> Probe | None:
        """The probe in a datagram; None if it is not one."""
        with contextlib.suppress(struct.error):
            magic, *fields = _FORMAT.unpack(data)
            return cls(*fields) if magic == _MAGIC else None
        return None


def interval(timeout: float) -> float:
    """Seconds between two probes."""
    return min(MAX_INTERVAL, timeout / PER_TIMEOUT)


def open_socket(bundle: Bundle, tunnel: Tunnel) -> socket.socket:
    """A socket for the probes of a tunnel, bound to its device and address. Raises OSError."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        sock.setsockopt(socket.SOL_SOCKET, SO_BINDTODEVICE, tunnel.device.encode())
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, TOS_CONTROL)
        sock.bind((tunnel.probed.local, bundle.probe_port))
    except OSError:
        sock.close()
        raise
    return sock
