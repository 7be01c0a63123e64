# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from hypothesis import settings

# Time is no property of the code: a slow machine must not fail a test.
settings.register_profile("unit", deadline=None, max_examples=60)
settings.load_profile("unit")
