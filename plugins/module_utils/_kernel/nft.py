# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""nft(8): the only file that runs it, in the namespace its caller is in.

Text goes in, the very lines that a diff shows, so that the two cannot differ; JSON comes out, so that nothing is
parsed by hand.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import json
import socket
import struct
import typing as t

from . import command, namespaces, rtnetlink

NETLINK_NETFILTER = 12
GET_TABLE, GET_GENERATION = 0x0A01, 0x0A10  # subsystem nftables, NFT_MSG_GETTABLE and NFT_MSG_GETGEN
TABLE_NAME, GENERATION_ID = 1, 1  # attributes: NFTA_TABLE_NAME, NFTA_GEN_ID
NFGENMSG = struct.Struct("=BBH")  # family, version, resource
FAMILIES = {1: "inet", 2: "ip", 3: "arp", 5: "netdev", 7: "bridge", 10: "ip6"}  # linux/netfilter.h

Listing = t.Optional[list[dict[str, t.Any]]]


def run(lines: t.Sequence[str]) -> None:
    """Run commands as one transaction: all of them are applied, or none. Raises CommandError."""
    command.run(["nft", "-f", "-"], "\n".join(lines) + "\n")


class Generation:
    """The generation ID of the ruleset, which every transaction changes, of the namespace in which this is created.

    By netlink, because it is read several times per second and nft would be a process each time.
    """

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER)
        self._socket.settimeout(1.0)

    def now(self) -> int:
        """The current generation ID. Raises OSError."""
        # struct nlmsghdr: length, type, NLM_F_REQUEST, sequence, port; struct nfgenmsg: of no family
        self._socket.send(struct.pack("=IHHII4x", 20, GET_GENERATION, 1, 0, 0))
        answer = self._socket.recv(4096)
        _length, kind = struct.unpack_from("=HH", answer, 20) if len(answer) >= 28 else (0, 0)
        if kind != GENERATION_ID:
            raise OSError("the kernel does not report the generation of its nftables ruleset")
        return int.from_bytes(answer[24:28], "big")

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


def generation() -> int:
    """The generation ID of the caller's namespace, without a socket that stays open; 0 without nf_tables."""
    with contextlib.closing(Generation()) as current:
        try:
            return current.now()
        except OSError:
            return 0


def has_family(family: str) -> bool:
    """Whether the kernel supports a family of tables; a dry run that creates nothing."""
    try:
        command.run(["nft", "--check", "add", "table", family, "clustered_openvpn_asks"])
    except command.CommandError:
        return False
    return True


def start_listing(family: str, table: str) -> command.Process:
    """Start listing a table; listed() waits for the output. Listings of several namespaces can run in parallel."""
    return command.Process(["nft", "-j", "list", "table", family, table])


def listed(process: command.Process) -> Listing:
    """A table as the list of objects that C(nft -j list table) prints, or None if it does not exist."""
    try:
        return json.loads(process.output())["nftables"]
    except command.CommandError as exc:
        if "No such file or directory" in exc.reason:
            return None
        raise


@functools.lru_cache(maxsize=8)
def loaded(text: str, family: str, table: str) -> Listing:
    """A table as nft lists it after loading a text, in a namespace without other rules. Raises CommandError."""
    with namespaces.scratch():
        command.run(["nft", "-f", "-"], text)
        return listed(start_listing(family, table))


def list_tables() -> list[tuple[str, str]]:
    """Family and name of every table, by netlink: nft would be a process. Empty on a kernel without nf_tables."""
    try:
        with rtnetlink.Reader(NETLINK_NETFILTER) as reader:
            found = reader.dump(GET_TABLE, NFGENMSG, NFGENMSG.pack(0, 0, 0))
    except OSError as exc:
        if exc.errno in (errno.EINVAL, errno.EOPNOTSUPP, errno.EPROTONOSUPPORT):
            return []
        raise
    return [
        (FAMILIES[family], rtnetlink.text(attributes.get(TABLE_NAME)) or "")
        for (family, _version, _resource), attributes in found
        if family in FAMILIES
    ]
