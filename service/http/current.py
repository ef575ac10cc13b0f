"""What a route works with: the application's service, and the request's context."""

from flask import Flask, current_app, g

from service.http.endpoints import Endpoints
from service.serving.context import RequestContext
from service.serving.service import Service

_KEY = "labelserve"
_ENDPOINTS_KEY = "labelserve.endpoints"

# Where a server leaves the context of a request that it has begun itself.
CONTEXT_KEY = "labelserve.context"


def install(app: Flask, service: Service, endpoints: Endpoints) -> None:
    """Give an application its service, and the routes that take images."""
    app.extensions[_KEY] = service
    app.extensions[_ENDPOINTS_KEY] = endpoints


def service_of(app: Flask) -> Service:
    """The service of an application."""
    found: Service = app.extensions[_KEY]
    return found


def endpoints_of(app: Flask) -> Endpoints:
    """The routes of an application that take images."""
    found: Endpoints = app.extensions[_ENDPOINTS_KEY]
    return found


def current_endpoints() -> Endpoints:
    """Those of the application that is answering."""
    found: Endpoints = current_app.extensions[_ENDPOINTS_KEY]
    return found


def current_service() -> Service:
    """The service of the application that is answering."""
    found: Service = current_app.extensions[_KEY]
    return found


def current_context() -> RequestContext:
    """The context of the request that is being answered."""
    found: RequestContext = g.context
    return found
