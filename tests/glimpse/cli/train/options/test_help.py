from glimpse.cli.train.command import main
from glimpse.cli.train.options.help import short_help
from glimpse.cli.train.recipes import recipes
from glimpse.data.datasets import DATASETS
from glimpse.training.families import FAMILIES


def test_help_fits_a_screen(capsys):
    assert main(["--help"], "glimpse train") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 44
    assert max(map(len, lines)) <= 120


def test_help_names_all_that_can_be_chosen():
    text = short_help("glimpse train")
    assert all(name in text for name in (*recipes(), *DATASETS, *(family.__name__ for family in FAMILIES.values())))
