"""Marks on the pod that a job runs in, for those who end pods: do not take this one.

Kubernetes picks the pod to remove by its deletion cost, and Karpenter keeps nodes whose pods ask not to
be disrupted. Both read annotations of the pod, so a worker that runs a job sets them, and takes them
away when it waits. They are advice: a pod that is ended all the same hands its job back.
"""

from __future__ import annotations

import http.client
import json
import logging
import os
import socket
import ssl
from pathlib import Path

from interpretops_platform.errors import SettingsError

_LOG = logging.getLogger(__name__)
_SECONDS = 5.0
_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_BUSY = {
    "karpenter.sh/do-not-disrupt": "true",
    "controller.kubernetes.io/pod-deletion-cost": "1000",
}
_IDLE = dict.fromkeys(_BUSY)  # null removes an annotation


class PodMarks:
    """The annotations of this process's own pod.

    Args:
        server: Host and port of the Kubernetes API.
        account: Folder with the token, the namespace and the authority of the service account.
        pod: Name of the pod.

    Raises:
        SettingsError: When there is no service account here.
    """

    def __init__(self, server: tuple[str, int], account: Path, pod: str) -> None:
        try:
            namespace = (account / "namespace").read_text().strip()
            self._tls = ssl.create_default_context(cafile=str(account / "ca.crt"))
        except OSError as error:
            raise SettingsError(
                f"this pod has no service account ({error.strerror})",
                fix="mount its token, or set jobs.mark_pod to false",
            ) from None
        self._server = server
        self._token = account / "token"
        self._path = f"/api/v1/namespaces/{namespace}/pods/{pod}"

    @classmethod
    def of_this_pod(cls) -> PodMarks:
        """Those of the pod that this process runs in.

        Raises:
            SettingsError: When it runs in none.
        """
        host, port = (os.environ.get(f"KUBERNETES_SERVICE_{part}") for part in ("HOST", "PORT"))
        if not host or not port:
            raise SettingsError(
                "there is no Kubernetes around this process", fix="set jobs.mark_pod to false"
            )
        return cls((host, int(port)), _ACCOUNT, socket.gethostname())

    def busy(self) -> None:
        """A job runs here."""
        self._annotate(_BUSY)

    def idle(self) -> None:
        """No job runs here."""
        self._annotate(_IDLE)

    def _annotate(self, annotations: dict[str, str] | dict[str, None]) -> None:
        connection = http.client.HTTPSConnection(*self._server, timeout=_SECONDS, context=self._tls)
        try:
            connection.request(
                "PATCH",
                self._path,
                body=json.dumps({"metadata": {"annotations": annotations}}),
                headers={
                    "content-type": "application/merge-patch+json",
                    "authorization": f"Bearer {self._token.read_text().strip()}",  # it is renewed
                },
            )
            status = connection.getresponse().status
            if status >= http.HTTPStatus.BAD_REQUEST:
                _LOG.warning("this pod could not be marked: the API answers %d", status)
        except (OSError, http.client.HTTPException) as error:
            # The job matters more than the mark.
            _LOG.warning("this pod could not be marked: %s", error)
        finally:
            connection.close()
