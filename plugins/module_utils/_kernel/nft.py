# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""nft(8): the only file that runs it, in the namespace its caller is in.

Text goes in, the very lines that a diff shows, so that the two cannot differ; JSON comes out, so that nothing is
parsed by hand.
"""

from __future__ import annotations

import json
import socket
import struct
import typing as t

from . import command

NETLINK_NETFILTER = 12
GET_GENERATION = 0x0A10  # the subsystem nftables, NFT_MSG_GETGEN
GENERATION_ID = 1  # the first attribute of the answer

Listing = t.Optional[list[dict[str, t.Any]]]


def run(lines: t.Sequence[str]) -> None:
    """Run commands as one atomic transaction: all of them happen, or none."""
    command.run(["nft", "-f", "-"], "\n".join(lines) + "\n")


class Generation:
    """The number of the ruleset, which every transaction changes, of the namespace in which this is made.

    For who looks many times in a second: nft itself would be a process each time.
    """

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER)
        self._socket.settimeout(1.0)

    def now(self) -> int:
        """As it is. Raises OSError."""
        # struct nlmsghdr: length, type, NLM_F_REQUEST, sequence, port; struct nfgenmsg: of no family
        self._socket.send(struct.pack("=IHHII4x", 20, GET_GENERATION, 1, 0, 0))
        answer = self._socket.recv(4096)
        _length, kind = struct.unpack_from("=HH", answer, 20) if len(answer) >= 28 else (0, 0)
        if kind != GENERATION_ID:
            raise OSError("the kernel does not tell the generation of its rules")
        return int.from_bytes(answer[24:28], "big")

    def close(self) -> None:
        """Ask no more."""
        self._socket.close()


def has_family(family: str) -> bool:
    """Whether the kernel knows a family of tables. Nothing is made."""
    try:
        command.run(["nft", "--check", "add", "table", family, "clustered_openvpn_asks"])
    except command.CommandError:
        return False
    return True


def start_listing(family: str, table: str) -> command.Process:
    """Ask for a table; C(listed) takes the answer. Many namespaces can be asked at once."""
    return command.Process(["nft", "-j", "list", "table", family, table])


def listed(process: command.Process) -> Listing:
    """A table as the list of objects that C(nft -j list table) prints, or None where there is none."""
    try:
        return json.loads(process.output())["nftables"]
    except command.CommandError as exc:
        if "No such file or directory" in exc.reason:
            return None
        raise


def list_tables() -> list[tuple[str, str]]:
    """Family and name of every table."""
    found = json.loads(command.run(["nft", "-j", "list", "tables"]))["nftables"]
    return [(o["table"]["family"], o["table"]["name"]) for o in found if "table" in o]
