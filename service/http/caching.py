"""Answers that a client may keep, and has to ask for again."""

from flask import Response, request


def revalidated(response: Response) -> Response:
    """The response with an ETag, or 304 in its place where the client has the same already."""
    response.add_etag()
    etag, _ = response.get_etag()
    if etag and request.if_none_match.contains_weak(etag):
        response = Response(status=304)
        response.set_etag(etag)
    response.headers["Cache-Control"] = "no-cache"
    return response
