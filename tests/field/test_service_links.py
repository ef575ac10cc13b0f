"""A Service named like ours: Kubernetes puts variables of our prefix into every pod."""

import pytest
from msgspec.structs import fields

from service.settings import Settings, SettingsError, variable_name

# What the kubelet sets for one port called http, over IPv4 and IPv6, and for one without a name.
LINKS = {
    "{name}_SERVICE_HOST": "10.96.12.7",
    "{name}_SERVICE_PORT": "80",
    "{name}_SERVICE_PORT_HTTP": "80",
    "{name}_PORT": "tcp://10.96.12.7:80",
    "{name}_PORT_80_TCP": "tcp://10.96.12.7:80",
    "{name}_PORT_80_TCP_PROTO": "tcp",
    "{name}_PORT_80_TCP_PORT": "80",
    "{name}_PORT_80_TCP_ADDR": "10.96.12.7",
    "{name}_PORT_53_UDP": "udp://[fd00::7]:53",
    "{name}_PORT_53_UDP_ADDR": "fd00::7",
}


@pytest.mark.parametrize(
    "name", ["LABELSERVE", "LABELSERVE_CANARY", "LABELSERVE_PREDICTOR_DEFAULT", "LABELSERVE_MODEL"]
)
def test_services_beside_ours_do_not_end_the_start(name: str) -> None:
    environ = {shape.format(name=name): value for shape, value in LINKS.items()}
    assert Settings.from_environ({**environ, "PORT": "8001"}) == Settings(port=8001)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("LABELSERVE_PORT", "8000"),  # of whoever means PORT
        ("LABELSERVE_PORT", "tcp://somewhere:80"),
        ("LABELSERVE_SERVICE_HOST", "localhost"),
        ("LABELSERVE_SERVICE_PORT", "http"),
        ("LABELSERVE_SERVICE_HOSTS", "10.96.12.7"),
        ("LABELSERVE_PORT_80", "tcp://10.96.12.7:80"),
        ("LABELSERVE_PORT_80_TCP_NAME", "http"),
        ("LABELSERVE_KEEPALIVE", "5"),
    ],
)
def test_what_is_only_like_them_is_refused(variable: str, value: str) -> None:
    with pytest.raises(SettingsError, match=variable):
        Settings.from_environ({variable: value})


def test_no_setting_can_be_taken_for_one() -> None:
    names = {variable_name(field.name) for field in fields(Settings)}
    ends = ("_SERVICE_HOST", "_PORT", "_ADDR", "_PROTO", "_TCP", "_UDP", "_SCTP")
    assert not [name for name in names if name.endswith(ends) or "_SERVICE_PORT" in name]
