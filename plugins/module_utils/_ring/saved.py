# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The state that a claims process saves for the one that follows it, with a new program or desired state. Pure."""

from __future__ import annotations

import json
import typing as t
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Saved:
    """Slots of the host, the member of each, and the healthy members."""

    held: tuple[int, ...] = ()
    slots: t.Mapping[int, str] = field(default_factory=dict)
    healthy: tuple[str, ...] = ()


def text(state: Saved) -> str:
    """The content of the file. The keys stay: a process of an earlier version may read or write them."""
    return json.dumps({"held": list(state.held), "slots": dict(state.slots), "well": list(state.healthy)})


def parse(content: bytes) -> Saved:
    """The state in the file. A damaged file is as none: the elections and the checks bring everything back."""
    try:
        found = json.loads(content)
        held = tuple(int(slot) for slot in found["held"])
        slots = {int(slot): str(member) for slot, member in found["slots"].items()}
        return Saved(held, slots, tuple(str(member) for member in found["well"]))
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError, OverflowError):
        return Saved()
