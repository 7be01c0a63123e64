# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documentation that modules share."""

from __future__ import annotations


class ModuleDocFragment:
    """How every module that changes the kernel behaves."""

    DOCUMENTATION = r"""
options: {}
attributes:
  check_mode:
    support: full
    description: Plans against what the kernel holds, and changes nothing.
  diff_mode:
    support: full
    description: The diff is the list of commands that an administrator would type for the same changes.
  platform:
    support: full
    platforms: posix
    description: Linux, as root.
requirements:
  - pyroute2 0.7.2 or newer on the managed host
author:
  - clustered.openvpn contributors (@clustered-openvpn)
"""
