# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""`PYTHONPATH=tests python3 -m lab` is the same as `tests/lab/lab`."""

from .main import run_command_line

run_command_line()
