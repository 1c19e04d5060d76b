"""Train a model: ``python train.py`` trains the default recipe; ``python train.py --help`` says what else there is.

The same as ``glimpse train``, for a checkout in which nothing is installed.
"""

import sys

from glimpse.cli.app import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]], program="python train.py"))
