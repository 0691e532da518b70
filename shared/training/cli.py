"""`percept fit`: Lightning's command line over a task's data and module, ending in a bundle.

The constructors of the data module and the Lightning module are the configuration schema.
"""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import torch
import yaml
from jsonargparse import ArgumentError, Namespace
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning import Callback
from pytorch_lightning.callbacks import EarlyStopping, LearningRateMonitor, ModelCheckpoint
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger

from shared.bundle.read import Bundle
from shared.errors import ConfigError, PerceptError, TrainingCutOff
from shared.task import Task, resolve
from shared.training.data import TaskData
from shared.training.module import ExponentialMovingAverage, TaskModule
from shared.training.packing import CardOptions, Run, pack
from shared.training.peers import PeerWatch, lost_peer
from shared.training.plots import CURVES, curve_tables
from shared.training.progress import lines_shown

logger = logging.getLogger(__name__)

QUALITY = "val/quality"
"""Checkpoints are chosen by it; every module logs it, higher is better."""


class FitCLI(LightningCLI):
    """LightningCLI with the arguments that every task shares."""

    recipe: dict[str, Any]
    """All settings as they were given, before what depends on the machine was set, without those that are None."""
    settings: dict[str, Any]
    """The same with those."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add run folder, bundle options, callbacks with their defaults, and what the module takes from the data."""
        parser.add_argument("--name", type=str, default="model", help="The model's name, as services report it.")
        parser.add_argument("--run_dir", type=str, default="runs/latest", help="Folder for curves and checkpoints.")
        parser.add_argument(
            "--output", type=str | None, default=None, help="The bundle's folder; RUN_DIR/bundle if none."
        )
        parser.add_argument("--ckpt_path", type=str | None, default=None, help='Resume from a checkpoint, or "last".')
        parser.add_argument("--int8", type=bool, default=False, help="Try int8; it ships only if quality holds.")
        parser.add_argument("--max_int8_loss", type=float, default=0.003, help="Most quality that int8 may lose.")
        parser.add_argument(
            "--stored_weights", type=Literal["float32", "float16"], default="float32", help="float16 halves the bundle."
        )
        parser.add_class_arguments(CardOptions, "card")
        parser.add_lightning_class_args(ModelCheckpoint, "checkpoint")
        parser.add_lightning_class_args(EarlyStopping, "early_stopping")
        parser.add_lightning_class_args(ExponentialMovingAverage, "ema")
        parser.set_defaults(
            {
                "checkpoint.monitor": QUALITY,
                "checkpoint.mode": "max",
                "checkpoint.filename": "best",
                "checkpoint.auto_insert_metric_name": False,
                "checkpoint.enable_version_counter": False,
                "early_stopping.monitor": QUALITY,
                "early_stopping.mode": "max",
                "early_stopping.patience": 5,
            }
        )
        for action in parser._actions:
            if action.dest == "data.source":  # a file is a set of data, never settings to be put in its place
                action._enable_path = False  # type: ignore[attr-defined]
        module = cast("type[TaskModule]", self.model_class)
        for name in module.TO_DATA:
            parser.link_arguments(f"model.{name}", f"data.{name}")
        for name in module.FROM_DATA:
            parser.link_arguments("data", f"model.{name}", compute_fn=_Attribute(name), apply_on="instantiate")

    def before_instantiate_classes(self) -> None:
        """Set what depends on the machine and on other settings, where the user set nothing."""
        config = self.config
        self.settings = yaml.safe_load(self.parser.dump(config, skip_validation=True, skip_unset=False))
        self.recipe = yaml.safe_load(self.parser.dump(config, skip_validation=True))
        module = cast("type[TaskModule]", self.model_class)
        module.complete(config.model)
        for name in module.TO_DATA:
            config.data[name] = config.model[name]
        run_dir = Path(config.run_dir)
        config.trainer.default_root_dir = config.trainer.default_root_dir or str(run_dir)
        config.checkpoint.dirpath = config.checkpoint.dirpath or str(run_dir / "checkpoints")
        config.trainer.reload_dataloaders_every_n_epochs = 1  # sizes and augmentation follow the epoch
        is_gpu = torch.cuda.is_available() and config.trainer.accelerator != "cpu"
        if config.trainer.precision is None and is_gpu:
            config.trainer.precision = "bf16-mixed"
        if config.trainer.precision == "bf16-mixed" and not is_gpu and not _cpu_has_bf16():
            logger.info("this processor has no bfloat16 and would be slower with it: training in float32.")
            config.trainer.precision = "32-true"
        if config.trainer.strategy == "auto" and _device_count(config.trainer.devices, config.trainer.accelerator) > 1:
            config.trainer.strategy = "ddp_find_unused_parameters_true"  # frozen stages have no gradients
        if config.trainer.enable_progress_bar is not False:
            bar = Namespace(class_path="shared.training.progress.OneBar", init_args=Namespace())  # type: ignore[no-untyped-call]
            config.trainer.callbacks = [*(config.trainer.callbacks or []), bar]


