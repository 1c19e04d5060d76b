"""``python -m glimpse``, and the ``glimpse`` command."""

import sys

from glimpse.cli.interruption import end_on_interrupt


def main() -> int:
    """Run the command line that the process was started with."""
    return end_on_interrupt(_run)


def _run() -> int:
    from glimpse.cli import app  # what it imports can be interrupted, too

    return app.main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
