"""``python -m glimpse``, and the ``glimpse`` command."""

import sys

from glimpse.cli import app


def main() -> int:
    """Run the command line that the process was started with."""
    return app.main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