def _cpu_has_bf16() -> bool:
    """Whether the processor multiplies in bfloat16, which is slow where it does not; true where torch cannot tell."""
    told: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return told.get("architecture") != "x86_64" or bool(told.get("avx512_bf16") or told.get("amx_bf16"))


def _device_count(devices: object, accelerator: object) -> int:
    """Return how many devices a trainer's options come to.

    >>> _device_count(2, "cpu"), _device_count("0,1,3", "cuda"), _device_count([1], "cuda")
    (2, 3, 1)
    """
    if isinstance(devices, list):
        return len(devices)
    text = str(devices)
    if text in ("auto", "-1"):
        return 1 if accelerator == "cpu" else torch.cuda.device_count()
    return len([part for part in text.split(",") if part.strip()]) if "," in text else int(text)


@dataclass(frozen=True)
class _Attribute:
    """Takes one value from the data once it is set up; a class so that jsonargparse can name it in messages."""

    name: str

    def __call__(self, data: Any) -> Any:
        data.setup("fit")
        return getattr(data, self.name)


def fit_main(task: Task, args: Sequence[str], *, command: str | None = None) -> Bundle | None:
    """Train as the arguments say and return the bundle; None on ranks that do not write it.

    Raises:
        PerceptError: settings or data are wrong; the message says which.
    """
    with quiet():
        return _fit(task, args, command)


@contextmanager
def quiet() -> Iterator[None]:
    """Show lines of this project alone, for as long as the context lasts; what others say is kept off for good."""
    _be_quiet()
    with lines_shown():
        yield


def _fit(task: Task, args: Sequence[str], command: str | None) -> Bundle | None:
    cli = train(task, args)
    trainer = cli.trainer
    if cli.config.trainer.fast_dev_run:
        logger.info("fast_dev_run: some batches were trained and validated without an error. There is no bundle.")
    if trainer.interrupted or cli.config.trainer.fast_dev_run or not trainer.is_global_zero:
        return None
    return pack_run(task, cli, command or " ".join(["percept", "fit", task.name, *args]))


def train(
    task: Task, args: Sequence[str], *, data: type[TaskData] | None = None, callbacks: Sequence[Callback] = ()
) -> FitCLI:
    """Train as the arguments say and return the command line with its trained module, data and trainer.

    Args:
        task: what is trained.
        args: settings and recipes.
        data: takes the place of the task's own data module; a class that derives from it.
        callbacks: further ones.

    Raises:
        PerceptError: settings or data are wrong; the message says which.
    """
    cli = parsed(task, args, data=data)
    config, trainer = cli.config, cli.trainer
    run_dir = Path(config.run_dir)
    checkpoints = Path(config.checkpoint.dirpath)
    ckpt_path = str(checkpoints / "last.ckpt") if config.ckpt_path == "last" else config.ckpt_path
    _check_run(config, ckpt_path)
    logger.info("%s", cast("TaskData", cli.datamodule).sizes())
    if ckpt_path is not None and trainer.is_global_zero:
        _keep_curves(run_dir)
    if config.trainer.logger is None:
        table = CSVLogger(run_dir, name="", version="")
        if ckpt_path is not None:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Experiment logs directory")  # what it would delete was put aside
                _ = table.experiment
        trainer.loggers = [table, TensorBoardLogger(run_dir, name="", version="tb")]
    # Lightning's own `save_last` writes only when the best is written: an epoch without progress would be lost.
    last = ModelCheckpoint(checkpoints, "last", save_on_train_epoch_end=True, enable_version_counter=False)
    if not config.trainer.fast_dev_run:
        cast("Any", trainer).callbacks += [LearningRateMonitor("epoch")] * bool(trainer.loggers) + [last]
    cast("Any", trainer).callbacks += [PeerWatch(), *callbacks]
    try:
        with warnings.catch_warnings():
            if ckpt_path is not None:  # a resumed run goes on in the folder that it left
                warnings.filterwarnings("ignore", "Checkpoint directory")
            trainer.fit(cli.model, datamodule=cli.datamodule, ckpt_path=ckpt_path)
    except RuntimeError as error:
        if trainer.world_size > 1 and _LOST_PEER.search(str(error)):
            how = f"rank {trainer.global_rank} lost its connection"
            raise TrainingCutOff(lost_peer(trainer, how)) from error
        raise
    return cli


