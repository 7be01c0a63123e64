# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs one module of the collection as Ansible does on a host: arguments on standard input, result on standard output.

Both are JSON.
"""

from __future__ import annotations

import importlib
import json
import sys


def main() -> None:
    """``run_module.py NAME``."""
    args = json.load(sys.stdin)
    module = importlib.import_module(f"ansible_collections.clustered.openvpn.plugins.modules.{sys.argv[1]}")
    try:
        from ansible.module_utils.testing import patch_module_args
    except ImportError:  # ansible-core before 2.19
        from ansible.module_utils import basic

        basic._ANSIBLE_ARGS = json.dumps({"ANSIBLE_MODULE_ARGS": args}).encode()
        module.main()
    else:
        with patch_module_args(args):
            module.main()


if __name__ == "__main__":
    main()
