"""The routes that take images, and whether a request may send its body to one of them."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from werkzeug.routing import BaseConverter

from service.runtime.records import AllHeaders
from service.serving.context import RequestContext
from service.serving.errors import NotReady
from service.serving.pipeline import Read
from service.serving.served import Asked
from service.serving.service import Service
from service.serving.uploads import check_codings

# Paths whose routes are remembered: clients ask for few.
_REMEMBERED = 256
# A part of a path that varies. Behind a colon is what TensorFlow Serving's paths ask of a model.
_PART = "[^/:]+"


class PathPart(BaseConverter):
    """The same for werkzeug."""

    regex = _PART
    part_isolating = True


def rule_of(route: str) -> str:
    """A route, with ``{name}`` for a part that varies, as werkzeug writes it."""
    return route.replace("{", "<").replace("}", ">")


@dataclass(frozen=True)
class Endpoint:
    """A route that takes images by POST, and its wire format.

    ``route``: the path, with ``{name}`` for a part that varies. ``check_head`` takes the declared
    media type and length and gives the largest body to read; it raises RequestError.
    ``background``: it reads ``BackgroundTask``s, which are refused first.
    """

    route: str
    check_head: Callable[[str, int | None], int]
    read: Read
    background: bool = False

    @property
    def rule(self) -> str:
        """The route as werkzeug writes it."""
        return rule_of(self.route)

    @property
    def pattern(self) -> re.Pattern[str]:
        """The route as a regular expression, with a group for each part that varies."""
        parts = re.split(r"\{(\w+)\}", self.route)
        return re.compile(
            "".join(
                f"(?P<{part}>{_PART})" if i % 2 else re.escape(part) for i, part in enumerate(parts)
            )
        )


@dataclass(frozen=True)
class Found:
    """The endpoint of a path, and what the path says in the parts that vary."""

    endpoint: Endpoint
    arguments: Mapping[str, str]


class Endpoints:
    """All of them, of every wire format.

    Args:
        service: the parts that they stand on.
        endpoints: the first whose route fits a path answers it.
    """

    def __init__(self, service: Service, endpoints: Sequence[Endpoint]) -> None:
        self._settings = service.settings
        self._models = service.models
        self._auth = service.auth
        self._admission = service.admission
        self._state = service.slot.state
        watch = service.shadow.watch
        self.each = tuple(replace(one, read=watch(one.read)) for one in endpoints)
        self._patterns = [(one.pattern, one) for one in self.each]
        self._of_path = lru_cache(_REMEMBERED)(self._match)

    def find(self, method: str, path: str) -> Found | None:
        """The endpoint that a request asks for; None if it is for another route, or for none."""
        return self._of_path(path) if method == "POST" else None

    def _match(self, path: str) -> Found | None:
        for pattern, endpoint in self._patterns:
            found = pattern.fullmatch(path)
            if found is not None:
                return Found(endpoint, found.groupdict())
        return None

    def check_head(
        self,
        found: Found,
        query: str,
        headers: AllHeaders,
        length: int | None,
        context: RequestContext,
    ) -> int:
        """Before a body is read: choose what answers, which ``context.served`` is from then on.

        Returns:
            The number of bytes to read at most.

        Raises:
            RequestError: Unauthorized, NotReady while stopping, UnknownModel, UnsupportedCoding,
                WrongMediaType, BodyTooLarge, or Overloaded.
        """
        self._auth.check(context.path, headers)
        if self._state.draining and not self._settings.drain_seconds:
            raise NotReady("the service is stopping")
        asked = Asked.of(found.arguments, query)
        context.served = self._models.choose(asked, headers, context.request_id)
        check_codings(headers.getlist("Content-Encoding"))
        limit = found.endpoint.check_head(headers.get("Content-Type", ""), length)
        self._admission.check(background=found.endpoint.background)
        return limit
