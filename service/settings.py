"""The environment and arguments, read once into one frozen, validated value.

Nothing here looks at the machine or at a file: ``runtime.sizing`` works out what the settings mean
on this machine.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_origin

import msgspec
from msgspec import Meta
from msgspec.structs import FieldInfo

from service.inference.formats import DEFAULT_FORMATS, READABLE_FORMATS

PREFIX = "LABELSERVE_"
DEFAULT_MODEL = Path(__file__).resolve().parent.parent / "models" / "default.onnx"

# What the kubelet puts into each pod about a Service named labelserve or labelserve-something, as
# name=value: no setting of ours. Other names, and other values of these, are judged.
_SERVICE_LINK = re.compile(
    r"""LABELSERVE(?:_[A-Z0-9_]+)?_(?:
        SERVICE_HOST=[0-9a-fA-F.:]+
        | SERVICE_PORT(?:_[A-Z0-9_]+)?=[0-9]+
        | PORT(?:_[0-9]+_(?:TCP|UDP|SCTP))?=(?:tcp|udp|sctp)://[0-9a-fA-F.:\[\]]+:[0-9]+
        | PORT_[0-9]+_(?:TCP|UDP|SCTP)_(?:
            PROTO=(?:tcp|udp|sctp) | PORT=[0-9]+ | ADDR=[0-9a-fA-F.:]+
        )
    )""",
    re.VERBOSE,
)

# Where a setting's variable is not LABELSERVE_ and its name: the first that is set counts. Vertex
# AI sets AIP_*, SageMaker SAGEMAKER_BIND_TO_PORT.
_PLAIN_VARIABLES = {
    "port": ("PORT", "AIP_HTTP_PORT", "SAGEMAKER_BIND_TO_PORT"),
    "platform_predict_route": ("AIP_PREDICT_ROUTE",),
    "platform_health_route": ("AIP_HEALTH_ROUTE",),
}

# What a value that its pattern does not fit is told.
_EXPECTED = {
    "name": "a name has up to 128 letters, digits, '.', '_' and '-'",
    "shadow": "the version that is asked too, by its number or a label, such as canary",
    "root_path": "a path such as /classify: begins with /, does not end with it, and has no more"
    " than letters, digits, '.', '_', '~', '-' in between",
    "cors_origins": "origins are * or scheme://host[:port] as browsers send it, separated by"
    " commas: in lower case, without a path, and without the scheme's own port",
    "platform_predict_route": "a path begins with /",
    "platform_health_route": "a path begins with /",
}

# How a host begins that is the path of a socket file.
UNIX = "unix:"

# Bytes that boundaries and part headers may add to the images of a form.
MULTIPART_OVERHEAD = 64 * 1024

Port = Annotated[int, Meta(ge=1, le=65535)]
Count = Annotated[int, Meta(ge=1)]
CountOrAuto = Annotated[int, Meta(ge=0)]
Seconds = Annotated[float, Meta(gt=0, le=1e9)]
SecondsOrNone = Annotated[float, Meta(ge=0, le=1e9)]
Percent = Annotated[float, Meta(ge=0, le=100)]
HeaderBytes = Annotated[int, Meta(ge=8190, le=32768)]
Name = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9._-]{1,128}\Z")]
RootPath = Annotated[str, Meta(pattern=r"\A(?:/[A-Za-z0-9._~-]+)+\Z")]
Version = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9._-]{1,128}\Z")]
Route = Annotated[str, Meta(pattern=r"\A/[A-Za-z0-9._~:/-]*\Z")]
Origin = Annotated[
    str,
    Meta(
        pattern=r"\A(?:\*|(?!http://.*:80\Z)(?!https://.*:443\Z)"
        r"[a-z][a-z0-9+.-]*://(?:[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?)\Z"
    ),
]


class SettingsError(Exception):
    """A variable of the environment that cannot be understood; the message names it."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator may set. Field ``name`` is the variable ``LABELSERVE_NAME``.

    ``port`` and the routes of a platform have variables of their own, as platforms set them. Every
    field is described in docs/settings.md.
    """

    model: Path = DEFAULT_MODEL
    name: Name | None = None
    host: str = "127.0.0.1"
    port: Port = 8000
    root_path: RootPath | None = None
    cors_origins: tuple[Origin, ...] = ()
    page: bool = True
    platform_predict_route: Route | None = None
    platform_health_route: Route | None = None

    worker: Literal["asyncio", "gthread"] = "asyncio"

    # Sizes; 0 chooses by the cores that the process may use.
    workers: CountOrAuto = 0
    inference_threads: CountOrAuto = 0
    decoders: CountOrAuto = 0
    providers: tuple[str, ...] = ("cpu",)
    max_batch_size: CountOrAuto = 0
    max_in_flight: CountOrAuto = 0

    # What one request may hold.
    max_header_bytes: HeaderBytes = 8190  # of one field, as usual among servers
    max_image_bytes: Count = 20_000_000
    max_pixels: Count = 50_000_000
    formats: tuple[str, ...] = DEFAULT_FORMATS
    max_batch_files: Count = 64
    max_batch_bytes: Count = 64_000_000

    max_buffered_bytes: Count = 256_000_000
    max_connections: Count = 8192

    # How long things may take.
    request_timeout: Seconds = 30
    head_timeout: Seconds = 10
    body_timeout: Seconds = 30
    keep_alive: SecondsOrNone = 75  # longer than most balancers keep an idle connection
    drain_seconds: SecondsOrNone = 0
    graceful_timeout: Seconds = 30

    # Without keys, every client may ask.
    api_keys: tuple[str, ...] = ()
    api_keys_file: Path | None = None
    open_metrics: bool = True
    open_model: bool = False

    model_poll_seconds: Seconds = 2
    canary_percent: Percent = 0

    # The version that is asked too, of a share of the requests.
    shadow: Version | None = None
    shadow_percent: Percent = 10

    log_format: Literal["json", "plain"] = "json"
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @classmethod
    def from_environ(
        cls, environ: Mapping[str, str] = os.environ, arguments: Mapping[str, str] | None = None
    ) -> Self:
        """Read the settings.

        Kubernetes' variables about Services (``LABELSERVE_SERVICE_HOST``) are passed over.

        Args:
            environ: the variables.
            arguments: what the command line says, by field; it wins.

        Raises:
            SettingsError: a value that does not parse or fit, or an unknown ``LABELSERVE_`` name.
        """
        values = {}
        for field in msgspec.structs.fields(cls):
            given = _given(field.name, environ, arguments or {})
            if given is not None:
                values[field.name] = _parsed(field, *given)
        if values.get("api_keys") == ():  # which would admit every client
            raise SettingsError(f"{PREFIX}API_KEYS is empty: give a key, or leave it unset")
        known = {variable_name(field.name) for field in msgspec.structs.fields(cls)}
        unknown = sorted(
            name
            for name, value in environ.items()
            if name.startswith(PREFIX)
            and name not in known
            and not _SERVICE_LINK.fullmatch(f"{name}={value}")
        )
        if unknown:
            raise SettingsError(f"{', '.join(unknown)}: no such setting; there are {sorted(known)}")
        try:
            return cls(**values)
        except ValueError as error:
            raise SettingsError(str(error)) from error

    def __post_init__(self) -> None:
        unreadable = [name for name in self.formats if name not in READABLE_FORMATS]
        if unreadable or not self.formats:
            raise ValueError(
                f"{PREFIX}FORMATS={','.join(self.formats)}:"
                f" formats are {', '.join(READABLE_FORMATS)}"
            )

        if not self.providers:
            raise ValueError(f"{PREFIX}PROVIDERS is empty, cpu is the least")
        # Health is asked without a key.
        if self.platform_health_route and self.platform_health_route == self.platform_predict_route:
            raise ValueError("AIP_HEALTH_ROUTE and AIP_PREDICT_ROUTE have to differ")

    @property
    def socket_path(self) -> str | None:
        """The path of the socket file to listen on, if it is one."""
        return self.host.removeprefix(UNIX) if self.host.startswith(UNIX) else None

    @property
    def has_keys(self) -> bool:
        """Whether clients need a key."""
        return bool(self.api_keys or self.api_keys_file)

    @property
    def largest_body(self) -> int:
        """Bytes of the largest body that is read at all."""
        return max(self.max_image_bytes, self.max_batch_bytes) + MULTIPART_OVERHEAD


def variable_name(field: str) -> str:
    """The environment's name of a setting, the first one where it has several."""
    return _variables(field)[0]


def _variables(field: str) -> tuple[str, ...]:
    return _PLAIN_VARIABLES.get(field, (PREFIX + field.upper(),))


def _given(
    field: str, environ: Mapping[str, str], arguments: Mapping[str, str]
) -> tuple[str, str] | None:
    """What a setting was called where it was given, and its text."""
    if field in arguments:
        return f"--{field}", arguments[field]
    return next(((name, environ[name]) for name in _variables(field) if name in environ), None)


def _parsed(field: FieldInfo, name: str, text: str) -> Any:
    value: Any = text
    if get_origin(field.type) is tuple:
        value = tuple(part.strip() for part in text.split(",") if part.strip())
    elif field.type in (Path, Path | None):
        if not text:
            raise SettingsError(f"{name} is empty, a file is expected")
        return Path(text)
    try:
        return msgspec.convert(value, field.type, strict=False)
    except msgspec.ValidationError as error:
        reason = _EXPECTED.get(field.name, error)
        raise SettingsError(f"{name}={text!r}: {reason}") from error
