# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""nft(8): the only file that runs it, in the namespace its caller is in.

Text goes in, the very lines that a diff shows, so that the two cannot differ; JSON comes out, so that nothing is
parsed by hand.
"""

from __future__ import annotations

import json
import subprocess
import typing as t


class NftError(OSError):
    """nft refused; the message is its own."""


def run(lines: t.Sequence[str]) -> None:
    """Run commands as one atomic transaction: all of them happen, or none."""
    _nft(["-f", "-"], "\n".join(lines) + "\n")


def list_table(family: str, table: str) -> list[dict[str, t.Any]] | None:
    """A table as the list of objects that C(nft -j list table) prints, or None where there is none."""
    try:
        return json.loads(_nft(["-j", "list", "table", family, table]))["nftables"]
    except NftError as exc:
        if "No such file or directory" in str(exc):
            return None
        raise


def list_tables() -> list[tuple[str, str]]:
    """Family and name of every table."""
    found = json.loads(_nft(["-j", "list", "tables"]))["nftables"]
    return [(o["table"]["family"], o["table"]["name"]) for o in found if "table" in o]


def _nft(args: list[str], text: str | None = None) -> str:
    try:
        done = subprocess.run(["nft", *args], input=text, capture_output=True, text=True, check=False)
    except FileNotFoundError as exc:
        raise NftError("the program 'nft' is missing: install the package nftables") from exc
    if done.returncode != 0:
        raise NftError(done.stderr.strip() or f"nft ended with {done.returncode}")
    return done.stdout
