# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tunnels that fail in several ways leave the spread at both ends, get only probes, and return."""

from __future__ import annotations

import os
import signal
import time
import typing as t
from itertools import count
from pathlib import Path

import pytest

from .bundle_lab import BundleLab, Stream
from .world import sh

_numbers = count()
VICTIM = 2
OTHERS, ALL = [1, 3], [1, 2, 3]
TO_BE_BACK = 5.0


@pytest.fixture(scope="module")
def lab(pki: Path) -> t.Iterator[BundleLab]:
    """A bundle of three tunnels."""
    made = BundleLab(f"w{os.getpid() % 10000}x{next(_numbers)}", pki, tunnels=3, timeout=1.2)
    try:
        made.converge()
        yield made
    finally:
        made.remove()


class Killed:
    """The process is killed, and started again."""

    def __init__(self, lab: BundleLab, end: int):
        self.lab, self.end = lab, end

    def fail(self) -> None:
        os.kill(self.lab.pid(self.end, VICTIM), signal.SIGKILL)

    def heal(self) -> float:
        """Repair the failure; the time at which the process ran again."""
        (instance,) = [i for i in self.lab.instances(self.end) if i["name"] == self.lab.device(self.end, VICTIM)]
        self.lab.run("openvpn_instance", instances=[instance])
        pid = self.lab.pid(self.end, VICTIM)
        ticks = float(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
        return time.monotonic() - age


class Stopped(Killed):
    """The process is frozen, and continues."""

    def fail(self) -> None:
        os.kill(self.lab.pid(self.end, VICTIM), signal.SIGSTOP)

    def heal(self) -> float:
        os.kill(self.lab.pid(self.end, VICTIM), signal.SIGCONT)
        return time.monotonic()


class Dropped(Killed):
    """A firewall between the ends drops the packets of the tunnel."""

    which = "udp sport 1196 drop; udp dport 1196 drop"

    def fail(self) -> None:
        chain = f"chain c {{ type filter hook forward priority 0; {self.which}; }};"
        sh(f"nft 'table inet firewall {{ {chain} }}'", self.lab.router)

    def heal(self) -> float:
        sh("nft delete table inet firewall", self.lab.router)
        return time.monotonic()


class DroppedOneWay(Dropped):
    """The same, for packets from end A only."""

    which = "ip saddr 192.0.2.1 udp dport 1196 drop"


@pytest.mark.parametrize(
    ("kind", "end"),
    [(Killed, 0), (Killed, 1), (Stopped, 0), (Stopped, 1), (Dropped, 0), (DroppedOneWay, 0)],
    ids=["A killed", "B killed", "A stopped", "B stopped", "dropped", "dropped one way"],
)
@pytest.mark.parametrize(("timeout", "bound"), [(1.2, 3.0), (0.6, 1.0)], ids=["3 s", "1 s"])
def test_a_dead_tunnel_is_left_alone_until_it_is_back(
    lab: BundleLab,
    kind: type[Killed],
    end: int,
    timeout: float,
    bound: float,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if lab.settings["timeout"] != timeout:
        lab.converge(timeout=timeout)
    lab.wait_live(ALL)
    for side in (0, 1):
        lab.counts(side, 5000)
    trouble = kind(lab, end)
    streams = [Stream(lab, side) for side in (0, 1)]
    healed = False
    try:
        time.sleep(0.3)
        trouble.fail()
        failed = time.monotonic()
        lab.wait_live(OTHERS, bound)
        before = [lab.counts(side, 5000)[VICTIM] for side in (0, 1)]
        time.sleep(1.0)
        meanwhile = [lab.counts(side, 5000)[VICTIM] for side in (0, 1)]
        back = trouble.heal()
        healed = True
        lab.wait_live(ALL, 15)
        returned = time.monotonic() - back
        time.sleep(0.3)
        after = [lab.counts(side, 5000)[VICTIM] for side in (0, 1)]
    finally:
        if not healed:
            trouble.heal()
        for stream in streams:
            stream.end()
    lost = [max((moment - failed for moment in stream.lost()), default=0.0) for stream in streams]
    with capsys.disabled():
        figures = ", ".join(f"from {'AB'[i]} for {max(0.0, seconds):.2f} s" for i, seconds in enumerate(lost))
        print(f"\n  {kind.__name__} at {'AB'[end]}, timeout {timeout:g} s: loss {figures}; back in {returned:.2f} s")
    assert max(lost) <= bound
    assert meanwhile == before, "no packets but probes"
    assert all(now > then for now, then in zip(after, meanwhile)), "the tunnel is used again"
    assert returned <= TO_BE_BACK


def test_a_table_that_was_flushed_and_made_anew_deals_packets_out_within_a_second(
    lab: BundleLab, capsys: pytest.CaptureFixture[str]
) -> None:
    lab.wait_live(ALL)
    (bundle,) = lab.layouts[0]["bundles"]
    sh("nft flush ruleset", lab.a)
    assert lab.run("tunnel_bundle", **bundle)["live"] in ([], ALL)
    took = lab.wait_live(ALL, 1.5)
    with capsys.disabled():
        print(f"\n  after nft flush ruleset, {took:.2f} s")
