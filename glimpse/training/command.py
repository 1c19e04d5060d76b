"""The training command: LightningCLI with recipes, a short help, and a word for every mistake."""

import difflib
import inspect
import os
import re
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from pytorch_lightning import LightningDataModule, LightningModule
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger

from glimpse.data import ImageData
from glimpse.training.callbacks import CollapseWarning, FitReport, checkpoints, progress
from glimpse.training.module import HardAttentionTraining

DEFAULT_RECIPE = "digits"
COMMANDS = ("fit", "validate", "test")
HELP = """usage: glimpse train [fit] [--config RECIPE] [--data.OPTION VALUE] [--model.OPTION VALUE] [--trainer.OPTION VALUE]

Train a recurrent attention model. Without arguments: the recipe "{default}".

recipes (a name, or the path of a YAML file of your own; several may follow one another, the later ones win):
  {recipes}

the options most often wanted:
  --data.dataset NAME         digits, mnist, fashion-mnist, cifar10, svhn, or folder (one folder a class)
  --data.root DIR             where the data set lies; else the environment variable GLIMPSE_DATA, else ./data
  --data.download true        let torchvision download what is not there
  --data.canvas_height N      draw the images onto canvases of this height (and --data.canvas_width)
  --data.num_pieces N         pieces of clutter on each canvas
  --model.num_glimpses N      glimpses in an episode
  --model.glimpse_size N      side of a glimpse in pixels (and --model.num_scales)
  --trainer.max_epochs N      how long to train
  --trainer.precision P       32-true or bf16-mixed
  --output DIR                where the run goes; runs/RECIPE when left out
  --tensorboard true          write TensorBoard's files as well
  --ckpt_path FILE            go on from a checkpoint
  --print_config              print the resolved configuration and stop
  --help-all                  every option there is

example: glimpse train --config cluttered-60-8 --data.root ~/data --model.num_glimpses 6
"""


def recipe_folders() -> list[Path]:
    """Where recipes lie: beside a checkout's packages, or where an installation put them."""
    return [
        Path(__file__).parents[2] / "configs",
        Path(sysconfig.get_path("data")) / "share" / "glimpse" / "configs",
    ]


def recipes() -> dict[str, Path]:
    """The recipes that come with Glimpse, by name."""
    found: dict[str, Path] = {}
    for folder in recipe_folders():
        for file in sorted(folder.glob("*.yaml")):
            found.setdefault(file.stem, file)
    return found


class Parser(LightningArgumentParser):
    """A parser that knows no abbreviations and, for a mistyped option, the nearest right one."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "allow_abbrev": False})

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Say what is wrong in one or two lines, and end with status 2."""
        fail(explain(message))


def fail(sentence: str) -> NoReturn:
    """Print a sentence for the user and end with status 2."""
    print(f"glimpse train: {sentence}", file=sys.stderr)
    raise SystemExit(2)


def known_options() -> list[str]:
    """Names of the options that a user may give, without leading dashes."""
    import pytorch_lightning

    names = ["config", "output", "tensorboard", "ckpt_path", "seed_everything", "print_config", "help-all"]
    for group, callable_ in (
        ("data", ImageData.__init__),
        ("model", HardAttentionTraining.__init__),
        ("trainer", pytorch_lightning.Trainer.__init__),
    ):
        names += [f"{group}.{name}" for name in inspect.signature(callable_).parameters if name != "self"]
    return names


def explain(message: str) -> str:
    """Turn a parser's message into one that names the option and the nearest right one."""
    wrong = unknown_option(message)
    if wrong is None:
        return " ".join(message.split())
    nearest = difflib.get_close_matches(wrong, known_options(), n=1, cutoff=0.5)
    hint = f"did you mean --{nearest[0]}?" if nearest else "see --help-all for every option"
    return f"there is no option --{wrong}; {hint}"


def unknown_option(message: str) -> str | None:
    """The name of the option that a parser's message calls unknown, without leading dashes."""
    found = re.search(r"Unrecognized arguments: --([^\s=]+)", message)
    if found:
        return found.group(1).replace(".init_args", "")
    found = re.search(r"""[Kk]ey ['"]?([\w.]+)['"]? is not expected|No action for key ['"]([\w.]+)['"]""", message)
    if not found:
        return None
    name = found.group(1) or found.group(2)
    group = re.search(r"""[Pp]arser key ['"](data|model|trainer)""", message)
    name = name.replace(".init_args", "").removeprefix("init_args.").removeprefix("fit.")
    return f"{group.group(1)}.{name}" if group and not name.startswith(group.group(1)) else name


class TrainingCLI(LightningCLI):
    """LightningCLI with our data and model as its defaults."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add our own options, and hand what the data know to the model."""
        parser.add_argument("--output", type=str, default=None, help="Folder of the run; runs/RECIPE when left out.")
        parser.add_argument("--tensorboard", type=bool, default=False, help="Whether to write TensorBoard's files.")
        for source, target in (
            ("data.classes", "model.init_args.classes"),
            ("data.image_shape", "model.init_args.image_shape"),
        ):
            parser.link_arguments(source, target, apply_on="instantiate")
        parser.link_arguments(
            "data", "model.init_args.data_description", compute_fn=_describe, apply_on="instantiate"
        )

    def instantiate_trainer(self, **kwargs: Any) -> Any:
        """Give the trainer our callbacks and loggers."""
        output = Path(self._get(self.config, "output") or "runs/run")
        loggers: list[Logger] = [CSVLogger(str(output), name="", version="")]
        if self._get(self.config, "tensorboard"):
            loggers.append(TensorBoardLogger(str(output), name="", version=""))
        callbacks = [*checkpoints(output), CollapseWarning(), FitReport(output), progress()]
        return super().instantiate_trainer(logger=loggers, callbacks=callbacks, default_root_dir=str(output), **kwargs)
