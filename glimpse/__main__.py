"""``python -m glimpse``, and the ``glimpse`` command."""

import sys

from glimpse.cli.interruption import Interrupts, end_on_interrupt


def main() -> int:
    """Run the command line that the process was started with."""
    with Interrupts() as interrupts:
        return end_on_interrupt(_run, interrupts)


def _run() -> int:
    from glimpse.cli import app  # what it imports can be interrupted, too

    return app.main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
