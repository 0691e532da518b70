"""The search for good settings: a study asks for trials, each is trained in a process of its own, none is lost.

Any number of processes may work on one study. What they share is its storage and its folder: `study.json` says what is
searched, `trials/` has a folder for each trial, with a lock that its process holds. A trial that is not finished and
whose lock is free was cut off: the next process takes it up where it was, with the same settings.
"""

from __future__ import annotations

import fcntl
import json
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import product
from math import prod
from pathlib import Path
from typing import IO, Any

import optuna
import yaml
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState
from tqdm import tqdm

from shared.errors import ConfigError, TrainingCutOff
from shared.staging import write_whole
from shared.task import Task
from shared.tuning.ground import Ground
from shared.tuning.space import Range, Space, draw, grid, within
from shared.tuning.storage import default_storage, is_database, open_study, trial_of
from shared.tuning.trial import RESULT, STORAGE, TRIAL, WRONG_SETTINGS, Order, Result

SAMPLERS = ("tpe", "random", "grid")
STUDY, BEST, LOG = "study.json", "best.yaml", "log.txt"
_FAILURES = 3
"""Failed trials one after the other, after which a search ends: the next would fail too."""
_LOOK_S = 0.5
_HEARS_S = 30.0
_MOST_COMBINATIONS = 2000
"""Of a grid."""


@dataclass(frozen=True)
class Search:
    """What is searched, and how."""

    task: Task
    args: Sequence[str]
    """Of `percept fit`."""
    space: Space
    sampler: str = "tpe"
    pruner: str = "hyperband"
    folds: int = 0
    """0: the recipe's own validation split."""
    seed: int = 0

    def described(self) -> dict[str, Any]:
        """Return what a study must be made of to be gone on with, JSON-able."""
        space = {n: v.model_dump(exclude_defaults=True) if isinstance(v, Range) else v for n, v in self.space.items()}
        return {"task": self.task.name, "args": list(self.args), "space": space, "sampler": self.sampler,
                "pruner": self.pruner, "folds": self.folds, "seed": self.seed}  # fmt: skip


