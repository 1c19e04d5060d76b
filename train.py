"""Train a model: ``python train.py`` trains the default recipe; ``python train.py --help`` lists recipes and options.

It is ``glimpse train``, for a checkout that is not installed.
"""

import sys

from glimpse.cli.app import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]], program="python train.py"))
