"""A training as LightningCLI runs it: with our data and model as defaults, our checks, and our files."""

import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning import LightningDataModule, LightningModule
from pytorch_lightning.callbacks import Callback, EarlyStopping
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI

from glimpse.cli.interruption import ToldInterrupt
from glimpse.cli.train.arguments import COMMAND
from glimpse.cli.train.class_names import import_path
from glimpse.cli.train.messages import options_of, sentence_of
from glimpse.cli.train.options.loggers import choose_loggers
from glimpse.cli.train.options.names import FUSED
from glimpse.cli.train.options.parser import TrainingParser, add_own_options
from glimpse.cli.train.recipes import CONFIG_FILE
from glimpse.cli.train.reports.advice import conclude, measure_of, notes_before
from glimpse.cli.train.reports.data_report import write_data_report
from glimpse.cli.train.run.callbacks import SaveRun, SecondInterrupt
from glimpse.cli.train.run.folder import choose_output, run_files, usual_output
from glimpse.cli.train.run.lock import RunLock
from glimpse.cli.train.run.processes import FIRST, FurtherProcesses, ProcessPlace, train_share
from glimpse.cli.train.run.resuming import check_same_options
from glimpse.cli.train.run.strategy import AveragedGradients, parallel_options
from glimpse.cli.usage import RunError, UsageError, invocation, spelling
from glimpse.data.datamodule import ImageData
from glimpse.data.share import Share
from glimpse.errors import Argument, ArgumentError
from glimpse.files import remove_drafts
from glimpse.training.callbacks import (
    LAST_FILE,
    CollapseWarning,
    EpochBar,
    EpochLog,
    FitReport,
    ScheduleCheck,
    checkpoints,
)
from glimpse.training.checkpoint import Transfer, finetune, read_checkpoint
from glimpse.training.classifier import ClassifierTraining
from glimpse.training.divergence import DivergedError, DivergenceStop
from glimpse.training.families.hard import HardAttentionTraining
from glimpse.training.families.hard_model import HardModelTraining
from glimpse.training.precision import AUTO, TRAINING_PRECISIONS, PrecisionTrainer, full_name

ROLLOUTS = {"env": "glimpse_envs.hard_agent.rollout_in_environment"}
"""Roll-outs in an environment by their names: functions, each imported when a training uses it."""
LARGEST_SEED = 2**32 - 1


