"""A registry keeps versions, says what is live and why, and survives kills and two at once."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from threading import Barrier

import pytest
from click.testing import CliRunner

from scripts.main import main
from shared.bundle.read import Bundle, read_bundle
from shared.errors import BundleError, ConfigError
from shared.improving.registry import Registry
from shared.project import PROJECT_ROOT
from tests.bundles import make_tagger_bundle


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> list[Bundle]:
    """Three versions of one model."""
    folder = tmp_path_factory.mktemp("bundles")
    return [make_tagger_bundle(folder / f"v{i}", version=f"v{i}") for i in range(1, 4)]


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "registry")


def promote_all(registry: Registry, bundles: list[Bundle]) -> None:
    for over, bundle in pairwise(bundles):
        registry.promote(bundle, over, by="ada", verdict="passes", reason="better", figures={"examples": 3000})


def test_the_first_promotion_takes_up_the_live_bundle_too(registry: Registry, bundles: list[Bundle]):
    promote_all(registry, bundles[:2])
    assert [(each.name, each.is_live) for each in registry.versions()] == [("v1", False), ("v2", True)]
    assert (registry.folder / "live").resolve() == registry.path_of("v2").resolve()
    assert read_bundle(registry.folder / "live").version == "v2"
    first, second = registry.history()
    assert (first.what, first.before, first.to) == ("taken up", None, "v1")
    assert (second.what, second.before, second.to, second.by) == ("promoted", "v1", "v2", "ada")
    assert (second.verdict, second.reason, second.figures) == ("passes", "better", {"examples": 3000})
    assert json.loads((registry.folder / "history.jsonl").read_text().splitlines()[1])["from"] == "v1"


def test_rolling_back_goes_one_further_back_each_time(registry: Registry, bundles: list[Bundle]):
    promote_all(registry, bundles)
    assert registry.roll_back(reason="worse").to == "v2"
    assert registry.roll_back().to == "v1"
    with pytest.raises(ConfigError, match="v1 is the first version"):
        registry.roll_back()
    registry.promote(bundles[2], bundles[0])
    assert registry.roll_back(only_from="v3").to == "v1"
    assert [each.what for each in registry.history()].count("rolled back") == 3


def test_a_rollback_leaves_what_somebody_else_promoted(registry: Registry, bundles: list[Bundle]):
    promote_all(registry, bundles)
    with pytest.raises(ConfigError, match=r"v3 is live in .* by now, and not v2"):
        registry.roll_back(only_from="v2")
    assert registry.live() == "v3"


def test_a_candidate_that_was_compared_with_something_else_is_refused(registry: Registry, bundles: list[Bundle]):
    promote_all(registry, bundles[:2])
    with pytest.raises(ConfigError, match=r"v2 is live in .*, and that is not .*v1"):
        registry.promote(bundles[2], bundles[0])
    with pytest.raises(ConfigError, match="are the same bundle"):
        registry.promote(bundles[1], registry.read_live())
    assert len(registry.history()) == 2


def test_a_registry_holds_one_model(tmp_path: Path, registry: Registry, bundles: list[Bundle]):
    promote_all(registry, bundles[:2])
    other = make_tagger_bundle(tmp_path / "other", name="another")
    with pytest.raises(ConfigError, match="fit it with --name tiny-tagger"):
        registry.promote(other, registry.read_live())


def test_two_bundles_of_one_version_are_two_versions(tmp_path: Path, registry: Registry, bundles: list[Bundle]):
    twin = make_tagger_bundle(tmp_path / "twin", ("dog", "cat", "car"), version="v1")
    change = registry.promote(twin, bundles[0])
    assert change.before == "v1"
    assert change.to.startswith("v1-")
    assert read_bundle(registry.folder / "live").labels[0] == "dog"


def test_a_version_that_was_changed_is_neither_compared_with_nor_gone_back_to(
    registry: Registry, bundles: list[Bundle]
):
    promote_all(registry, bundles[:2])
    (registry.path_of("v1") / "model.onnx").write_bytes(b"broken")
    with pytest.raises(BundleError, match=r"model\.onnx"):
        registry.roll_back()
    assert registry.live() == "v2"
    config = registry.path_of("v2") / "config.json"
    config.write_text(config.read_text().replace("red, green and blue", "all kinds of"))
    with pytest.raises(BundleError, match="is not the bundle that was promoted as v2"):
        registry.read_live()


def test_a_broken_copy_is_replaced_when_its_bundle_comes_again(registry: Registry, bundles: list[Bundle]):
    promote_all(registry, bundles[:2])
    registry.roll_back()
    (registry.path_of("v2") / "model.onnx").write_bytes(b"broken")
    registry.promote(bundles[1], bundles[0])
    assert read_bundle(registry.folder / "live").version == "v2"


def test_a_link_that_was_changed_by_hand_is_written_down(registry: Registry, bundles: list[Bundle]):
    promote_all(registry, bundles[:2])
    (registry.folder / "live").unlink()
    (registry.folder / "live").symlink_to("versions/v1")
    registry.promote(bundles[2], bundles[0])
    assert [(each.what, each.before, each.to) for each in registry.history()[2:]] == [
        ("changed by hand", "v2", "v1"),
        ("promoted", "v1", "v3"),
    ]


def test_of_two_at_once_one_wins_and_the_other_is_told(registry: Registry, bundles: list[Bundle]):
    start = Barrier(2)

    def promote(bundle: Bundle) -> str:
        start.wait()
        try:
            return Registry(registry.folder).promote(bundle, bundles[0]).to
        except ConfigError as error:
            return str(error)

    with ThreadPoolExecutor(2) as pool:
        told = list(pool.map(promote, bundles[1:]))
    live = registry.live()
    assert live in told
    assert sum("somebody has promoted another version meanwhile" in each for each in told) == 1
    assert [each.what for each in registry.history()] == ["taken up", "promoted"]


@pytest.mark.parametrize("content", ["", '{"x":'])
def test_a_damaged_change_under_way_is_named(registry: Registry, bundles: list[Bundle], content: str):
    promote_all(registry, bundles[:2])
    (registry.folder / "pending.json").write_text(content)
    with pytest.raises(ConfigError, match=r"pending\.json, the change that was under way, is damaged"):
        registry.finish()


def test_a_full_disk_changes_nothing(registry: Registry, bundles: list[Bundle], monkeypatch: pytest.MonkeyPatch):
    promote_all(registry, bundles[:2])

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(ConfigError, match=r"cannot be copied .*No space left on device"):
        registry.promote(bundles[2], bundles[1])
    assert registry.live() == "v2"
    assert [each.name for each in registry.versions()] == ["v1", "v2"]


def test_the_list_names_a_live_version_that_is_gone_and_reasons_stay_in_their_line(
    registry: Registry, bundles: list[Bundle]
):
    promote_all(registry, bundles[:2])
    registry.roll_back(reason="worse\n2026-01-01  eve  promoted: v9\x1b[31m")
    shutil.rmtree(registry.path_of("v1"))
    result = CliRunner().invoke(main, ["registry", str(registry.folder)])
    assert "the version that is live, v1, is gone" in result.output
    assert "    worse 2026-01-01  eve  promoted: v9 [31m\n" in result.output


def test_a_rollback_in_a_folder_that_is_not_there_makes_none(tmp_path: Path):
    result = CliRunner().invoke(main, ["registry", "rollback", str(tmp_path / "nothing")])
    assert result.exit_code == 2
    assert "there is no such folder" in result.output
    assert not (tmp_path / "nothing").exists()


def test_a_history_that_is_none_is_named_by_its_line(registry: Registry, bundles: list[Bundle]):
    promote_all(registry, bundles[:2])
    with (registry.folder / "history.jsonl").open("a") as file:
        file.write('{"serial": 3}\n')
    with pytest.raises(ConfigError, match=r"line 3 of .*history.jsonl is not one of a registry's history"):
        registry.history()


_KILLED = """
import json, os, sys
from pathlib import Path
from shared.bundle.read import read_bundle
from shared.improving.registry import Registry

