# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A service: ``echo.py ADDRESS PORT NAME`` answers every datagram and every connection with NAME.

A datagram's answer has the length of its question, so that large ones come back in fragments too.
"""

from __future__ import annotations

import selectors
import socket
import sys


def main() -> None:
    """Serve until killed."""
    address, port, name = sys.argv[1], int(sys.argv[2]), sys.argv[3].encode()
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    udp = socket.socket(family, socket.SOCK_DGRAM)
    udp.bind((address, port))
    tcp = socket.create_server((address, port), family=family)
    selector = selectors.DefaultSelector()
    for sock in (udp, tcp):
        selector.register(sock, selectors.EVENT_READ)
    print("ready", flush=True)
    while True:
        for key, _events in selector.select():
            if key.fileobj is udp:
                data, client = udp.recvfrom(65536)
                udp.sendto(name.ljust(len(data), b"."), client)
            else:
                connection, client = tcp.accept()
                with connection:
                    connection.sendall(name)


if __name__ == "__main__":
    main()