class TrainingCLI(LightningCLI):
    """LightningCLI with our data and model as its defaults; making one runs the training.

    Args:
        args: The command line, beginning with ``fit``.
        program: How the user calls the command, for what is printed.
        name: The recipe's name, which names the run's folder.
        place: Which process of the training this is.
    """

    def __init__(self, args: Sequence[str], program: str, name: str, place: ProcessPlace = FIRST) -> None:
        self.arguments, self.program, self.name, self.place = list(args), program, name, place
        self.lock: RunLock | None = None
        self.transfer: Transfer | None = None
        super().__init__(
            LightningModule,
            LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            parser_class=TrainingParser,
            save_config_callback=SaveRun,
            save_config_kwargs={"save_to_log_dir": False},
            trainer_class=PrecisionTrainer,
            trainer_defaults={"devices": 1, "enable_model_summary": False, "num_sanity_val_steps": 0},
            seed_everything_default=0,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
            args=self.arguments,
        )

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Training only: ``glimpse evaluate`` does the rest."""
        return {COMMAND: {"model", "train_dataloaders", "val_dataloaders", "datamodule", "weights_only"}}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add our own options, and link the seed and the properties of the data to the arguments that take them."""
        add_own_options(parser)
        parser.set_defaults({"data": {"class_path": import_path("ImageData")}})
        for target in ("seed_everything", "data.init_args.seed", "model.init_args.seed"):
            parser.link_arguments("seed", target)
        for known in ("classes", "image_shape"):
            parser.link_arguments(f"data.{known}", f"model.init_args.{known}", apply_on="instantiate")

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse the arguments that were passed in, not those of the process."""
        self.config = parser.parse_args(args)
        seed = self.config[COMMAND]["seed"]
        if not 0 <= seed <= LARGEST_SEED:
            raise UsageError(f"--seed: expected a whole number from 0 to {LARGEST_SEED}, got {seed}")
        check_trainer(vars(self.config[COMMAND]["trainer"]))
        check_patience(self.config[COMMAND]["early_stopping"], self.config[COMMAND]["trainer"]["limit_val_batches"])
        if run := self.config[COMMAND]["resume"]:
            # A run that was stopped before it had a checkpoint begins anew, in its folder.
            last = Path(run) / LAST_FILE
            known = {"ckpt_path": str(last)} if last.is_file() else {"output": run, "overwrite": True}
            for name, value in known.items():
                self.config[COMMAND][name] = value

    def _parse_ckpt_path(self) -> None:
        """Leave the options as they are: the recipe beside a checkpoint holds those of its run."""

    def before_instantiate_classes(self) -> None:
        """Choose the run's folder, and read the checkpoint that it goes on from."""
        given = self._get(self.config, "ckpt_path")
        self.resumed = Path(given).expanduser() if given else None
        self.checkpoint = read_checkpoint(self.resumed) if self.resumed else None
        self.output = choose_output(
            self._get(self.config, "output"), self.name, self._get(self.config, "overwrite"), self.resumed
        )

    def instantiate_classes(self) -> None:
        """Make data, model and trainer; an error of theirs is the user's mistake."""
        try:
            super().instantiate_classes()
            if isinstance(self.datamodule, ImageData):
                self.datamodule.draw(self.datamodule.source.train.images[:1])
                self.datamodule.epoch_batches(Share(count=self.trainer.world_size))
        except (ValueError, MisconfigurationException) as error:
            raise UsageError(sentence_of(error, self.spell)) from error
        self.choose_rollout(self._get(self.config, "rollout"))

    def spell(self, argument: Argument) -> str | None:
        """Write an argument of the library as an option of this command; None where the command has no such option."""
        return spelling(options_of(vars(self.config[COMMAND])))(argument)

    def choose_rollout(self, name: str) -> None:
        """Train the model in an environment, where the user chooses that.

        Raises:
            UsageError: When there is no such roll-out, or the family takes no glimpses one by one.
        """
        if name == FUSED:
            return
        if name not in ROLLOUTS:
            raise UsageError(f"--rollout: expected one of {', '.join([FUSED, *ROLLOUTS])}; got {name!r}")
        if not isinstance(self.model, HardAttentionTraining):
            raise UsageError(
                f"--rollout {name}: expected the family HardAttentionTraining, whose every glimpse is an action, got "
                f"{type(self.model).__name__}; leave it out"
            )
        self.model.roll_out = resolve_name(ROLLOUTS[name])

    def instantiate_trainer(self, **kwargs: Any) -> Any:
        """Give the trainer our callbacks and loggers, beside those of the recipe."""
        chosen = self._get(self.config_init, "trainer")
        terminal = sys.stdout.isatty() and chosen["enable_progress_bar"] is not False
        callbacks: list[Callback] = [*(chosen["callbacks"] or []), ScheduleCheck(), DivergenceStop()]
        callbacks += [SecondInterrupt(), CollapseWarning(self.spell)]
        measure = measure_of(self.model, self.datamodule)
        if chosen["enable_checkpointing"] is not False:
            callbacks += checkpoints(self.output, validates=chosen["limit_val_batches"] != 0, measure=measure)
        patience = self._get(self.config, "early_stopping")
        if patience:
            callbacks.append(EarlyStopping(measure, patience=patience))
        if not chosen["fast_dev_run"]:
            callbacks += [EpochLog(self.output), FitReport(self.output)]
        if terminal:
            callbacks.append(EpochBar(leave=False))
        named = (self._get(self.config, "logger"), "tensorboard" if self._get(self.config, "tensorboard") else None)
        logger = choose_loggers(chosen["logger"], named, self.output)
        ours = {"default_root_dir": str(self.output), "enable_progress_bar": terminal}
        ours |= parallel_options(vars(chosen), self.place, isinstance(self.datamodule, ImageData))
        return super().instantiate_trainer(logger=logger, callbacks=callbacks, **ours, **kwargs)

    def before_fit(self) -> None:
        """Make the run's folder, and print what is trained and where the run goes."""
        if self.checkpoint:
            check_same_options(
                dict(self.model.hparams), dict(self.datamodule.hparams), self.checkpoint, str(self.resumed)
            )
            if self.checkpoint["epoch"] + 1 >= (self.trainer.max_epochs or 0) > 0:
                raise UsageError(
                    f"the run of {self.resumed} is finished: {self.checkpoint['epoch'] + 1} epochs, and its learning "
                    "rate has come to its end; to train longer, start anew with a higher --trainer.max_epochs"
                )
        else:
            self.load_pretrained()
        self.take_folder()
        if not self.resumed or self.resumed.resolve().parent != self.output.resolve():
            for callback in self.trainer.callbacks:  # type: ignore[attr-defined]
                if isinstance(callback, SaveRun):
                    # The recipe is replaced in one step, so that at no moment there is none.
                    callback.former = [file for file in run_files(self.output) if file.name != CONFIG_FILE]
        weights = sum(weight.numel() for weight in self.model.parameters())
        usual = usual_output(self.name)
        elsewhere = self.resumed is None and self._get(self.config, "output") is None and self.output != usual
        note = f", as {usual} holds one already" if elsewhere else ""
        print(
            f"training on {description_of(self.datamodule)}: {weights:,} weights; the run goes to {self.output}{note}"
        )
        if isinstance(self.datamodule, ImageData):
            for note in self.datamodule.source.notes:
                print(f"data: {note}")
            write_data_report(self.datamodule.source, self.output)
        for note in notes_before(
            self.model, self.datamodule, self._get(self.config, "early_stopping"), self.trainer.max_epochs
        ):
            print(note)
        if self.transfer:
            anew = f"; begun anew, for other classes: {', '.join(self.transfer.anew)}" if self.transfer.anew else ""
            print(f"taken from {self._get(self.config, 'finetune')}: {', '.join(self.transfer.taken)}{anew}")
        warning = self.model.warning() if isinstance(self.model, HardModelTraining) else None
        if warning:
            print(f"warning: {warning.render(self.spell)}", file=sys.stderr, flush=True)
        self.tell_precision()

    def take_folder(self) -> None:
        """Make the run's folder, and lock it, in the process that writes into it.

        Raises:
            UsageError: When it can't be made, or another training holds it.
        """
        if self.place != FIRST:
            return
        try:
            self.output.mkdir(parents=True, exist_ok=True)
            self.lock = RunLock(self.output)
            self.lock.acquire()
        except OSError as error:
            raise UsageError(f"--output {self.output}: expected a folder to write to, got: {error.strerror}") from error
        remove_drafts(self.output)

    def tell_precision(self) -> None:
        """Print the precision that was chosen for the user, or warn of what the user's own choice costs."""
        if not isinstance(self.trainer, PrecisionTrainer):
            return
        chosen = self.trainer.chosen_precision
        if chosen.reason:
            print(f"precision: {chosen.title}; {chosen.reason}", flush=True)
        if chosen.warning:
            print(
                f"warning: --trainer.precision {chosen.name}: {chosen.warning}; {AUTO} takes the faster one",
                file=sys.stderr,
                flush=True,
            )

    def load_pretrained(self) -> None:
        """Load the weights that a new training begins with, where the recipe or the user names some."""
        if not isinstance(self.model, ClassifierTraining):
            return
        other = self._get(self.config, "finetune")
        try:
            if other:
                self.transfer = finetune(self.model, Path(other).expanduser())
            else:
                self.model.load_pretrained()
        except ValueError as error:
            raise UsageError(sentence_of(error, self.spell)) from error

    def fit(self, **kwargs: Any) -> None:
        """Train, as the only one who writes into the run's folder; when the user stops it, print how to go on.

        Raises:
            UsageError: When an option turns out not to fit.
            RunError: When the training has diverged, a process of it has ended before its time, or a disk is full.
            ToldInterrupt: When the user has stopped it.
        """
        try:
            with self.lock or nullcontext(), self.further_processes():
                self.trainer.fit(**kwargs)
        except ArgumentError as error:
            raise UsageError(error.render(self.spell)) from error
        except DivergedError as error:
            raise RunError(f"{error.render(self.spell)}; {self.kept()}") from error
        except OSError as error:
            if error.filename is None:
                raise
            reason = f"can't use {os.fsdecode(error.filename)!r}: {error.strerror}"
            raise RunError(f"{reason}; put that right, and {self.way_on()}") from error
        except (KeyboardInterrupt, SystemExit) as stop:
            if isinstance(stop, SystemExit) and not isinstance(stop.__context__, KeyboardInterrupt):
                raise
            print(f"stopped; {self.way_on()}", file=sys.stderr, flush=True)
            raise ToldInterrupt from None

    def kept(self) -> str:
        """What is left of a run that has diverged, in words."""
        last = self.output / LAST_FILE
        return f"the last good model is {last}" if last.exists() else "no epoch was finished, and no model is kept"

    def way_on(self) -> str:
        """How to go on with a run that the user has stopped, in words."""
        if not (self.output / CONFIG_FILE).exists():
            return "begin again: no step was taken, and nothing is kept"
        if 0 < (self.trainer.max_epochs or 0) <= self.trainer.current_epoch:
            return f"the training had come to its end; the trained model is {self.output / LAST_FILE}"
        return f"go on with: {invocation()} train --resume {shlex.quote(str(self.output))}"

    def further_processes(self) -> AbstractContextManager[object]:
        """The processes that share each batch with this one, while it trains."""
        others, strategy = self.trainer.world_size - 1, self.trainer.strategy
        if not others or self.place != FIRST or not isinstance(strategy, AveragedGradients):
            return nullcontext()
        assert strategy.cluster_environment is not None
        # They go where this one goes, whose folder was free.
        arguments = [*self.arguments, f"--output={self.output}", "--overwrite=true"]
        own = f"{__name__}:{type(self).__qualname__}"
        task = partial(train_share, own, arguments, self.program, self.name, "matplotlib" not in sys.modules)
        return FurtherProcesses(others, strategy.cluster_environment.main_port, task, self.program)

    def after_fit(self) -> None:
        """Print how good the models are, which one to take, where the files are, and the next command."""
        for line in conclude(self.trainer, self.model, self.datamodule, self.output):
            print(line)


