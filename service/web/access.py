"""Who may ask: API keys, several at once so that they can be rotated."""

import hmac
from hashlib import sha256
from pathlib import Path

from service.settings import Settings
from service.web.errors import Unauthorized
from service.web.exchange import Headers

_ALWAYS_OPEN = ("/health", "/health/live", "/health/ready")


class Access:
    """Keys from the settings and from a file, which may change while the service runs.

    Only digests are kept and compared, every one of them each time, in constant time.
    """

    def __init__(self, settings: Settings) -> None:
        self._given = settings.api_keys
        self._file = settings.api_keys_file
        self._open = set(_ALWAYS_OPEN)
        self._open |= {"/metrics"} if settings.open_metrics else set()
        self._open |= {"/model"} if settings.open_model else set()
        self._digests: tuple[bytes, ...] = ()
        self.refresh()

    def refresh(self) -> None:
        """Read the file of keys anew.

        Raises:
            OSError: it cannot be read; the keys stay as they are.
        """
        keys = [*self._given, *_keys_of(self._file)]
        self._digests = tuple(_digest(key) for key in keys)

    def check(self, path: str, headers: Headers) -> None:
        """Let a request with a valid key pass, and every request to an open path.

        Raises:
            Unauthorized: it has none.
        """
        if not (self._given or self._file) or path in self._open:
            return
        scheme, _, bearer = headers.get("Authorization", "").partition(" ")
        key = bearer.strip() if scheme.lower() == "bearer" else headers.get("X-API-Key", "")
        digest = _digest(key)
        valid = False
        for known in self._digests:
            valid |= hmac.compare_digest(digest, known)
        if not valid:
            raise Unauthorized("send a valid key: Authorization: Bearer … or X-API-Key: …")


def _digest(key: str) -> bytes:
    return sha256(key.encode("utf-8", "surrogateescape")).digest()


def _keys_of(file: Path | None) -> list[str]:
    """One key a line; empty lines and lines that begin with # are passed over."""
    if file is None:
        return []
    lines = (line.strip() for line in file.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line and not line.startswith("#")]