class Searching:
    """One process's part in a search.

    Args:
        search: what is searched.
        ground: what it starts from.
        folder: of the study.
        storage: a database's URL; the folder's own journal if not given.

    Raises:
        ConfigError: the study in the folder is another one, or the space names no settings of the recipe.
    """

    def __init__(self, search: Search, ground: Ground, folder: Path, storage: str | None = None) -> None:
        self.search, self.ground, self.folder = search, ground, folder
        _check_names(search.space, ground.recipe)
        folder.mkdir(parents=True, exist_ok=True)
        self.storage = storage or default_storage(folder)
        self._check_study()
        self.most_epochs = max([ground.most_epochs, *_epochs_in(search.space)])
        name = f"percept-{search.task.name}-{folder.resolve().name}"
        with self._locked():
            self.study = open_study(self.storage, name, pruner=search.pruner, most_epochs=self.most_epochs)
            """Optuna's."""
            number = int(self.study.user_attrs.get("processes", 0))
            self.study.set_user_attr("processes", number + 1)
            self.study.sampler = self._sampler(number)
            self._enqueue()
        self._failures = 0  # one after the other, at last
        self._error: Exception | None = None
        self._is_over = threading.Event()

    def _enqueue(self) -> None:
        """Put the trials that are known before into the study: the recipe itself, or all of a grid; each once."""
        own = within(self.search.space, self.ground.recipe)
        there = self.study.get_trials(deepcopy=False)
        if self.search.sampler != "grid":
            if own is not None and not there:  # it comes first: what is found is shown beside it
                self.study.enqueue_trial(own, user_attrs={"is_recipe": True})
            return
        values = grid(self.search.space)
        count = prod(map(len, values.values()))
        if count > _MOST_COMBINATIONS:
            raise ConfigError(f"the grid has {count:,} combinations, and at most {_MOST_COMBINATIONS:,} are tried: "
                              "name fewer values, or use --sampler tpe.")  # fmt: skip
        combinations = [dict(zip(values, each, strict=True)) for each in product(*values.values())]
        random.Random(self.search.seed).shuffle(combinations)  # a grid that is ended early has seen all of the space
        for each in combinations if len(there) < count else []:
            self.study.enqueue_trial(each, user_attrs={"is_recipe": each == own}, skip_if_exists=bool(there))

    def combinations(self) -> int | None:
        """Return how many trials a grid has; None for what draws."""
        return prod(map(len, grid(self.search.space).values())) if self.search.sampler == "grid" else None

    def run(self, *, trials: int | None, minutes: float | None, jobs: int = 1) -> None:
        """Try until the study has so many trials, or time is over; with a progress bar.

        Args:
            trials: of the study in all, whoever made them; a grid's own number if None.
            minutes: of this call; a trial that runs then is ended and can be taken up again.
            jobs: trials at the same time.

        Raises:
            ConfigError: the settings are wrong in a way that no trial can mend.
            TrainingCutOff: several trials failed one after the other.
        """
        self._is_over.clear()
        combinations = self.combinations()
        total = min(each for each in (trials, combinations, sys.maxsize) if each is not None)
        deadline = time.monotonic() + 60 * minutes if minutes else float("inf")
        threads = [threading.Thread(target=self._work, args=(total, deadline, jobs)) for _ in range(jobs)]
        for thread in threads:
            thread.start()
        try:
            self._show(threads, total)
        finally:
            self._is_over.set()
            for thread in threads:
                thread.join()
        if self._error is not None:
            raise self._error

    def _work(self, total: int, deadline: float, jobs: int) -> None:
        try:
            while not self._is_over.is_set() and time.monotonic() < deadline:
                taken = self._take(total)
                if taken is None:
                    return
                trial, folder, lock = taken
                with lock:
                    self._try(trial, folder, lock, deadline, jobs)
        except Exception as error:  # noqa: BLE001 raised again by `run`
            self._error = self._error or error
            self._is_over.set()

    def _take(self, total: int) -> tuple[optuna.Trial, Path, IO[bytes]] | None:
        """Return a trial that was cut off, else a new one, with its folder and lock; None if there are enough."""
        with self._locked():
            known = self.study.get_trials(deepcopy=False)
            for each in known:
                folder = self._trial_folder(each.number)
                # In a database, a trial without a folder here is one of a machine with another folder.
                if each.state == TrialState.RUNNING and (folder.is_dir() or not is_database(self.storage)):
                    folder.mkdir(parents=True, exist_ok=True)
                    lock = _lock(folder / "lock")
                    if lock is not None:
                        return trial_of(self.study, self.storage, each.number), folder, lock
            if sum(each.state != TrialState.WAITING for each in known) >= total:
                return None
            trial = self.study.ask()
            folder = self._trial_folder(trial.number)
            folder.mkdir(parents=True, exist_ok=True)
            lock = _lock(folder / "lock")
            assert lock is not None, "nobody else knows this trial"
            return trial, folder, lock

    def _try(self, trial: optuna.Trial, folder: Path, lock: IO[bytes], deadline: float, jobs: int) -> None:
        tried = [f"--{name}={_as_argument(value)}" for name, value in draw(trial, self.search.space).items()]
        order = Order(
            task=asdict(self.search.task),
            args=[*self.search.args, *tried, "--trainer.enable_progress_bar=false"],
            study=self.study.study_name,
            pruner=self.search.pruner,
            most_epochs=self.most_epochs,
            number=trial.number,
            folds=self.search.folds,
            tied=list(self.ground.tied),
        )
        write_whole(folder / TRIAL, json.dumps(asdict(order)).encode())
        status = self.in_process(folder, lock, deadline, jobs)
        if status is None:
            return  # cut off: it is taken up again
        if status == 0 and (folder / RESULT).is_file():
            self._finish(trial, Result(**json.loads((folder / RESULT).read_text("utf-8"))))
        else:
            self._fail(trial, folder, status)
        for weights in folder.glob("*/checkpoints"):
            shutil.rmtree(weights, ignore_errors=True)

    def in_process(self, folder: Path, lock: IO[bytes], deadline: float, jobs: int) -> int | None:
        """Run the trial of a folder in a process of its own and return its status; None if it was cut off."""
        threads = str(max(1, (os.cpu_count() or 1) // jobs))
        with (folder / LOG).open("ab") as log:
            process = subprocess.Popen(  # noqa: S603 this module, on a folder of our own
                [sys.executable, "-m", "shared.tuning.trial", str(folder)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env={"OMP_NUM_THREADS": threads, **os.environ, STORAGE: self.storage},
                pass_fds=[lock.fileno()],  # so the lock is held until the last of both processes is gone
                start_new_session=True,  # Ctrl-C is for this process, which ends the trial
            )  # fmt: skip
            while process.poll() is None:
                if self._is_over.is_set() or time.monotonic() >= deadline:
                    _end(process)
                    return None
                time.sleep(_LOOK_S / 5)
        return process.returncode

    def _finish(self, trial: optuna.Trial, result: Result) -> None:
        for name in ("recipe", "curves", "by_fold", "epochs", "seconds"):
            trial.set_user_attr(name, getattr(result, name))
        if result.is_pruned:
            self.study.tell(trial, state=TrialState.PRUNED)
        elif result.value is None:
            trial.set_user_attr("error", "it ended before the first epoch was validated")
            self.study.tell(trial, state=TrialState.FAIL)
        else:
            self.study.tell(trial, result.value)
        self._failures = 0
        with self._locked():
            self.write_best()

    def _fail(self, trial: optuna.Trial, folder: Path, status: int) -> None:
        lines = (folder / LOG).read_text("utf-8", "replace").strip().splitlines()
        how = f"it was ended from outside (signal {-status})" if status < 0 else (lines or ["it said nothing"])[-1]
        trial.set_user_attr("error", how)
        self.study.tell(trial, state=TrialState.FAIL)
        self._failures += 1
        done = any(each.state == TrialState.COMPLETE for each in self.study.get_trials(deepcopy=False))
        if status == WRONG_SETTINGS and not done:
            raise ConfigError(how)
        if self._failures >= _FAILURES:
            raise TrainingCutOff(f"{_FAILURES} trials failed one after the other, the last because: {how} Its log is "
                                 f"{folder / LOG}.")  # fmt: skip

    def write_best(self) -> FrozenTrial | None:
        """Write best.yaml if a trial is finished, and return the best one."""
        best = best_of(self.study)
        if best is not None:
            head = f"# Trial {best.number} of a search: {best.value:.4f} on validation examples.\n"
            head += f"# percept fit {self.search.task.name} -c {self.folder / BEST}"
            head += f" --folds {self.search.folds}\n" if self.search.folds else "\n"
            recipe = yaml.safe_dump(best.user_attrs["recipe"], sort_keys=False, allow_unicode=True)
            write_whole(self.folder / BEST, (head + recipe).encode())
        return best

    def _show(self, threads: Sequence[threading.Thread], total: int) -> None:
        """Show one bar for the study until all threads are done."""
        with tqdm(total=total if total < sys.maxsize else None, desc="searching", unit="trial",
                  bar_format="{l_bar}{bar}| {n:.1f}/{total_fmt} [{elapsed}<{remaining}{postfix}]") as bar:  # fmt: skip
            while True:
                is_last = not any(thread.is_alive() for thread in threads)
                trials = self.study.get_trials(deepcopy=False)
                running = [each for each in trials if each.state == TrialState.RUNNING]
                steps = self.search.folds or self.most_epochs or 1
                begun = sum(min(0.95, len(each.intermediate_values) / steps) for each in running)
                bar.n = min(total, sum(each.state.is_finished() for each in trials) + begun)
                best = best_of(self.study)
                shown = "none finished yet" if best is None else f"best {best.value:.4f} (trial {best.number})"
                bar.set_postfix_str(", ".join([shown, *(_at(each, bool(self.search.folds)) for each in running)]))
                if is_last:
                    return
                time.sleep(_LOOK_S)

    # The study

    def _sampler(self, number: int) -> BaseSampler:
        seed = self.search.seed + 1000 * number  # each process draws others
        if self.search.sampler == "tpe":
            return TPESampler(seed=seed, multivariate=True)
        return RandomSampler(seed=seed)

    def _check_study(self) -> None:
        """Write down what is searched, or refuse to go on with another search."""
        now = {**self.search.described(), "data": list(self.ground.data)}
        file = self.folder / STUDY
        with self._locked():
            if not file.exists():
                if any(entry.name not in (".lock",) for entry in self.folder.iterdir()):
                    raise ConfigError(f"{self.folder} is not empty and holds no study. Name another folder with -o.")
                write_whole(file, json.dumps(now, ensure_ascii=False, indent=1).encode())
                return
        try:
            before = dict(json.loads(file.read_text("utf-8")))
        except (ValueError, TypeError) as error:
            raise ConfigError(f"{file} is damaged ({error}). Restore it from a backup, or name another folder with "
                              "-o.") from error  # fmt: skip
        changed = [name for name in now if before.get(name) != now[name]]
        if changed:
            what = "; ".join(f"{name}: {_short(before.get(name))} then, {_short(now[name])} now" for name in changed)
            raise ConfigError(f"the study in {self.folder} is another search ({what}). Go on with the same, or name "
                              "another folder with -o.")  # fmt: skip

    def _trial_folder(self, number: int) -> Path:
        return self.folder / "trials" / f"{number:04d}"

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Be the only one of the study's processes and threads for as long as the context lasts."""
        with (self.folder / ".lock").open("wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def best_of(study: optuna.Study) -> FrozenTrial | None:
    """Return the finished trial with the highest quality, the first of equal ones; None if none is finished."""
    done = [each for each in study.get_trials(deepcopy=False) if each.state == TrialState.COMPLETE]
    return max(done, key=lambda each: (each.value, -each.number), default=None)


def _at(trial: FrozenTrial, in_folds: bool) -> str:
    step = max(trial.intermediate_values, default=0)
    return f"trial {trial.number}: {'fold' if in_folds else 'epoch'} {step + 1}"


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process, by force if it does not hear."""
    process.terminate()
    try:
        process.wait(_HEARS_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _lock(path: Path) -> IO[bytes] | None:
    """Return the open file whose lock this process now holds; None if another one does."""
    file = path.open("wb")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file


def _as_argument(value: object) -> str:
    """Return a value as the command line takes it.

    >>> _as_argument(None), _as_argument(True), _as_argument(3 * 0.1), _as_argument("cls")
    ('null', 'true', '0.3', 'cls')
    """
    if isinstance(value, float):
        return f"{value:.12g}"
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    return str(value)


def _check_names(space: Space, recipe: Mapping[str, Any]) -> None:
    for name in space:
        place: Any = recipe
        for part in name.split("."):
            if not isinstance(place, Mapping) or part not in place:
                known = ", ".join(list(place)[:8]) if isinstance(place, Mapping) else "nothing"
                raise ConfigError(f"the search space names {name}, which is no setting of the recipe: beside {part!r} "
                                  f"there is {known}, …")  # fmt: skip
            place = place[part]


def _epochs_in(space: Space) -> list[int]:
    values = space.get("trainer.max_epochs", [])
    return [int(values.high)] if isinstance(values, Range) else [int(v) for v in values if isinstance(v, int)]


def _short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 120 else f"{text[:120]}…"
