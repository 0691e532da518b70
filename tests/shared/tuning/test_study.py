"""A search: trials are tried, ended, failed and counted as they should be, and none is lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import optuna
import pytest
import yaml
from click.testing import CliRunner
from optuna.trial import TrialState

from nlp.intent import TASK
from scripts.main import main
from shared.errors import ConfigError, TrainingCutOff
from shared.training.cli import fit_main
from shared.tuning import study as searching
from shared.tuning.cross import best_epoch
from shared.tuning.ground import Ground, ground_of
from shared.tuning.report import study_page
from shared.tuning.storage import open_study, trial_of
from shared.tuning.study import BEST, Search, Searching, best_of
from shared.tuning.summary import lines_of, summarised
from shared.tuning.trial import RESULT, TRIAL, WRONG_DATA, WRONG_SETTINGS, Order, Reporting, Result, run_trial

RECIPE = {"model": {"lr": 0.5, "kind": "b"}, "trainer": {"max_epochs": 4}}
GROUND = Ground(RECIPE, ["f00d"])
SPACE = {"model.lr": searching.Range(low=0.0, high=1.0), "model.kind": ["a", "b"]}


def pretend(monkeypatch: pytest.MonkeyPatch, quality=lambda params, epoch: params["model.lr"] + epoch / 100):
    """Take the place of training: four epochs of a quality that is known, reported as a trial does."""

    def run(self: Searching, folder: Path, lock, deadline: float, jobs: int) -> int | None:
        order = Order(**json.loads((folder / TRIAL).read_text()))
        params = dict(each.removeprefix("--").split("=") for each in order.args if each.startswith("--model."))
        params["model.lr"] = float(params["model.lr"])
        study = open_study(self.storage, order.study, pruner=order.pruner, most_epochs=4)
        trial = trial_of(study, self.storage, order.number)
        curve, is_pruned = [], False
        for epoch in range(1, 5):
            value = quality(params, epoch)
            if value is None:
                (folder / "log.txt").write_text("a warning\nthe disk is full\n")
                return WRONG_DATA
            curve.append(value)
            trial.report(value, epoch)
            if trial.should_prune():
                is_pruned = True
                break
        made = Result(
            max(curve), [max(curve)], [curve], len(curve), is_pruned, {"model": {"lr": params["model.lr"]}}, 60.0
        )
        (folder / RESULT).write_text(json.dumps(asdict(made)))
        return 0

    monkeypatch.setattr(Searching, "in_process", run)


def search(**options) -> Search:
    return Search(TASK, ["--data.source=x.csv"], SPACE, **options)


def test_the_recipe_comes_first_and_the_best_trial_is_written_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pretend(monkeypatch)
    found = Searching(search(pruner="none"), GROUND, tmp_path / "study")
    found.run(trials=12, minutes=None)
    told = summarised(found)
    assert [each["number"] for each in told["trials"] if each["is_recipe"]] == [0]
    assert told["trials"][0]["params"] == {"model.lr": 0.5, "model.kind": "b"}
    best = max(told["trials"], key=lambda each: each["value"])
    assert told["best"] == best["number"]
    assert yaml.safe_load((tmp_path / "study" / BEST).read_text())["model"]["lr"] == pytest.approx(
        best["params"]["model.lr"]
    )
    assert told["counts"]["finished"] == 12
    assert told["epochs"] == 48
    assert told["minutes"] == pytest.approx(12)
    assert next(iter(told["importance"])) == "model.lr", "the other setting changes nothing"
    assert "Best: trial" in "\n".join(lines_of(told))
    assert json.loads(json.dumps(told)) == told
    assert "<script" in study_page(told)


def test_trials_without_prospect_are_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pretend(monkeypatch)
    found = Searching(search(sampler="random", pruner="median"), GROUND, tmp_path / "study")
    found.run(trials=20, minutes=None)
    told = summarised(found)
    assert told["counts"]["ended early"] >= 4
    ended = [each for each in told["trials"] if each["state"] == "ended early"]
    assert all(each["epochs"] < 4 and each["value"] is not None for each in ended)
    assert told["epochs"] < 80


def test_a_grid_tries_each_combination_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pretend(monkeypatch)
    found = Searching(search(sampler="grid", pruner="none"), GROUND, tmp_path / "study")
    assert found.combinations() == 10
    found.run(trials=None, minutes=None)
    tried = [tuple(each["params"].values()) for each in summarised(found)["trials"]]
    assert sorted(tried) == [(lr, kind) for lr in (0.0, 0.25, 0.5, 0.75, 1.0) for kind in "ab"]


def test_what_was_cut_off_before_its_first_file_is_neither_lost_nor_counted_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    pretend(monkeypatch)
    cut = Searching(search(sampler="grid", pruner="none"), GROUND, tmp_path / "study")
    cut.study.ask()  # a kill between asking and making the trial's folder
    found = Searching(search(sampler="grid", pruner="none"), GROUND, tmp_path / "study")
    found.run(trials=None, minutes=None)
    tried = [tuple(each["params"].values()) for each in summarised(found)["trials"]]
    assert len(tried) == len(set(tried)) == 10
    assert summarised(found)["counts"]["finished"] == 10


def test_a_grid_that_was_cut_off_while_it_was_written_down_is_whole_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    pretend(monkeypatch)
    enqueue, calls = optuna.Study.enqueue_trial, []

    def killed(self: optuna.Study, *args: object, **kwargs: object) -> None:
        if len(calls) == 4:
            raise KeyboardInterrupt
        calls.append(args)
        enqueue(self, *args, **kwargs)  # type: ignore[arg-type]

    with monkeypatch.context() as cut:
        cut.setattr(optuna.Study, "enqueue_trial", killed)
        with pytest.raises(KeyboardInterrupt):
            Searching(search(sampler="grid", pruner="none"), GROUND, tmp_path / "study")
    found = Searching(search(sampler="grid", pruner="none"), GROUND, tmp_path / "study")
    found.run(trials=None, minutes=None)
    assert len({tuple(each["params"].values()) for each in summarised(found)["trials"]}) == 10


def test_jobs_share_the_trials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pretend(monkeypatch)
    found = Searching(search(), GROUND, tmp_path / "study")
    found.run(trials=9, minutes=None, jobs=3)
    assert len(summarised(found)["trials"]) == 9


def test_a_failed_trial_is_told_and_the_search_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pretend(monkeypatch, lambda params, _: None if params["model.lr"] == 0.25 else params["model.lr"])
    found = Searching(search(sampler="grid", pruner="none"), GROUND, tmp_path / "study")
    found.run(trials=None, minutes=None)
    told = summarised(found)
    assert told["counts"] == {"finished": 8, "ended early": 0, "failed": 2, "running": 0, "waiting": 0}
    assert {each["error"] for each in told["trials"] if each["state"] == "failed"} == {"the disk is full"}


def test_a_search_ends_when_one_trial_after_the_other_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pretend(monkeypatch, lambda *_: None)
    found = Searching(search(), GROUND, tmp_path / "study")
    with pytest.raises(TrainingCutOff, match="3 trials failed one after the other, the last because: the disk is full"):
        found.run(trials=10, minutes=None)
    assert best_of(found.study) is None
    assert "No trial is finished. The last that failed: the disk is full" in lines_of(summarised(found))


def test_settings_that_are_wrong_for_all_trials_end_the_search_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(self: Searching, folder: Path, *_: object) -> int:
        (folder / "log.txt").write_text("model.lr must be above 0\n")
        return WRONG_SETTINGS

    monkeypatch.setattr(Searching, "in_process", refuse)
    found = Searching(search(), GROUND, tmp_path / "study")
    with pytest.raises(ConfigError, match=r"model\.lr must be above 0"):
        found.run(trials=10, minutes=None)
    assert len(summarised(found)["trials"]) == 1


def test_a_study_goes_on_where_it_was_and_another_search_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pretend(monkeypatch)
    for trials in (3, 5):
        Searching(search(), GROUND, tmp_path / "study").run(trials=trials, minutes=None)
    found = Searching(search(), GROUND, tmp_path / "study")
    found.run(trials=6, minutes=None)
    found.run(trials=7, minutes=None)
    assert [each["number"] for each in summarised(found)["trials"]] == [0, 1, 2, 3, 4, 5, 6]
    with pytest.raises(ConfigError, match=r'another search .*sampler: "tpe" then, "random" now'):
        Searching(search(sampler="random"), GROUND, tmp_path / "study")
    with pytest.raises(ConfigError, match=r"another search .*data"):
        Searching(search(), Ground(RECIPE, ["other"]), tmp_path / "study")


def test_a_folder_with_something_else_is_refused(tmp_path: Path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match="not empty and holds no study"):
        Searching(search(), GROUND, tmp_path)


@pytest.mark.parametrize("content", ["{", "[]", "3"])
def test_a_damaged_study_is_named(tmp_path: Path, content: str):
    Searching(search(), GROUND, tmp_path / "study")
    (tmp_path / "study" / "study.json").write_text(content if content != "[]" else '["a"]')
    with pytest.raises(ConfigError, match=r"study\.json is damaged"):
        Searching(search(), GROUND, tmp_path / "study")


@pytest.mark.parametrize("line", ['{"garbage": 1}\n', '{"op_code": 4, "study_id": 7}\n'])
def test_a_damaged_journal_is_named(tmp_path: Path, line: str):
    Searching(search(), GROUND, tmp_path / "study")
    with (tmp_path / "study" / "journal.log").open("a") as journal:
        journal.write(line)
    with pytest.raises(ConfigError, match=r"journal\.log is damaged"):
        Searching(search(), GROUND, tmp_path / "study")


def test_a_password_in_a_databases_url_is_never_shown():
    url = "postgresql+psycopg://ada@127.0.0.1:1/x?password=SECRET"
    with pytest.raises(ConfigError, match="cannot keep the study") as refused:
        open_study(url, "any", pruner="none")
    assert "SECRET" not in str(refused.value)


@pytest.mark.parametrize("minutes", ["nan", "0", "inf"])
def test_minutes_that_are_none_are_refused(minutes: str, args: list[str]):
    assert CliRunner().invoke(main, ["tune", "intent", *args, "--minutes", minutes]).exit_code == 2


def test_a_setting_that_the_recipe_does_not_have_is_refused(tmp_path: Path):
    wrong = Search(TASK, [], {"model.lrr": [1, 2]})
    with pytest.raises(
        ConfigError, match=r"model\.lrr, which is no setting of the recipe: beside 'lrr' there is lr, kind"
    ):
        Searching(wrong, GROUND, tmp_path / "study")


def test_a_study_may_be_kept_in_a_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pretend(monkeypatch)
    storage = f"sqlite:///{tmp_path / 'studies.sqlite'}"
    for trials in (2, 4):
        found = Searching(search(), GROUND, tmp_path / "study", storage)
        found.run(trials=trials, minutes=None)
    assert len(summarised(found)["trials"]) == 4
    assert not [file for file in (tmp_path / "study").rglob("*.json") if "sqlite:///" in file.read_text()]
    with pytest.raises(ConfigError, match=r"the database nosuch://user:.*@somewhere/studies cannot keep the study"):
        Searching(search(), GROUND, tmp_path / "other", "nosuch://user:secret@somewhere/studies")


# With real training


def order_of(args: list[str], **options) -> Order:
    filled = {"task": asdict(TASK), "args": args, "study": "", "pruner": "none", "most_epochs": 4,
              "number": -1} | options  # fmt: skip
    return Order(**filled)


def test_a_trial_is_what_fit_makes_of_its_recipe(tmp_path: Path, args: list[str]):
    found = run_trial(tmp_path / "trial", order_of([*args, "--model.dropout=0.2"]))
    assert found.value == max(found.curves[0])
    assert found.epochs == 4
    assert found.recipe["model"]["dropout"] == 0.2
    assert "run_dir" not in found.recipe
    (tmp_path / "best.yaml").write_text(yaml.safe_dump(found.recipe))
    fit_main(TASK, ["-c", str(tmp_path / "best.yaml"), f"--run_dir={tmp_path / 'again'}"])
    assert best_epoch(tmp_path / "again")["quality"] == pytest.approx(found.value, abs=1e-9)


def test_with_folds_the_mean_counts_and_is_what_cross_validation_measures(tmp_path: Path, args: list[str]):
    found = run_trial(tmp_path / "trial", order_of(args, folds=3))
    assert len(found.by_fold) == 3
    assert found.value == pytest.approx(sum(found.by_fold) / 3)
    result = CliRunner().invoke(main, ["fit", "intent", *args, "--run_dir", str(tmp_path / "run"), "--folds", "3",
                                       "--pack", "none"])  # fmt: skip
    assert result.exit_code == 0, result.output
    told = json.loads((tmp_path / "run" / "folds.json").read_text())
    assert [each["quality"] for each in told["folds"]] == pytest.approx(found.by_fold)
    assert told["mean"]["quality"] == pytest.approx(found.value)
    assert not (tmp_path / "run" / "bundle").exists()


def test_the_best_fold_is_packed_if_that_is_asked_for(tmp_path: Path, args: list[str]):
    result = CliRunner().invoke(main, ["fit", "intent", *args, "--run_dir", str(tmp_path / "run"), "--folds", "2",
                                       "--pack", "best"])  # fmt: skip
    assert result.exit_code == 0, result.output
    told = json.loads((tmp_path / "run" / "folds.json").read_text())
    card = (tmp_path / "run" / "bundle" / "README.md").read_text()
    assert f"Cross-validated over 2 folds: quality {told['mean']['quality']:.4f}" in card
    assert "mean   spread" in result.output


def test_pack_without_folds_is_refused(args: list[str]):
    result = CliRunner().invoke(main, ["fit", "intent", *args, "--pack", "best"])
    assert result.exit_code == 2
    assert "add --folds 5" in result.output


def test_a_run_is_not_ended_before_all_of_it_learns():
    class Module:
        comparable_after = 3

    class Trial:
        def report(self, value: float, step: int) -> None: ...

        def should_prune(self) -> bool:
            return True

    def trainer_that(broadcast: Callable[[bool], bool]) -> SimpleNamespace:
        strategy = SimpleNamespace(broadcast=broadcast)
        return SimpleNamespace(
            sanity_checking=False, callback_metrics={"val/quality": 0.5}, strategy=strategy, should_stop=False
        )

    reporting, trainer = Reporting(Trial(), can_prune=True), trainer_that(bool)  # type: ignore[arg-type]
    for epoch in range(3):
        assert not trainer.should_stop, f"at epoch {epoch} not everything has learned"
        reporting.on_validation_end(trainer, Module())  # type: ignore[arg-type]
    assert trainer.should_stop
    assert reporting.is_pruned
    other = Reporting(None, can_prune=True)
    trainer = trainer_that(lambda _: True)  # what the first process decided
    other.on_validation_end(trainer, Module())  # type: ignore[arg-type]
    assert trainer.should_stop


def test_two_processes_share_a_study_and_what_a_killed_one_leaves_is_taken_up(tmp_path: Path, args: list[str]):
    (tmp_path / "space.yaml").write_text("model.head_lr: {low: 0.001, high: 0.02, log: true}\n")
    folder = tmp_path / "study"
    command = [sys.executable, "-m", "scripts.main", "tune", "intent", *args, "--trainer.max_epochs=8",
               "--early_stopping.patience=8", "--search", str(tmp_path / "space.yaml"), "--pruner", "none",
               "--trials", "3", "-o", str(folder)]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with (tmp_path / "one.log").open("wb") as one, (tmp_path / "two.log").open("wb") as two:
        killed = subprocess.Popen(command, stdout=one, stderr=one, env=environment)
        _wait_for(folder / "trials" / "0000" / "run" / "checkpoints" / "last.ckpt", killed)
        survivor = subprocess.Popen(command, stdout=two, stderr=two, env=environment)
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        assert survivor.wait(timeout=240) == 0, (tmp_path / "two.log").read_text()[-2000:]
    study = open_study(str(folder / "journal.log"), "percept-intent-study", pruner="none")
    assert [each.state for each in study.trials] == [TrialState.COMPLETE] * 3
    assert [len(each.user_attrs["curves"][0]) for each in study.trials] == [8, 8, 8]
    assert (folder / "index.html").is_file()
    assert not list(folder.glob("trials/*/*/checkpoints"))


def _wait_for(path: Path, process: subprocess.Popen[bytes]) -> None:
    for _ in range(1200):
        if path.exists():
            return
        assert process.poll() is None, "it ended before"
        time.sleep(0.1)
    pytest.fail(f"{path} never came")


def test_what_a_search_starts_from_is_read_once_and_refused_at_once(args: list[str], tmp_path: Path):
    ground = ground_of(TASK, args)
    assert ground.most_epochs == 4
    assert len(ground.data) == 1
    result = CliRunner().invoke(main, ["tune", "intent", "--data.source", str(tmp_path / "nothing.csv")])
    assert result.exit_code == 2
    assert "nothing.csv" in result.output


def test_a_setting_that_nobody_set_may_be_searched(args: list[str], tmp_path: Path):
    ground = ground_of(TASK, args)
    assert ground.recipe["model"]["teacher"] is None
    Searching(Search(TASK, args, {"model.teacher": ["one", "other"]}), ground, tmp_path / "study")


def test_a_task_without_a_space_asks_for_one():
    result = CliRunner().invoke(main, ["tune", "answer-writer", "--data.source", "x"])
    assert "no search space comes with Percept for answer-writer" in result.output