def pack_run(task: Task, cli: FitCLI, command: str) -> Bundle:
    """Return the bundle of a run that was trained."""
    config, run_dir = cli.config, Path(cli.config.run_dir)
    best = cli.trainer.checkpoint_callback.best_model_path  # type: ignore[union-attr]
    run = Run(
        checkpoint=Path(
            best or Path(config.checkpoint.dirpath) / "best.ckpt"
        ),  # a run folder that was moved is not told of its best
        folder=run_dir,
        output=Path(config.output) if config.output else run_dir / "bundle",
        name=config.name,
        card=cli.config_init.card,
        int8=config.int8,
        max_int8_loss=config.max_int8_loss,
        weights=config.stored_weights,
        seed=cli.datamodule.seed,
        command=command,
        recipe=cli.recipe,
    )
    return pack(task, cli.model, cli.datamodule, run)


def parsed(task: Task, args: Sequence[str], *, data: type[TaskData] | None = None) -> FitCLI:
    """Return the command line with data, module and trainer made.

    Args:
        task: what is trained.
        args: settings and recipes.
        data: takes the place of the task's own data module.

    Raises:
        PerceptError: settings or data are wrong.
    """
    try:
        return FitCLI(
            resolve(task.module),
            data or resolve(task.data),
            args=list(args),
            run=False,
            seed_everything_default=42,
            save_config_kwargs={"overwrite": True},
            trainer_defaults={"max_epochs": 10, "enable_model_summary": False},
            parser_kwargs={
                "prog": f"percept fit {task.name}",
                "description": f"Fine-tune a {task.name} model.",
                "exit_on_error": False,
            },
        )
    except PerceptError:
        raise
    except MisconfigurationException as error:
        raise ConfigError(f"the trainer's settings are wrong: {_one_line(error)}") from error
    except Exception as error:  # jsonargparse wraps what data and module raise in errors of its own
        own = next((each for each in _causes(error) if isinstance(each, PerceptError)), None)
        if own is not None:
            raise own from error
        if isinstance(error, ArgumentError):
            raise ConfigError(f"{_one_line(error)}. `percept fit {task.name} --help` lists every setting.") from error
        raise


def _check_run(config: Namespace, ckpt_path: str | None) -> None:
    """Refuse what would only fail once all data are read."""
    if config.trainer.max_epochs == 0 or config.trainer.max_steps == 0:
        raise ConfigError("trainer.max_epochs or max_steps is 0: nothing would be trained. Set 1 or more.")
    if ckpt_path is not None and not Path(ckpt_path).is_file():
        folder = Path(ckpt_path).parent
        found = ", ".join(sorted(str(file) for file in folder.glob("*.ckpt"))) or "none"
        raise ConfigError(
            f"there is no checkpoint {ckpt_path}; in {folder} there is {found}. Leave out --ckpt_path to start anew."
        )


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()).rstrip(".")


def _be_quiet() -> None:
    """Keep Lightning's adverts, tips and advice to programmers off the screen; its warnings of a run's state stay."""
    for name in ("pytorch_lightning", "lightning_fabric", "lightning"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for name in ("huggingface_hub", "transformers", "datasets"):  # each retry of a download; the error says enough
        logging.getLogger(name).setLevel(logging.ERROR)
    for message in (
        "LightningCLI's args parameter",
        ".*isinstance.treespec, LeafSpec",
        "The number of training batches .* is smaller than the logging interval",
        "The '.*_dataloader' does not have many workers",
        ".*does not have many workers which may be a bottleneck",
    ):
        warnings.filterwarnings("ignore", message)


_LOST_PEER = re.compile("closed by peer|reset by peer|[Bb]roken pipe|remote process exited|NCCL|gloo")


def _keep_curves(run_dir: Path) -> None:
    """Put the table aside: Lightning's CSVLogger starts a new one, and deletes what is there."""
    if (run_dir / CURVES).is_file():
        (run_dir / CURVES).rename(run_dir / f"metrics.part{len(curve_tables(run_dir))}.csv")
