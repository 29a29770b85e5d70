"""An S3 server in memory on $VGW_PORT that answers $VGW_HEALTH, as the Versity S3 Gateway does."""

import os

from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import run_simple

moto = DomainDispatcherApplication(create_backend_app)
health = os.environ.get("VGW_HEALTH")


def application(environ, start_response):  # noqa: ANN001, ANN201 - the interface is WSGI
    """Answer the health check, and leave the rest to the server."""
    if environ["PATH_INFO"] == health:
        start_response("200 OK", [("content-type", "text/plain")])
        return [b"OK"]
    return moto(environ, start_response)


run_simple("0.0.0.0", int(os.environ["VGW_PORT"].lstrip(":")), application, threaded=True)
