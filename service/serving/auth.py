"""Authentication by API keys: several at once, so that they can be rotated."""

import hmac
import logging
import re
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path

from service.runtime.shared_bytes import SharedBytes
from service.serving.context import Headers
from service.serving.errors import Unauthorized
from service.settings import PREFIX, Settings, SettingsError

_LOG = logging.getLogger("labelserve.auth")
_DIGEST_BYTES = sha256().digest_size
_SAVE = "save it as UTF-8 (in PowerShell: Out-File -Encoding utf8)"
_ALWAYS_OPEN = (
    *(
        "/",
        "/page.css",
        "/page.js",
        "/docs",
        "/openapi.json",
        "/health",
        "/health/live",
        "/health/ready",
        "/ping",
    ),
    *("/v2/health/live", "/v2/health/ready"),
)
# What models say of themselves.
_OF_MODELS = (
    *("/model", "/model/examples"),
    *("/models", "/models/{name}", "/models/{name}/examples"),
)


class UnusableKeys(Exception):
    """The file of keys cannot be read or is no text; the message says which, without the keys."""


def open_paths(settings: Settings) -> frozenset[str]:
    """The paths that need no key, with ``{name}`` for a part that varies."""
    chosen = {"/metrics": settings.open_metrics}
    chosen |= dict.fromkeys(_OF_MODELS, settings.open_model)
    chosen |= {settings.platform_health_route: True} if settings.platform_health_route else {}
    return frozenset(_ALWAYS_OPEN) | {path for path, is_open in chosen.items() if is_open}


class Auth:
    """Keys from the settings and from a file, which may change while the service runs.

    Only digests are kept. A key is compared with all of them, in constant time.

    Args:
        settings: keys, their file, and which routes need none.
        kept: the digests that the service's workers read last.

    Raises:
        SettingsError: the file cannot be used, and no worker has used it before.
    """

    def __init__(self, settings: Settings, kept: SharedBytes) -> None:
        self._kept = kept
        self._locked = settings.has_keys
        self._given = settings.api_keys
        self._file = settings.api_keys_file
        self._open = _pattern(open_paths(settings))
        self._digests: tuple[bytes, ...] = ()
        try:
            self.refresh()
        except UnusableKeys as error:
            self._use_kept(error)

    def _use_kept(self, error: UnusableKeys) -> None:
        """Use the keys that the other workers use: this one replaces a worker that ended."""
        digests = self._kept.load()
        if digests is None:
            raise SettingsError(f"{PREFIX}API_KEYS_FILE={self._file} {error}") from error
        starts = range(0, len(digests), _DIGEST_BYTES)
        self._digests = tuple(digests[i : i + _DIGEST_BYTES] for i in starts)
        _LOG.warning("the keys stay: the file of API keys %s", error)

    def refresh(self) -> None:
        """Read the file of keys anew.

        Raises:
            UnusableKeys: it cannot be used; the keys stay.
        """
        keys = [*self._given, *_keys_of(self._file)]
        self._digests = tuple(_digest(key) for key in keys)
        self._kept.store(b"".join(self._digests))

    def check(self, path: str, headers: Headers) -> None:
        """Let a request with a valid key pass, and every request to an open path.

        Raises:
            Unauthorized: it has none.
        """
        if not self._locked or self._open.fullmatch(path):
            return
        scheme, _, bearer = headers.get("Authorization", "").partition(" ")
        key = bearer.strip() if scheme.lower() == "bearer" else headers.get("X-API-Key", "")
        digest = _digest(key)
        valid = False
        for known in self._digests:
            valid |= hmac.compare_digest(digest, known)
        if not valid:
            raise Unauthorized("send a valid key: Authorization: Bearer … or X-API-Key: …")


def _pattern(paths: Iterable[str]) -> re.Pattern[str]:
    return re.compile("|".join(re.sub(r"\\{\w+\\}", "[^/:]+", re.escape(path)) for path in paths))


def _digest(key: str) -> bytes:
    return sha256(key.encode("utf-8", "surrogateescape")).digest()


def _keys_of(file: Path | None) -> list[str]:
    """One key a line; empty lines and lines that begin with # are skipped.

    Raises:
        UnusableKeys: the file cannot be read, or is not UTF-8 text.
    """
    if file is None:
        return []
    try:
        text = file.read_bytes().decode("utf-8-sig")  # Windows' editors may begin with a mark
    except OSError as error:
        raise UnusableKeys(f"cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UnusableKeys(f"is not UTF-8 text (byte {error.start}); {_SAVE}") from None
    if "\0" in text:
        raise UnusableKeys(f"is not UTF-8 text (it has zero bytes); {_SAVE}")
    lines = (line.strip() for line in text.splitlines())
    return [line for line in lines if line and not line.startswith("#")]
