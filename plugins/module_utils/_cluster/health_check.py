# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The settings of the health check of members, validated. Pure."""

from __future__ import annotations

import typing as t

from .._params import ParameterError


def check(wanted: t.Mapping[str, t.Any]) -> None:
    """Refuse settings by which every check would fail. C(interval) and C(timeout) in seconds. Raises ParameterError."""
    command = wanted["command"]
    if isinstance(command, str) or not all(isinstance(word, str) and word for word in command):
        raise ParameterError("check_command", command, "use a list: the command and its arguments, each a text")
    for key in ("fall", "rise"):
        if wanted[key] < 1:
            raise ParameterError(f"check_{key}", wanted[key], "use at least 1 check in a row")
    for key in ("interval", "timeout"):
        if not 0 < wanted[key] <= 60:
            raise ParameterError(f"check_{key}", wanted[key], "use seconds above 0, up to 60")
