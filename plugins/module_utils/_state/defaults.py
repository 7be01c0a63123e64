# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The defaults of a cluster's settings, for the files, the modules and the filters."""

from __future__ import annotations

import typing as t

UPLINK: t.Final = "routed"
DISTRIBUTION: t.Final = "steer"
HASHMODE: t.Final = "sourceip"
ENGINE: t.Final = "nftables"  # also the hash
HASH_INIT: t.Final = 0
TOTAL_NODES: t.Final = 256
