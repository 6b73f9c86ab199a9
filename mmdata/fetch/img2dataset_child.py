"""The process that runs `img2dataset.download` for `fetch/img2dataset.py`: `python -m ... request.json`.

img2dataset opens links with urllib and its global opener. The one installed here takes no proxy from the environment,
names us honestly instead of posing as a browser, does not follow redirects unless told to, and knows the cap on bytes.
img2dataset's own workers are spawned from this module, so they install it too.
"""

from __future__ import annotations

import email.message
import json
import sys
import urllib.error
import urllib.request
from http.client import HTTPResponse
from pathlib import Path
from typing import Any


class Manners(urllib.request.BaseHandler):
    """Our user agent on every request, and our cap on every answer."""

    handler_order = 400  # before the handlers that turn bad status codes into errors

    def __init__(self, user_agent: str, max_bytes: int) -> None:
        self._user_agent = user_agent
        self._max_bytes = max_bytes

    def http_request(self, request: urllib.request.Request) -> urllib.request.Request:
        request.add_header("User-agent", self._user_agent)
        return request

    def http_response(self, request: urllib.request.Request, response: HTTPResponse) -> HTTPResponse:
        if 200 < response.status < 300:
            raise urllib.error.HTTPError(
                request.full_url, response.status, response.reason, email.message.Message(), None
            )
        if response.length is None:  # no length said: read up to one byte more than allowed
            read = response.read
            # setattr, since a method is no variable to a type checker
            setattr(response, "read", lambda: read(self._max_bytes + 1))  # noqa: B010
        elif response.length > self._max_bytes:
            raise urllib.error.URLError(f"fetch.too_large: {response.length} bytes")
        return response

    https_request = http_request
    https_response = http_response


def redirects_up_to(number: int) -> urllib.request.HTTPRedirectHandler:
    """A handler that follows `number` redirects, wherever they lead."""

    class Redirects(urllib.request.HTTPRedirectHandler):
        max_redirections = number

    return Redirects()


class NoRedirects(urllib.request.HTTPRedirectHandler):
    """Redirects are errors: their status code is what img2dataset reports."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


def install_opener(request: dict[str, Any]) -> None:
    """Make urllib follow the options in `request`, in this process."""
    proxy = request["proxy"]
    limit = request["max_redirects"]
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({"http": proxy, "https": proxy} if proxy else {}),
        Manners(request["user_agent"], request["max_bytes"]),
        NoRedirects() if limit is None else redirects_up_to(limit),
    )
    urllib.request.install_opener(opener)


if __name__ in ("__main__", "__mp_main__"):
    _request = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    install_opener(_request)
    if __name__ == "__main__":
        import img2dataset

        img2dataset.download(**_request["download"])
