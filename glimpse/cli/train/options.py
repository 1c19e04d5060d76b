"""The training command's options: the parser, the short help, and the complete one."""

import textwrap
from collections.abc import Sequence
from functools import cache
from itertools import zip_longest
from typing import Any, NoReturn, get_args

from pytorch_lightning import Trainer
from pytorch_lightning.cli import LightningArgumentParser

from glimpse.cli.train.class_names import SHORT_NAMES
from glimpse.cli.train.messages import DECIDED, ParserError
from glimpse.cli.train.recipes import DEFAULT_RECIPE, recipes
from glimpse.cli.usage import UsageError
from glimpse.data.datamodule import ImageData
from glimpse.data.datasets import FOLDER, SOURCES
from glimpse.training.families import FAMILIES

FUSED = "fused"
"""The usual roll-out, without an environment."""

TRAIN_HELP = """\
usage: {program} [fit] [--config RECIPE] [--data.OPTION VALUE] [--model.OPTION VALUE] [--trainer.OPTION VALUE]

Train a model of visual attention. Without arguments: the recipe {default!r}.

recipes (a name, or the path of a YAML file of your own; of several, the later ones win; options win over them all):
  {recipes}

the options most often wanted (one that is true or false is a flag: --data.download is --data.download true):
  --data.dataset NAME         {datasets} (one folder a class)
  --data.root DIR             where the data set lies; else the environment variable GLIMPSE_DATA, else ./data
  --data.download             let torchvision download what is not there
  --data.canvas_height N      draw the images onto canvases of this height (and --data.canvas_width)
  --data.num_pieces N         pieces of clutter on each canvas
  --model FAMILY              {families}
  --model.num_glimpses N      glimpses in an episode
  --model.glimpse_size N      side of a glimpse in pixels (and --model.num_scales)
  --model.score NAME          of SoftAttentionTraining: dot, scaled-dot, general, additive, location, content
  --model.attention NAME      of SoftAttentionTraining: global, local-m, local-p (and --model.window)
  --model.backbone NAME       of SoftAttentionTraining: a torchvision network (and --model.backbone_weights)
  --model.relaxation NAME     of RelaxedAttentionTraining: gumbel, gumbel-st, gaussian, bilinear (and --model.mixed)
  --trainer.max_epochs N      how long to train
  --trainer.precision P       32-true, bf16-mixed or 16-mixed
  --seed N                    fixes the whole run: weights, order, canvases, exploration
  --output DIR                where the run goes; runs/RECIPE when left out
  --overwrite                 replace the run that the output folder holds
  --rollout env               take glimpses and rewards from the Gymnasium environment, with the same result
  --tensorboard               write TensorBoard's files as well
  --ckpt_path FILE            go on from a checkpoint, with the recipe that lies beside it
  --print_config              print the resolved configuration and stop
  --help-all                  every option there is

examples:
  {program} --config cluttered-60-8 --data.root ~/data --model.num_glimpses 6
  {program} --data.dataset folder --data.root ~/images --output runs/mine

training uses one thread unless OMP_NUM_THREADS is set"""


class TrainingParser(LightningArgumentParser):
    """A parser that names our classes by short names, has no abbreviations, and raises :class:`ParserError`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "allow_abbrev": False, "parser_mode": SHORT_NAMES})

    def dump(self, *args: Any, **kwargs: Any) -> str:
        """The configuration as YAML, headed by the versions that :attr:`dump_header` holds."""
        header = "".join(f"# {line}\n" for line in self.dump_header or ())
        text: str = super().dump(*args, **kwargs)
        return header + text

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise the message as a :class:`ParserError`."""
        raise ParserError(message) from ex


def add_own_options(parser: LightningArgumentParser) -> None:
    """Add the options that are neither the data's, the model's nor the trainer's."""
    parser.add_argument("--seed", type=int, default=0, help="Fixes the whole run.")
    parser.add_argument("--output", type=str | None, default=None, help="Folder of the run; runs/RECIPE if left out.")
    parser.add_argument("--overwrite", type=bool, default=False, help="Whether to replace a run that is there already.")
    parser.add_argument(
        "--rollout", type=str, default=FUSED, help="fused, or env: glimpses and rewards from a Gymnasium environment."
    )
    parser.add_argument("--tensorboard", type=bool, default=False, help="Whether to write TensorBoard's files as well.")


