"""The routes of the documentation: the OpenAPI document, the HTML page, and the redirect from ``/``."""

import re
from collections.abc import Callable, Mapping

from glimpse_serve.http.compression import compress
from glimpse_serve.http.request import Request, RequestHandler, Response, json_response
from glimpse_serve.openapi.document import openapi_document
from glimpse_serve.openapi.operations import HTML
from glimpse_serve.openapi.page import render_page
from glimpse_serve.routes.context import AppContext

Routes = Mapping[str, Mapping[str, RequestHandler]]
_HOST = re.compile(r"[A-Za-z0-9._-]{1,253}(:\d{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](:\d{1,5})?")
"""Host headers that are copied into the example commands."""


class DocumentationRoutes:
    """The handlers of the documentation.

    Args:
        context: The shared components.
        others: All other routes.
        requires_key: Returns whether requests need an API key.
    """

    def __init__(self, context: AppContext, others: Routes, requires_key: Callable[[], bool]) -> None:
        self._context, self._requires_key = context, requires_key
        self._prefix = context.settings.path_prefix
        self._routes = {**others, **self.routes()}

    def routes(self) -> dict[str, Mapping[str, RequestHandler]]:
        """Handlers by path template."""
        return {"/openapi.json": {"GET": self.openapi}, "/docs": {"GET": self.docs}, "/": {"GET": self.home}}

    async def home(self, request: Request) -> Response:
        """Redirect to the page."""
        request.query()
        return json_response({}, 307, {"Location": f"{self._prefix}/docs"})

    async def openapi(self, request: Request) -> Response:
        """Return the OpenAPI document."""
        request.query()
        return compress(json_response(self._document()), request.headers.get("accept-encoding", ""))

    async def docs(self, request: Request) -> Response:
        """Return the documentation page."""
        request.query()
        served = list(self._context.registry)
        address = f"{_base_url(request)}{self._prefix}"
        written = render_page(self._document(), served, address, self._requires_key())
        return compress(Response(written.encode(), 200, HTML), request.headers.get("accept-encoding", ""))

    def _document(self) -> dict[str, object]:
        return openapi_document(self._routes, self._context.settings, self._context.registry, self._requires_key())


def _base_url(request: Request) -> str:
    """The URL of the service by the request's Host header; localhost if that is malformed."""
    host = request.headers.get("host", "")
    return f"{request.scope.get('scheme', 'http')}://{host if _HOST.fullmatch(host) else 'localhost'}"
