# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Weights of the tunnels: weight -> slots of the per-packet spread, or buckets of the per-flow spread. Pure.

Weights are relative, and are mappings from the number of a tunnel to its weight. A tunnel of weight 0 gets no packets.
"""

from __future__ import annotations

import math
import typing as t

from .. import _params as p
from .._cluster import buckets as _buckets

MAX_SLOTS = 1024  # more would only make the nftables map longer
FLOW_BUCKETS = 256


def packet_slots(weights: t.Mapping[int, int]) -> list[int]:
    """The order in which tunnels get packets: each as often as its weight, evenly interleaved. Raises ParameterError.

    Smooth weighted round robin: weights of 3 and 1 become 1, 1, 2, 1.
    """
    if not any(weights.values()):
        raise p.ParameterError(
            "tunnels[].weight", list(weights.values()), "give one tunnel at least a weight above 0, or nothing is sent"
        )
    divisor = math.gcd(*weights.values())
    shares = {number: weight // divisor for number, weight in weights.items() if weight}
    total = sum(shares.values())
    if total > MAX_SLOTS:
        raise p.ParameterError(
            "tunnels[].weight", list(weights.values()), f"use smaller weights: their sum may be {MAX_SLOTS}"
        )
    credit = dict.fromkeys(shares, 0)
    slots = []
    for _slot in range(total):
        for number, share in shares.items():
            credit[number] += share
        best = max(credit, key=lambda number: credit[number])
        credit[best] -= total
        slots.append(best)
    return slots


def flow_buckets(weights: t.Mapping[int, int], live: t.Collection[int]) -> dict[int, list[int]]:
    """Tunnel -> its buckets (1 to FLOW_BUCKETS). Only the buckets of dead tunnels move, to live ones."""
    by_name = {str(number): weight for number, weight in weights.items()}
    home = _buckets.owners(by_name, FLOW_BUCKETS)
    now = {name: weight if int(name) in live else 0 for name, weight in by_name.items()}
    return {int(name): buckets for name, buckets in _buckets.owners(now, FLOW_BUCKETS, home).items()}