def short_help(program: str) -> str:
    """Help that fits a screen."""
    families = textwrap.fill(", ".join(family.__name__ for family in FAMILIES.values()), 88)
    return TRAIN_HELP.format(
        datasets=f"{', '.join(SOURCES)}, or {FOLDER}",
        program=program,
        default=DEFAULT_RECIPE,
        recipes=textwrap.indent(textwrap.fill(", ".join(sorted(recipes())), 116), "  ").lstrip(),
        families=textwrap.indent(families, 30 * " ").lstrip(),
    )


def complete_parser(kind: str = "hard") -> LightningArgumentParser:
    """A parser that has every option there is for a family of models, for help and for suggestions.

    Args:
        kind: One of ``FAMILIES``.
    """
    parser = TrainingParser(usage="every option there is:", description=None, add_help=False)
    add_own_options(parser)
    parser.add_argument("--ckpt_path", type=str | None, default=None, help="Checkpoint to go on from.")
    parser.add_class_arguments(ImageData, "data", skip=_decided("data"))
    parser.add_class_arguments(FAMILIES[kind], "model", skip=_decided("model"))
    parser.add_lightning_class_args(Trainer, "trainer")
    return parser


def complete_help() -> str:
    """Every option there is, those of the other families last."""
    texts = [complete_parser().format_help()]
    for kind, family in FAMILIES.items():
        if kind != "hard":
            parser = TrainingParser(
                usage=f"the options of --model {family.__name__}:", description=None, add_help=False
            )
            parser.add_class_arguments(family, "model", skip=_decided("model"))
            texts.append(parser.format_help())
    return "\n\n".join(texts)


def known_options() -> list[str]:
    """Names of all options, without leading dashes."""
    parsers = [complete_parser(kind) for kind in FAMILIES]
    options = [name for parser in parsers for action in parser._actions for name in action.option_strings]
    return ["config", "help-all", *dict.fromkeys(name.removeprefix("--") for name in options)]


@cache
def boolean_options() -> frozenset[str]:
    """Names of the options that are true or false, without leading dashes."""
    actions = [action for kind in FAMILIES for action in complete_parser(kind)._actions]
    types = [(action.option_strings, getattr(action, "_typehint", None)) for action in actions]
    names = [name for options, hint in types if bool in (hint, *get_args(hint)) for name in options]
    # Of a type that may be a class as well, jsonargparse makes an option for its help and one that appends.
    return frozenset(name.removeprefix("--") for name in names if not name.endswith((".help", "+")))


def complete_flags(args: Sequence[str]) -> list[str]:
    """Give the value ``true`` to boolean options that stand alone, so that they are flags.

    Args:
        args: The command line. A boolean option that is followed by a value, or holds one, stays as it is.
    """
    completed = []
    for arg, following in zip_longest(args, args[1:], fillvalue="--"):
        alone = arg.startswith("--") and "=" not in arg and following.startswith("-")
        flag = alone and arg[2:].replace(".init_args.", ".") in boolean_options()
        completed.append(f"{arg}=true" if flag else arg)
    return completed


def _decided(group: str) -> set[int | str]:
    return {name.partition(".")[2] for name in DECIDED if name.startswith(f"{group}.")}


def take(options: list[str], *names: str) -> list[str]:
    """Take every occurrence of an option out of a command line.

    Args:
        options: The command line, which loses them.
        names: The option's names, with their dashes.

    Returns:
        Their values, in order.

    Raises:
        UsageError: When one of them has no value.
    """
    values, rest = [], []
    remaining = iter(options)
    for option in remaining:
        name, equals, value = option.partition("=")
        if name not in names:
            rest.append(option)
            continue
        given = value if equals else next(remaining, "")
        if not given or (not equals and given.startswith("--")):
            raise UsageError(f"{name}: expected a value after it, got none; see --help")
        values.append(given)
    options[:] = rest
    return values
