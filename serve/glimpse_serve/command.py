"""The command ``glimpse serve``: checks the settings, prints them, and starts the service."""

import argparse
import os
import sys
from collections.abc import Callable
from dataclasses import fields

from glimpse.cli.usage import UsageError
from glimpse_serve.settings import Settings, add_arguments, settings_from

__all__ = ["add_arguments", "run"]

SECRET = frozenset(("keys",))
"""Settings whose values are not printed."""


def run(args: argparse.Namespace) -> int:
    """Serve models until a signal to stop.

    Args:
        args: The parsed arguments of :func:`glimpse_serve.settings.add_arguments`.

    Returns:
        The exit status.

    Raises:
        ValueError: A subclass of it, when a setting is invalid, or the service would be open to other machines by
            mistake.
    """
    if args.make_key is not None:
        from glimpse_serve.gateway.api_keys import make_key

        secret, line = make_key(args.make_key)
        print(f"key (shown once, for the client): {secret}\nline for the file of keys:         {line}")
        return 0
    settings = settings_from(args, os.environ)
    from glimpse_serve.gateway.api_keys import KeyRing, exposure_warnings
    from glimpse_serve.gateway.authentication import check_access
    from glimpse_serve.models.names import named_models
    from glimpse_serve.server import serve

    named_models(settings)
    check_access(settings, KeyRing(settings.keys_file, settings.keys))
    if settings.max_workers and not settings.ray:
        raise UsageError("--max-workers: expected --ray beside it, which can add workers; or leave it out")
    serve_with = _on_ray() if settings.ray else serve
    print(settings_line(settings), file=sys.stderr, flush=True)
    for warning in exposure_warnings(settings.keys_file, settings.tls_key):
        print(f"glimpse serve: warning: {warning}", file=sys.stderr, flush=True)
    return serve_with(settings)


def _on_ray() -> Callable[[Settings], int]:
    try:
        from glimpse_serve import on_ray
    except ModuleNotFoundError as error:
        if error.name != "ray":
            raise
        raise UsageError("--ray needs ray, which is not installed; pip install 'glimpse-attention[ray]'") from None
    return on_ray.run


def settings_line(settings: Settings) -> str:
    """Return the settings on one line, secrets hidden.

    Args:
        settings: The settings.
    """
    parts = []
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
        parts.append(f"{field.name}={text or '-'}")
    return f"glimpse serve: {' '.join(parts)}"
