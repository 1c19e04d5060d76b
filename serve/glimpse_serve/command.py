"""``glimpse serve``: what it prints, checks and starts."""

import argparse
import os
import sys
from collections.abc import Callable
from dataclasses import fields

from glimpse.cli.usage import UsageError
from glimpse_serve.settings import Settings, add_arguments, settings_of

__all__ = ["add_arguments", "run"]

SECRET = frozenset(("keys",))
"""Settings that are not printed as they are."""


def run(args: argparse.Namespace) -> int:
    """Serve models until told to stop.

    Args:
        args: What :func:`glimpse_serve.settings.add_arguments` 's parser made of the command line.

    Returns:
        The exit status.

    Raises:
        ValueError: One of ours, when a setting is none or the doors are open to the world.
    """
    if args.make_key is not None:
        from glimpse_serve.gateway.api_keys import make_key

        secret, line = make_key(args.make_key)
        print(f"key (shown once, for the client): {secret}\nline for the file of keys:         {line}")
        return 0
    settings = settings_of(args, os.environ)
    from glimpse_serve.gateway.api_keys import KeyRing
    from glimpse_serve.gateway.authentication import check_access
    from glimpse_serve.models.names import named_models
    from glimpse_serve.server import serve

    named_models(settings)
    check_access(settings, KeyRing(settings.keys_file, settings.keys))
    if settings.max_workers and not settings.ray:
        raise UsageError("--max-workers: expected --ray beside it, which can add workers; or leave it out")
    run_it = _on_ray() if settings.ray else serve
    print(told(settings), file=sys.stderr, flush=True)
    return run_it(settings)


def _on_ray() -> Callable[[Settings], int]:
    try:
        from glimpse_serve import on_ray
    except ModuleNotFoundError as error:
        if error.name != "ray":
            raise
        raise UsageError("--ray needs ray, which is not installed; pip install 'glimpse-attention[ray]'") from None
    return on_ray.run


def told(settings: Settings) -> str:
    """Say on one line how the service runs: what differs from the defaults, and the rest.

    Args:
        settings: How it runs.
    """
    said = []
    for field in fields(settings):
        value = getattr(settings, field.name)
        if field.name in SECRET:
            value = "(given)" if value else ""
        text = (
            ",".join(value)
            if isinstance(value, tuple)
            else str(value).lower()
            if isinstance(value, bool)
            else str(value)
        )
        said.append(f"{field.name}={text or '-'}")
    return f"glimpse serve: {' '.join(said)}"
