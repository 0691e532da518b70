"""`percept package` from end to end on tiny bundles: built, served far from the checkout, asked; what it refuses."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import yaml
from click.testing import CliRunner

from scripts.main import main
from scripts.tasks import TASKS
from shared.bundle.layout import WEIGHTS
from shared.bundle.read import Bundle, read_bundle
from shared.errors import PerceptError
from shared.packaging.bento import SBOM, SERVICES, Bento, Plan, lay_out, make_plan, write_sbom
from shared.packaging.dockerfile import DOCKERFILE, render_dockerfile
from shared.packaging.package import installed_bytes
from shared.packaging.trial import try_bento
from tests.bundles import make_tagger_bundle
from tests.language_bundles import make_intent_bundle
from tests.server import environment
from tests.shared.packaging.conftest import VERSION, Packaged

ROOT = Path(__file__).resolve().parents[3]
MAX_INSTALL_BYTES = 400_000_000


@pytest.mark.server
@pytest.mark.slow
def test_a_bento_is_built_served_asked_and_weighed(packaged: Packaged, intent_bundle: Bundle):
    lines = packaged.printed.splitlines()
    assert [line.split()[0] for line in lines] == [
        *["model"] * 2,
        "bento",
        "install",
        *["check"] * 4,
        "copy",
        "next",
        "or",
    ]
    asked = [line.split()[1] for line in lines if line.startswith("check")]
    assert asked == ["/v2/models/tiny-intent/infer", "/v1/intent", "/v2/models/tiny-qa/infer", "/v1/answer"]
    assert "'book a flight': book_flight" in packaged.printed
    assert (
        f"docker build -t percept-nlp:{VERSION} -f {packaged.output / DOCKERFILE} {packaged.output}" in packaged.printed
    )
    assert f"bentoml serve percept_nlp:{VERSION}" in lines[-1]
    labels = yaml.safe_load((packaged.stored / "bento.yaml").read_text())["labels"]
    assert labels["intent"] == f"{intent_bundle.name}:{intent_bundle.version}"
    assert labels["device"] == "cpu"


@pytest.mark.server
@pytest.mark.slow
def test_what_it_holds_serves_and_nothing_else(packaged: Packaged):
    source = packaged.stored / "src"
    assert sorted(path.name for path in (source / "models").iterdir()) == ["intent", "qa"]
    assert read_bundle(source / "models" / "intent").name == "tiny-intent"
    for absent in ("scripts", "vision", "tests", "shared/training", "shared/packaging"):
        assert not (source / absent).exists(), absent
    assert (source / "constraints.txt").read_text() == (ROOT / "constraints.txt").read_text()
    assert (packaged.stored / DOCKERFILE).read_text() == render_dockerfile(gpu=False)
    assert (packaged.output / DOCKERFILE).read_text() == render_dockerfile(gpu=False)
    assert_lists_the_lock_file(packaged.stored / SBOM)
    assert_lists_the_lock_file(packaged.output / SBOM)
    required = (packaged.stored / "env" / "python" / "requirements.txt").read_text()
    assert "onnxruntime" in required
    assert "torch" not in required


def assert_lists_the_lock_file(path: Path) -> set[str]:
    """Check that an SBOM has each package of the lock file in its version, with its hashes; return the other ones."""
    document = json.loads(path.read_text())
    assert document["bomFormat"] == "CycloneDX"
    parts = {part["name"]: part for part in document["components"]}
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    pinned = dict(line.partition(" ")[0].split("==") for line in lines if "==" in line)
    for name, version in pinned.items():
        assert parts[name]["version"] == version
        assert parts[name]["externalReferences"][0]["hashes"][0]["alg"] == "SHA-256"
    return set(parts) - set(pinned)


def test_the_sbom_of_a_gpu_s_bento_names_torch(tmp_path: Path, intent_bundle: Bundle):
    write_sbom(Plan(SERVICES["nlp"], {"intent": intent_bundle}, gpu=True), tmp_path / SBOM)
    assert {"torch", "torchvision", "transformers"} <= assert_lists_the_lock_file(tmp_path / SBOM)


@pytest.mark.server
@pytest.mark.slow
def test_models_lie_in_the_store_under_version_and_alias(packaged: Packaged, intent_bundle: Bundle):
    for version, kind in ((intent_bundle.version, "version"), ("production", "alias")):
        folder = packaged.model("tiny-intent", version)
        assert read_bundle(folder).version == intent_bundle.version
        labels = yaml.safe_load((folder / "model.yaml").read_text())["labels"]
        assert (labels["task"], labels["kind"], labels["version"]) == ("intent", kind, intent_bundle.version)


@pytest.mark.server
@pytest.mark.slow
def test_an_alias_moves_and_a_version_does_not(packaged: Packaged, tmp_path: Path, qa_bundle: Bundle):
    newer = make_intent_bundle(tmp_path / "newer", version="2027.01.01-00000000")
    other = make_intent_bundle(tmp_path / "other", prefix="my_", version=newer.version)
    code = (
        "import sys\nfrom pathlib import Path\nfrom shared.packaging.store import find_bundle, keep\n"
        "from shared.errors import ConfigError\n"
        "newer, other = sys.argv[1:]\n"
        "print(keep(find_bundle(newer), ('production',)))\n"
        "print(find_bundle('tiny-intent:production').version)\n"
        "for folder, alias in ((other, 'production'), (newer, '2027.01.01-00000000'), (newer, 'latest')):\n"
        "    try: keep(find_bundle(folder), (alias,))\n"
        "    except ConfigError as error: print(error)\n"
        "try: find_bundle('nothing:here')\n"
        "except ConfigError as error: print(error)\n"
    )
    home = tmp_path / "home"
    shutil.copytree(packaged.home, home)
    done = subprocess.run(
        [sys.executable, "-c", code, str(newer.path), str(other.path)],
        cwd=ROOT, env=environment(BENTOML_HOME=str(home)), capture_output=True, text=True, check=False,
    )  # fmt: skip
    tag, version, conflict, no_alias, latest, unknown = done.stdout.splitlines()
    assert (tag, version) == (f"tiny-intent:{newer.version}", newer.version)
    assert "has tiny-intent:2027.01.01-00000000 already, and it is another bundle" in conflict
    assert "is a version in the model store, not an alias" in no_alias
    assert "choose another alias" in latest
    assert "nothing:here is neither a folder nor a tag of the model store" in unknown
    assert "tiny-qa:production" in unknown


@pytest.mark.server
@pytest.mark.slow
def test_a_bento_that_answers_otherwise_is_refused(packaged: Packaged, tmp_path: Path):
    other = make_intent_bundle(tmp_path / "other", prefix="my_")
    plan = make_plan(SERVICES["nlp"], [other], gpu=False)
    with pytest.raises(PerceptError, match=r"/v1/intent answers .*'book_flight'.*; in process .*'my_book_flight'"):
        try_bento(Bento("percept_nlp:copy", packaged.output), plan, TASKS)
    commands = [" ".join(each.info["cmdline"] or ()) for each in psutil.process_iter(["cmdline"])]
    assert [command for command in commands if str(packaged.output) in command] == []


@pytest.mark.server
@pytest.mark.slow
def test_the_code_that_answers_is_the_bentos_and_its_last_words_are_shown(
    packaged: Packaged, intent_bundle: Bundle, tmp_path: Path
):
    broken = tmp_path / "broken"
    shutil.copytree(packaged.output, broken)
    (broken / "src" / "nlp" / "service.py").write_text("raise SystemExit('these are my last words')\n")
    plan = make_plan(SERVICES["nlp"], [intent_bundle], gpu=False)
    with pytest.raises(PerceptError, match=r"(?s)the bento ended with 1: .*these are my last words"):
        try_bento(Bento("percept_nlp:broken", broken), plan, TASKS)


def test_cpu_bundles_go_without_weights_and_gpu_bentos_ask_for_torch(tmp_path: Path, tagger_bundle: Bundle):
    from safetensors.numpy import save_file

    from shared.bundle.layout import ONNX
    from shared.bundle.write import write_bundle

    save_file({"weight": tagger_bundle.golden.inputs["pixel_values"]}, tmp_path / WEIGHTS)
    bundle = write_bundle(
        tmp_path / "tagger", tagger_bundle.config, preprocessor=tagger_bundle.preprocessor, golden=tagger_bundle.golden,
        files={WEIGHTS: tmp_path / WEIGHTS, ONNX: tagger_bundle.path / ONNX},
    )  # fmt: skip
    for gpu in (False, True):
        plan = make_plan(SERVICES["vision"], [bundle], gpu=gpu)
        folder = tmp_path / f"gpu-{gpu}"
        folder.mkdir()
        lay_out(plan, folder)
        packed = read_bundle(folder / "models" / "tagger")
        options = yaml.safe_load((folder / "bentofile.yaml").read_text())
        assert ((packed.path / WEIGHTS).is_file(), WEIGHTS in packed.config.files) == (gpu, gpu)
        assert any(line.startswith("torch>") for line in options["python"]["packages"]) == gpu
        assert options["name"] == ("percept_vision_gpu" if gpu else "percept_vision")
        assert (folder / "vision" / "service.py").is_file()
        assert not (folder / "nlp").exists()


@pytest.mark.parametrize("name", SERVICES)
def test_what_a_cpu_bento_installs_is_under_400_mb(name: str, request: pytest.FixtureRequest):
    fixture = {"vision": "tagger_bundle", "nlp": "intent_bundle", "all": "qa_bundle"}[name]
    plan = make_plan(SERVICES[name], [request.getfixturevalue(fixture)], gpu=False)
    installed = installed_bytes(plan.build_options["python"]["packages"])
    assert installed.missing == []
    assert 50_000_000 < installed.bytes < MAX_INSTALL_BYTES
    assert installed.distributions > 40


def test_sizes_follow_extras_and_name_what_is_not_there():
    bare, extra = installed_bytes(["httpx"]), installed_bytes(["httpx[cli]", "no-such-thing>=1"])
    assert bare.missing == []
    assert extra.missing == ["no-such-thing"]
    assert extra.distributions > bare.distributions  # click, pygments, rich
    assert installed_bytes(["httpx; python_version < '3'"]).distributions == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["vision", "--bundle", "intent"], "is a bundle for the task 'intent'; the service vision takes tagging"),
        (["all", "--bundle", "tagger", "--bundle", "tagger"], "two bundles are for the task 'tagging'"),
        (["vision", "--bundle", "tagger", "--gpu"], f"has no {WEIGHTS}, which a GPU computes from"),
        (["vision", "--bundle", "tagger", "--output", "tagger"], "exists already. Name a new folder"),
    ],
)
def test_what_cannot_be_packaged_is_said_in_one_line(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    make_tagger_bundle(tmp_path / "tagger")
    make_intent_bundle(tmp_path / "intent")
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, ["package", *words])
    assert result.exit_code == 2, result.output
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
