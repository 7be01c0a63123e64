# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Sysctls: desired and observed values -> steps. Pure."""

from __future__ import annotations

import typing as t

from .._kernel.observed import View
from .._kernel.steps import Step, step


def sysctl_value(value: t.Any) -> str:
    """A value as sysctl(8) prints it: numbers are separated by single spaces, and true is 1."""
    return str(int(value)) if isinstance(value, bool) else " ".join(str(value).split())


def plan_sysctls(netns: str, values: t.Mapping[str, str], view: View) -> list[Step]:
    """Steps that set the values that differ, in the given order."""
    return [
        step("sysctl", netns, key=key, value=value) for key, value in values.items() if view.sysctls.get(key) != value
    ]
