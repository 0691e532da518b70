"""Who watches the processes of a training over several."""

from __future__ import annotations

import subprocess
import sys

WAITS = """
import subprocess, sys, time
from types import SimpleNamespace
from shared.training import peers

peers.GRACE_S = 0.1
other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep({lives}); raise SystemExit(3)"])
watched = [other]
launcher = SimpleNamespace(procs=watched, kill=lambda number: print("stopped", launcher.procs[0].pid == other.pid))
trainer = SimpleNamespace(world_size=2, strategy=SimpleNamespace(launcher=launcher))
watch = peers.PeerWatch()
watch.setup(trainer, None, "fit")
assert not watched, "Lightning's watcher, which holds this list, would kill without a word"
{then}
"""


def run(lives: float, then: str) -> subprocess.CompletedProcess[str]:
    script = WAITS.format(lives=lives, then=then)
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)


def test_a_process_that_waits_for_a_lost_one_says_so_and_ends():
    done = run(0, "sys.stdout.reconfigure(line_buffering=True); time.sleep(50)")
    assert done.returncode == 2, done.stderr
    assert "one of the 2 processes is gone" in done.stderr
    assert "--ckpt_path last" in done.stderr
    assert "stopped True" in done.stdout


def test_what_ends_after_training_takes_nothing_along():
    done = run(0.3, "watch.teardown(trainer, None, 'fit'); other.wait(); time.sleep(1.5)")
    assert (done.returncode, done.stderr) == (0, "")
