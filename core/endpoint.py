"""Where the log's server is; importing this does not bring the client."""

from __future__ import annotations

import os
from urllib.parse import urlsplit

import msgspec

from headway.core.errors import UnavailableError


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """Where a server listens and who to be there; `url` may be several, separated by commas."""

    url: str
    user: str = ""
    password: str = ""

    @property
    def urls(self) -> list[str]:
        return [one.strip() for one in self.url.split(",") if one.strip()]

    @property
    def places(self) -> str:
        """Hosts and ports, without whatever else a URL may hold, such as a password."""
        return ", ".join(urlsplit(one).netloc.rpartition("@")[2] or "an endpoint without a host" for one in self.urls)


def unreachable(endpoint: Endpoint, error: BaseException | None) -> UnavailableError:
    """Why there is no connection, as far as is known."""
    if error is not None and "authorization" in str(error).lower():
        return UnavailableError(
            f"the server at {endpoint.places} refused the user or password",
            next="check the credentials; those of the built-in server are made by `headway up`",
        )
    words = "no answer in time" if error is None else _words(error)
    return UnavailableError(
        f"the log's server at {endpoint.places} cannot be reached: {words}",
        next="start that server (`headway up` where it is Headway's own), or check HEADWAY_NATS_URL",
    )


def _words(error: BaseException) -> str:
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno).lower()
    return str(error).removeprefix("nats: ") or type(error).__name__
