"""The image's own command serves on a root file system that nobody can write, but for the folders that it names.

In a mount namespace of its own, as root of it, in place of a container: where none may be made, the test skips.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import pytest
from dockerfile_parse import DockerfileParser

from shared.packaging.dockerfile import PORT, SCRATCH, STATE, render_dockerfile
from tests.server import free_port
from tests.shared.packaging.conftest import Packaged

SCRIPT = r"""
set -eu
root=$1; bento=$2; venv=$3; port=$4; shift 4
mount --rbind / "$root"
mount -o remount,ro,bind "$root"
awk -v below="$root/" 'index($5, below) == 1 { print $5 }' /proc/self/mountinfo | while read -r place; do
    case "$place" in "$root"/proc*|"$root"/dev*|"$root"/sys*) ;; *) mount -o remount,ro,bind "$place" ;; esac
done
mount -t tmpfs tmpfs "$root/tmp"
mount -t tmpfs tmpfs "$root/var/lib"
case "$venv" in /tmp/*)  # where this checkout lies below the folder that was just covered
    mkdir -p "$root$venv"
    mount --bind "$venv" "$root$venv"
    mount -o remount,ro,bind "$root$venv" ;;
esac
mkdir "$root/var/lib/percept" "$root/tmp/bento"
mount --bind "$bento" "$root/tmp/bento"
mount -o remount,ro,bind "$root/tmp/bento"
exec chroot "$root" sh -c '
    port=$1; shift
    touch /written 2>/dev/null && echo "the root can be written"
    touch /tmp/bento/src/written 2>/dev/null && echo "the code can be written"
    cd /tmp/bento/src
    "$@" & server=$!
    for _ in $(seq 120); do
        curl -sf "http://127.0.0.1:$port/readyz" >/dev/null && break
        kill -0 $server || exit 9
        sleep 0.5
    done
    curl -sS -X PUT --data-binary "# Guide: Ada keeps the lamp" -H "Content-Type: text/markdown" -H "X-API-Key: admin" \
        -o /dev/null -w "written %{http_code}\n" "http://127.0.0.1:$port/v1/knowledge/guide.md"
    find /var/lib/percept -name "knowledge.sqlite" | sed "s/^/made /"
    kill $server; wait $server; echo "ended $?"
' sh "$port" "$@"
"""


def may_mount() -> bool:
    program = shutil.which("unshare")
    return bool(program) and subprocess.run([program, "-m", "true"], capture_output=True, check=False).returncode == 0


@pytest.mark.server
@pytest.mark.slow
@pytest.mark.skipif(not may_mount(), reason="no mount namespace may be made here")
@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_images_command_serves_where_only_its_volumes_can_be_written(packaged: Packaged, tmp_path: Path):
    recipe = DockerfileParser(fileobj=BytesIO(render_dockerfile(gpu=False).encode()))
    lines = {line["instruction"]: line["value"] for line in recipe.structure}
    port = free_port()
    words = [*json.loads(lines["ENTRYPOINT"]), *json.loads(lines["CMD"])]
    places = {"python": sys.executable, "/opt/bento": f"{SCRATCH}/bento", str(PORT): str(port)}
    words = [places.get(word, word) for word in words]
    assert STATE == "/var/lib/percept"  # as the script has it
    variables = {name: value for name, value in recipe.envs.items() if name != "PATH"}
    root = tmp_path / "root"
    root.mkdir()
    inside = ["unshare", "-m", "--propagation", "private", "sh", "-c", SCRIPT, "sh"]
    done = subprocess.run(
        [*inside, root, packaged.output, sys.prefix, str(port), *words],
        env=variables | {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "PERCEPT_ADMIN_KEY": "admin"},
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
    )
    said = [line for line in done.stdout.splitlines() if line.startswith(("the ", "written ", "made ", "ended "))]
    assert said == ["written 201", f"made {STATE}/knowledge.sqlite", "ended 0"], done.stdout + done.stderr
