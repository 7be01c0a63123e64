# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The table that accepts VRRP from hosts of the cluster alone, as a part of the desired state.

The role writes its text. It is compared with the kernel as nft lists both: the text is loaded in a namespace of its own
for that.
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from .._kernel.kernel import Kernel
from .._kernel.observed import View
from .._kernel.ruleset import Listing, plan_no_table
from .._kernel.steps import Planned, step
from . import paths, vrrp

FAMILY = "ip"


@dataclass(frozen=True)
class VrrpFilter:
    """The filter of a cluster. C(path): the file with its text; None without failover."""

    table: str
    path: str | None


def filter_from(name: str, failover: bool) -> VrrpFilter:
    """The filter of a cluster with or without failover."""
    return VrrpFilter(vrrp.filter_table(name), paths.vrrp_filter(name) if failover else None)


def vrrp_filter(kernel: Kernel, wanted: VrrpFilter, present: bool) -> Planned:
    """Observe and plan the table."""
    key = ("", FAMILY, wanted.table)
    have = kernel.tables([key], {"": View("", True)})[key]
    if not present or wanted.path is None:
        lines = plan_no_table(FAMILY, wanted.table, have)
        return Planned([step("nft", lines=lines)] if lines else [])
    try:
        with open(wanted.path, encoding="utf-8") as file:
            text = file.read()
    except FileNotFoundError:
        return Planned([], [f"{wanted.path}: no such file; run the role clusterip_cluster, which writes it"])
    if have is not None and comparable(have) == comparable(kernel.loaded(text, FAMILY, wanted.table)):
        return Planned([])
    return Planned([step("nft", lines=lines_of(text))])


def lines_of(text: str) -> list[str]:
    """The lines of an nft file, without its comments. Pure."""
    return [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]


def comparable(listing: Listing) -> list[t.Any]:
    """A listing without the numbers that the kernel has chosen. Pure."""
    return [_without_handles(one) for one in listing or () if "metainfo" not in one]


def _without_handles(value: t.Any) -> t.Any:
    if isinstance(value, dict):
        return {key: _without_handles(one) for key, one in value.items() if key != "handle"}
    return [_without_handles(one) for one in value] if isinstance(value, list) else value
