"""Where a study keeps its trials: a journal beside them, or a database by URL."""

from __future__ import annotations

from pathlib import Path

import optuna
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from shared.errors import ConfigError
from shared.records.store import shown_place

JOURNAL = "journal.log"
PRUNERS = ("hyperband", "median", "none")
_MEDIAN_STARTS = 4
"""Trials that are not ended early, so that there is something to compare with."""


def make_pruner(name: str, most_epochs: int = 0) -> optuna.pruners.BasePruner:
    """Return what ends trials without prospect: "hyperband", "median" or "none".

    Args:
        name: which.
        most_epochs: of one trial; 0 to learn it from the first one.
    """
    if name == "hyperband":
        return optuna.pruners.HyperbandPruner(max_resource=most_epochs or "auto")
    if name == "median":
        return optuna.pruners.MedianPruner(n_startup_trials=_MEDIAN_STARTS)
    return optuna.pruners.NopPruner()


def open_storage(place: str) -> BaseStorage:
    """Return the storage of a database's URL, or of a journal's file.

    Raises:
        ConfigError: the database cannot be reached, or its driver is missing.
    """
    if not is_database(place):
        return JournalStorage(JournalFileBackend(place))
    try:
        return RDBStorage(place, engine_kwargs={"pool_pre_ping": True})
    except (SQLAlchemyError, ImportError, ValueError) as error:
        raise ConfigError(f"the database {_shown(place)} cannot keep the study: {_told(error, place)}") from None


def _shown(place: str) -> str:
    try:
        return shown_place(make_url(place))
    except ArgumentError:
        return "that --storage names"


def _told(error: Exception, place: str) -> str:
    """Return what a driver says, in a line without the URL that it may repeat."""
    return " ".join(str(error).replace(place, "the URL").split())[:200]


def is_database(place: str) -> bool:
    """Whether a storage is a database's URL, and not the file of a journal."""
    return "://" in place


def trial_of(study: optuna.Study, place: str, number: int) -> optuna.Trial:
    """Return a trial that was begun, to report to or to finish.

    Args:
        study: whose it is.
        place: of the study's storage.
        number: the trial's.
    """
    storage = open_storage(place)
    study_id = storage.get_study_id_from_name(study.study_name)
    return optuna.Trial(study, storage.get_trial_id_from_study_id_trial_number(study_id, number))


def open_study(place: str, name: str, *, pruner: str, most_epochs: int = 0) -> optuna.Study:
    """Return the study, made if it is not there.

    Raises:
        ConfigError: its journal is damaged, or its database cannot be reached.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        return optuna.create_study(
            storage=open_storage(place),
            study_name=name,
            direction="maximize",
            pruner=make_pruner(pruner, most_epochs),
            load_if_exists=True,
        )
    except (AssertionError, KeyError, ValueError, TypeError) as error:
        if is_database(place):
            raise
        raise ConfigError(f"the journal {place} is damaged ({type(error).__name__}: {error}). Restore it from a "
                          "backup, or name another folder with -o.") from error  # fmt: skip


def default_storage(folder: Path) -> str:
    """Return the journal of a study's folder."""
    return str(folder.resolve() / JOURNAL)
