"""Train a model: ``python train.py`` trains the default recipe; ``python train.py --help`` lists recipes and options.

It is ``glimpse train``, for a checkout that is not installed.
"""

import sys

from glimpse.cli.app import main
from glimpse.cli.interruption import Interrupts

if __name__ == "__main__":
    with Interrupts():
        sys.exit(main(["train", *sys.argv[1:]], program="python train.py"))
