# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""iproute2's batches. A single command of ip or tc needs no more than C(command.run)."""

from __future__ import annotations

import re
import typing as t

from .command import CommandError, run


def batch(lines: t.Sequence[str], *, force: bool = False) -> None:
    """Run lines of C(ip -batch) in the caller's namespace. Raises CommandError with the line that failed.

    force: run all lines, and ignore those that fail.
    """
    try:
        run(["ip", *(["-force"] if force else []), "-batch", "-"], "".join(f"{line}\n" for line in lines))
    except CommandError as exc:
        failed = re.search(r"\s*Command failed -:(\d+)$", exc.reason)
        if force and not exc.missing:
            return
        if failed is None:
            raise
        raise CommandError(["ip", lines[int(failed.group(1)) - 1]], exc.reason[: failed.start()]) from exc