class UnconcludedTraining(TrainingCLI):
    """A training whose models are not measured at its end, by whoever compares several."""

    def after_fit(self) -> None:
        """Print nothing."""


def check_patience(patience: int | None, validation: int | float | None) -> None:
    """Reject early stopping that could never stop.

    Args:
        patience: Epochs without a better model after which the training stops; None for never.
        validation: The trainer's limit of validation batches.

    Raises:
        UsageError: When the patience is none, or nothing is validated.
    """
    if patience is not None and patience < 1:
        raise UsageError(f"--early_stopping: expected at least 1 epoch, got {patience}; raise it, or leave it out")
    if patience is not None and validation == 0:
        raise UsageError(
            "--early_stopping: expected validation images, by which models are compared, got "
            "--trainer.limit_val_batches 0; leave one of them out"
        )


def check_trainer(options: Mapping[str, Any]) -> None:
    """Reject options that Lightning's trainer would accept, and our training does not support.

    Args:
        options: The trainer's options, by name.

    Raises:
        UsageError: When one of them makes no sense here.
    """
    if options["max_epochs"] == -1 and options["max_steps"] == -1:
        raise UsageError(
            "--trainer.max_epochs: expected an end, which the learning rate's course is planned by, got -1; give the "
            "number of epochs, or --trainer.max_steps beside it"
        )
    for name, endless in (("max_epochs", -1), ("max_steps", -1), ("limit_train_batches", None)):
        given = options[name]
        if given is not None and given != endless and given <= 0:
            raise UsageError(f"--trainer.{name}: expected a number above 0, got {given}; nothing would be trained")
    if full_name(options["precision"]) not in TRAINING_PRECISIONS:
        raise UsageError(
            f"--trainer.precision: expected one of {', '.join(TRAINING_PRECISIONS)}; got {options['precision']}; "
            "the model's weights stay in single precision"
        )


def description_of(data: LightningDataModule) -> str:
    """The description of the data; the class's name where they have none."""
    return data.describe() if isinstance(data, ImageData) else type(data).__name__