place, first, second = map(Path, sys.argv[1:])
CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.symlink", "os.mkdir", "os.truncate"}
told, step = [], 0
while True:
    step += 1
    registry = Registry(place / str(step))
    if (child := os.fork()) == 0:
        left = step

        def watch(event, args):
            global left
            writes = event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR)
            if event in CHANGES or writes:
                left -= 1
                if left == 0:
                    os._exit(9)

        sys.addaudithook(watch)
        registry.promote(read_bundle(second), read_bundle(first))
        os._exit(0)
    _, status = os.waitpid(child, 0)
    registry.finish()
    live = registry.live()
    before = [] if live is None else [registry.read_live().version]
    if live != "v2":
        registry.promote(read_bundle(second), read_bundle(first))
    left = sorted(path.name for path in registry.folder.rglob("*") if ".partial" in path.name or "pending" in path.name)
    told.append([step, before, registry.live(), [change.what for change in registry.history()], left])
    if os.waitstatus_to_exitcode(status) == 0:
        break
print(json.dumps(told))
"""


def test_a_kill_at_any_write_leaves_one_live_version_and_a_history_that_says_so(tmp_path: Path, bundles: list[Bundle]):
    command = [sys.executable, "-W", "ignore", "-c", _KILLED, str(tmp_path), *(str(each.path) for each in bundles[:2])]
    done = subprocess.run(command, cwd=PROJECT_ROOT, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert len(told) > 20, "there are fewer writes than a promotion needs"
    for step, before, live, history, left in told:
        assert before in ([], ["v1"], ["v2"]), step
        assert live == "v2", step
        assert history == ["taken up", "promoted"], step
        assert left == [], step
    assert [["v1"] in row and row[2] == "v2" for row in told].count(True) > 5
