"""Lightning's parser of a training's options, and the complete help that it prints. It imports torch."""

from typing import Any, NoReturn

import yaml
from jsonargparse import get_loader, set_dumper, set_loader
from pytorch_lightning.cli import LightningArgumentParser

from glimpse.cli.train.class_names import import_path, renamed, short_name
from glimpse.cli.train.messages import DECIDED, ParserError
from glimpse.cli.train.options.names import COMMAND_OPTIONS
from glimpse.data.datamodule import ImageData
from glimpse.training.families import FAMILIES
from glimpse.training.precision import PrecisionTrainer

SHORT_NAMES = "short-names"
"""The parser's mode: YAML in which our classes stand by short names."""


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
    for option in COMMAND_OPTIONS:
        parser.add_argument(f"--{option.name}", type=option.type, default=option.default, help=option.help)


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
    parser.add_lightning_class_args(PrecisionTrainer, "trainer")
    return parser


def complete_help() -> str:
    """Every option there is, those of the other families last."""
    parsers = [complete_parser()]
    for kind, family in FAMILIES.items():
        if kind != "hard":
            parser = TrainingParser(
                usage=f"the options of --model {family.__name__}:", description=None, add_help=False
            )
            parser.add_class_arguments(family, "model", skip=_decided("model"))
            parsers.append(parser)
    return "\n\n".join(parser.format_help().removeprefix("usage: ").replace("``", "") for parser in parsers)


def _decided(group: str) -> set[int | str]:
    return {name.partition(".")[2] for name in DECIDED if name.startswith(f"{group}.")}


def _read(text: str) -> Any:
    return renamed(get_loader("yaml")(text), import_path)


def _write(options: Any) -> str:
    text: str = yaml.safe_dump(renamed(options, short_name), sort_keys=False, allow_unicode=True)
    return text


set_loader(SHORT_NAMES, _read, (yaml.YAMLError,))
set_dumper(SHORT_NAMES, _write)
