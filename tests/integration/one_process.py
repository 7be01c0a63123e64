# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs modules one after the other in one process, so that hundreds of runs do not take minutes.

For runs that fail validation or change nothing. A line of standard input is a JSON list: a module's name, and its
arguments. A line of standard output is a JSON list: the output of the module, and its traceback or "".
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
import traceback
from unittest import mock

import run_module

from ansible_collections.clustered.openvpn.plugins.module_utils._openvpn import supervisor

# A systemd for the module that requires one, with its answer for a unit that does not exist.
SYSTEMD = {"has_systemd": lambda: True, "run": lambda *_: "ActiveState=inactive\nUnitFileState=\n"}


def main() -> None:
    """Serve requests until standard input ends."""
    requests, answers = sys.stdin, sys.stdout
    for line in requests:
        name, args = json.loads(line)
        sys.argv, sys.stdin = ["run_module.py", name], io.StringIO(json.dumps(args))
        output, trace = io.StringIO(), ""
        own = mock.patch.multiple(supervisor, **SYSTEMD) if name == "cluster_service" else contextlib.nullcontext()
        with contextlib.redirect_stdout(output), own:
            try:
                run_module.main()
            except SystemExit:
                pass
            except BaseException:
                trace = traceback.format_exc()
        print(json.dumps([output.getvalue(), trace]), file=answers, flush=True)


if __name__ == "__main__":
    main()
