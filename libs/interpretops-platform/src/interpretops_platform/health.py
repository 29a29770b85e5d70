"""Whether a program on this machine does what it is for, for whoever starts and watches programs."""

from __future__ import annotations

import http.client
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from interpretops_platform.errors import SettingsError
from interpretops_platform.rpc.tls import CertificateFiles

if TYPE_CHECKING:
    from interpretops_platform.settings import Settings

_SECONDS = 3.0


def is_healthy(name: str, settings: Settings) -> bool:
    """Whether a service of these settings, or the edge, is ready on this machine.

    Args:
        name: `edge`, or a service such as `tracer`.
        settings: Where it listens.

    Raises:
        SettingsError: When there is no such service.
    """
    if name == "edge":
        return answers_http(settings.edge.port, "/readyz")
    address = getattr(settings.services, name, None)
    if not isinstance(address, str):
        raise SettingsError(
            f"there is no service {name!r}",
            fix=f"use one of edge, {', '.join(sorted(type(settings.services).model_fields))}",
        )
    host, _, port = urlsplit(address).path.strip("/").rpartition(":")
    if "port" in settings.grpc.model_fields_set:
        port = str(settings.grpc.port)
    credentials = None
    if settings.grpc.tls is not None:
        credentials = CertificateFiles(settings.grpc.tls).current().channel()
    return serves_grpc(int(port), credentials=credentials, name=host)


def serves_grpc(
    port: int, *, credentials: grpc.ChannelCredentials | None = None, name: str = "localhost"
) -> bool:
    """Whether a gRPC server on this machine says SERVING.

    Args:
        port: Where it listens.
        credentials: For a server with certificates.
        name: What its certificate calls it.
    """
    target = f"127.0.0.1:{port}"
    # No back-off remembered from an earlier check.
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.ssl_target_name_override", name)]
    channel = (
        grpc.insecure_channel(target, options=options)
        if credentials is None
        else grpc.secure_channel(target, credentials, options=options)
    )
    with channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(), timeout=_SECONDS
            )
        except grpc.RpcError:
            return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def answers_http(port: int, path: str) -> bool:
    """Whether an HTTP server on this machine answers a path with 200."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_SECONDS)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
