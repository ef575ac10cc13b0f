"""Real images for schemathesis: random bytes are none."""

from base64 import b64encode
from io import BytesIO

import schemathesis
from hypothesis import strategies as st
from PIL import Image


def _encoded(form: str, size: tuple[int, int], colour: tuple[int, int, int]) -> bytes:
    stream = BytesIO()
    Image.new("RGB", size, colour).save(stream, form)
    return stream.getvalue()


_FORMS = {"JPEG": "jpeg", "PNG": "png", "WEBP": "webp", "GIF": "gif", "BMP": "bmp"}
_SIZES = [((1, 1), (0, 0, 0)), ((9, 7), (200, 40, 90)), ((300, 200), (20, 90, 255))]

for _form, _name in _FORMS.items():
    _images = st.sampled_from([_encoded(_form, *of) for of in _SIZES])
    schemathesis.openapi.media_type(f"image/{_name}", _images)

_ALL = [_encoded(form, *of) for form in _FORMS for of in _SIZES]
schemathesis.openapi.media_type("application/octet-stream", st.sampled_from(_ALL))
schemathesis.openapi.format("byte", st.sampled_from([b64encode(one).decode() for one in _ALL]))
