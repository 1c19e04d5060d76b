"""The routes of the description: for machines, for people, and the way there from the service's front door."""

import re
from collections.abc import Callable, Mapping

from glimpse_serve.http.compression import pack
from glimpse_serve.http.request import Handler, Request, Response, json_response
from glimpse_serve.openapi.document import openapi_document
from glimpse_serve.openapi.operations import HTML
from glimpse_serve.openapi.page import page
from glimpse_serve.routes.context import AppContext

Routes = Mapping[str, Mapping[str, Handler]]
_HOST = re.compile(r"[A-Za-z0-9._-]{1,253}(:\d{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](:\d{1,5})?")
"""What may stand in a command that people paste."""


class DocumentationRoutes:
    """The handlers of the description.

    Args:
        house: What all handlers share.
        others: The routes of all others.
        wants_key: Says whether requests need an API key.
    """

    def __init__(self, house: AppContext, others: Routes, wants_key: Callable[[], bool]) -> None:
        self._house, self._wants_key = house, wants_key
        self._all = {**others, **self.routes()}

    def routes(self) -> dict[str, Mapping[str, Handler]]:
        """Handlers by the templates of their paths."""
        return {"/openapi.json": {"GET": self.openapi}, "/docs": {"GET": self.docs}, "/": {"GET": self.home}}

    async def home(self, asked: Request) -> Response:
        """Send people to the page."""
        asked.query()
        return json_response({}, 307, {"Location": "/docs"})

    async def openapi(self, asked: Request) -> Response:
        """Describe the service in OpenAPI."""
        asked.query()
        return pack(json_response(self._described()), asked.headers.get("accept-encoding", ""))

    async def docs(self, asked: Request) -> Response:
        """Describe the service on a page."""
        asked.query()
        served = list(self._house.registry)
        written = page(self._described(), served, _address(asked), self._wants_key())
        return pack(Response(written.encode(), 200, HTML), asked.headers.get("accept-encoding", ""))

    def _described(self) -> dict[str, object]:
        return openapi_document(self._all, self._house.settings, self._house.registry, self._wants_key())


def _address(asked: Request) -> str:
    """Where the service is, as a client calls it; its own name for it where that is none."""
    host = asked.headers.get("host", "")
    return f"{asked.scope.get('scheme', 'http')}://{host if _HOST.fullmatch(host) else 'localhost'}"
