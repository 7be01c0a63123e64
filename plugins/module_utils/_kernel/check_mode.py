# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The kernel in check mode: programs that are not installed yet count as installed by an earlier task of the play."""

from __future__ import annotations

import shutil
import typing as t
from dataclasses import replace

from . import nft
from .command import CommandError, missing
from .kernel import Kernel
from .observed import Host
from .routing import Seen

T = t.TypeVar("T")


class CheckModeKernel(Kernel):
    """Reports a missing program by C(warn), and goes on as if it had shown nothing. Changes nothing."""

    def __init__(self, warn: t.Callable[[str], None]) -> None:
        super().__init__()
        self._warn = warn

    def tables(self, keys: t.Iterable[tuple[str, str, str]], *args: t.Any) -> dict[tuple[str, str, str], nft.Listing]:
        names = list(keys)
        return self._tolerate(lambda: super(CheckModeKernel, self).tables(names, *args), dict.fromkeys(names))

    def list_tables(self) -> list[tuple[str, str]]:
        return self._tolerate(super().list_tables, [])

    def routing(self, netns: str, networks: t.Iterable[str] = ()) -> Seen:
        return self._tolerate(lambda: super(CheckModeKernel, self).routing(netns, networks), Seen())

    def abilities(self, families: t.Iterable[str]) -> Host:
        asked = frozenset(families)
        host = super().abilities(asked)
        return host if shutil.which("nft") else replace(host, families=asked)

    def _tolerate(self, observe: t.Callable[[], T], nothing: T) -> T:
        try:
            return observe()
        except CommandError as exc:
            if not exc.missing:
                raise
            self._warn(f"{missing(exc.argv[0])} (check mode: assumed to be installed by an earlier task)")
            return nothing
