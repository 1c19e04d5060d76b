"""The service under faults: ``python -m benchmarks.serving.faults [--minutes N] [--output FILE]``.

Each fault is one function, with a real service in a process of its own, real clients, and the models that come with
the package. ``--quick`` plays them all in short form; ``--only NAME`` one of them.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from typing import Any

from benchmarks.harness.command_line import command_parser, options_of
from benchmarks.harness.machine import describe, in_words, settle_threads
from benchmarks.harness.reports import figures_table, hand_back

settle_threads()

from benchmarks.serving.faults.crowds import leave, overload, slow  # noqa: E402
from benchmarks.serving.faults.decoding import decoding, metadata  # noqa: E402
from benchmarks.serving.faults.files import hostile_models, large_images, scan_bombs  # noqa: E402
from benchmarks.serving.faults.handshakes import handshakes  # noqa: E402
from benchmarks.serving.faults.lifecycle import corrupt, kill, orphans, reload, soak, stop  # noqa: E402
from benchmarks.serving.faults.protocol import endless, upgrade  # noqa: E402
from benchmarks.serving.faults.sizes import LONG, SHORT, Sizes  # noqa: E402

FAULTS: dict[str, Callable[[Sizes], Awaitable[dict[str, Any]]]] = {
    "overload": overload,
    "stop": stop,
    "kill": kill,
    "orphans": orphans,
    "corrupt": corrupt,
    "reload": reload,
    "slow": slow,
    "leave": leave,
    "endless": endless,
    "upgrade": upgrade,
    "handshakes": handshakes,
    "decoding": decoding,
    "metadata": metadata,
    "scan_bombs": scan_bombs,
    "large_images": large_images,
    "hostile_models": hostile_models,
    "soak": soak,
}


def main(args: Sequence[str]) -> int:
    """Produce the faults and report their figures.

    Args:
        args: The command line.
    """
    parser = command_parser("benchmarks.serving.faults", __doc__)
    parser.add_argument("--only", choices=FAULTS, action="append", help="one fault; may be given several times")
    parser.add_argument("--minutes", type=float, help="of the soak; 30 if left out")
    options = options_of(args, parser)
    sizes = SHORT if options.quick else LONG
    if options.minutes is not None:
        sizes = Sizes(**{**asdict(sizes), "minutes": options.minutes})
    before = describe()
    found: dict[str, dict[str, Any]] = {}
    for name in options.only or FAULTS:
        found[name] = asyncio.run(FAULTS[name](sizes))  # type: ignore[arg-type]
        print(name, found[name], file=sys.stderr, flush=True)
    texts = [in_words(before)]
    for name, figures in found.items():
        title = (FAULTS[name].__doc__ or name).splitlines()[0]
        if all(isinstance(part, dict) for part in figures.values()):
            texts.append(f"{name}. {title}")
            texts += [figures_table(f"{name}: {part}", of_part) for part, of_part in figures.items()]
        else:
            texts.append(figures_table(f"{name}. {title}", figures))
    result = {"quick": options.quick, "machine": before, "sizes": asdict(sizes), "faults": found}
    hand_back("\n\n".join(texts), result, options.output)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
