# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The links that a bundle makes in the host's own namespace. Pure."""

from __future__ import annotations

from .._state.bundle import BundleState


def host_links(state: BundleState) -> list[str]:
    """Their names; those of retired tunnels, too, until they are removed."""
    return [] if state.bundle.netns else sorted({one.device for one in (*state.bundle.tunnels, *state.retired)})
