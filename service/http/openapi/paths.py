"""All paths of the API, and what holds for an operation because of its path."""

from service.http.openapi import open_inference, own, platforms, tensorflow_serving
from service.http.openapi.operations import JsonObject
from service.serving.auth import open_paths
from service.serving.problems import has_error_member
from service.settings import Settings


def paths(settings: Settings) -> JsonObject:
    """The path items of OpenAPI, by path without the root path."""
    operations = (
        own.paths(settings)
        | tensorflow_serving.paths(settings)
        | open_inference.paths(settings)
        | platforms.paths(settings)
    )
    chosen = platforms.chosen_paths(settings)
    return {
        path: {
            method: operation.described(
                path,
                needs_key=path not in open_paths(settings),
                error_member=has_error_member(path) or path == settings.platform_predict_route,
            )
            for method, operation in (operations.get(path, {}) | chosen.get(path, {})).items()
        }
        for path in operations | chosen
    }
