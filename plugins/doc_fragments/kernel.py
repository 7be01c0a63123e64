# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documentation shared by the modules that configure the kernel."""

from __future__ import annotations


class ModuleDocFragment:
    """Check mode, diff mode, platform and requirements of these modules."""

    DOCUMENTATION = r"""
options: {}
attributes:
  check_mode:
    support: full
    description: Compares the parameters with the state of the kernel and returns the changes without making them.
  diff_mode:
    support: full
    description: The diff lists the equivalent commands.
  platform:
    support: full
    platforms: posix
    description: Linux. Requires root.
requirements:
  - pyroute2 0.7.2 or later on the managed host (Debian and Ubuntu package C(python3-pyroute2))
author:
  - clustered.openvpn contributors (@clustered-openvpn)
"""
