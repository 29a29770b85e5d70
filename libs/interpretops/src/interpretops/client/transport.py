"""Requests to a platform: repeated where that is safe, and their problems as one line with the fix."""

from __future__ import annotations

import random
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import httpx
from pydantic import BaseModel, ValidationError

from interpretops.errors import InterpretOpsError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_ATTEMPTS = 5
_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 8.0
_TRANSIENT = frozenset({429, 502, 503, 504})
_CONNECT_SECONDS = 5.0
T = TypeVar("T", bound=BaseModel)


class ApiError(InterpretOpsError):
    """The platform refused a request or could not answer it.

    Attributes:
        status: The HTTP status; 0 where there was no answer.
        field: The field of the request at fault, where the platform names one.
        request_id: Finds the request in the platform's logs.
        job: The job that failed, where one did.
    """

    def __init__(
        self,
        problem: str,
        *,
        fix: str,
        status: int = 0,
        field: str | None = None,
        request_id: str | None = None,
        job: str | None = None,
    ) -> None:
        super().__init__(problem, fix=fix)
        self.status = status
        self.field = field
        self.request_id = request_id
        self.job = job


class Transport:
    """One platform, as one caller.

    A request is repeated when no answer came or the platform says that it may work later (429, 502,
    503, 504), as long as to send it twice is to send it once: reads, and submissions under an
    idempotency key.

    Args:
        base_url: Where the edge answers.
        api_key: Who calls.
        timeout: Seconds to wait for an answer.
        http: The client to send with, for tests.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str | None,
        *,
        timeout: float = 60.0,
        http: httpx.Client | None = None,
    ) -> None:
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InterpretOpsError(
                f"{base_url!r} is no address of a platform", fix="write it as http://host:8080"
            )
        self.base_url = base_url.rstrip("/")
        headers = {"accept": "application/json"}
        if api_key:
            headers["authorization"] = f"Bearer {api_key}"
        self._http = httpx.Client() if http is None else http
        self._http.base_url = httpx.URL(self.base_url)
        self._http.headers.update(headers)
        self._timeout = timeout

    def close(self) -> None:
        """Close every connection."""
        self._http.close()

    def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> httpx.Response:
        """Send a request and read its whole answer.

        Args:
            method: Of HTTP.
            path: Below the base address.
            params: Of the query; those that are None are left out.
            body: What is sent as JSON; bytes are JSON already, and sent as they are.
            headers: Further ones; `idempotency-key` lets a submission be repeated.
            timeout: Seconds to wait for an answer, where that is not the usual.

        Raises:
            ApiError: When it was refused or could not be answered.
        """
        request = self._build(method, path, params, body, headers, timeout)
        repeatable = method in ("GET", "PUT", "DELETE") or "idempotency-key" in request.headers
        for attempt in range(1, _ATTEMPTS + 1):
            last = attempt == _ATTEMPTS or not repeatable
            try:
                response = self._http.send(request)
            except httpx.TransportError as error:
                # A connection that was never made can be tried again whatever it was for.
                if last and not (isinstance(error, httpx.ConnectError) and attempt < _ATTEMPTS):
                    raise self._unreachable(error) from error
                self._pause(attempt, None)
                continue
            if response.status_code in _TRANSIENT and not last:
                self._pause(attempt, response.headers.get("retry-after"))
                continue
            if response.is_error:
                raise problem_of(response)
            return response
        raise AssertionError("the last attempt returns or raises")

    @contextmanager
    def stream(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> Iterator[httpx.Response]:
        """Send a request once and read its answer piece by piece; see `request`.

        Raises:
            ApiError: When it was refused, or the connection broke.
        """
        request = self._build(method, path, params, body, headers, timeout)
        try:
            response = self._http.send(request, stream=True)
            try:
                if response.is_error:
                    response.read()
                    raise problem_of(response)
                yield response
            finally:
                response.close()
        except httpx.TransportError as error:
            raise self._unreachable(error) from error

    def _build(
        self,
        method: str,
        path: str,
        params: Mapping[str, Any] | None,
        body: Any,
        headers: Mapping[str, str] | None,
        timeout: float | None,
    ) -> httpx.Request:
        given = {name: value for name, value in (params or {}).items() if value is not None}
        seconds = self._timeout if timeout is None else timeout
        return self._http.build_request(
            method,
            path,
            params=given or None,
            content=body if isinstance(body, bytes) else None,
            json=None if body is None or isinstance(body, bytes) else plain(body),
            headers={
                **({"content-type": "application/json"} if isinstance(body, bytes) else {}),
                **(headers or {}),
            },
            timeout=httpx.Timeout(seconds, connect=_CONNECT_SECONDS),
        )

    def _pause(self, attempt: int, retry_after: str | None) -> None:
        longest = min(_FIRST_PAUSE * 2 ** (attempt - 1), _LONGEST_PAUSE)
        if retry_after is not None and retry_after.isdecimal():
            longest = min(float(retry_after), _LONGEST_PAUSE)
            time.sleep(longest)
        else:
            time.sleep(random.uniform(longest / 2, longest))

    def _unreachable(self, error: httpx.TransportError) -> ApiError:
        reason = str(error) or type(error).__name__
        if isinstance(error, httpx.TimeoutException) and not isinstance(
            error, httpx.ConnectTimeout
        ):
            return ApiError(f"{self.base_url} gave no answer in time", fix="try again later")
        return ApiError(
            f"there is no connection to {self.base_url} ({reason})",
            fix="check the address, and that the platform is up (`mechctl up` starts one here)",
        )


def problem_of(response: httpx.Response) -> ApiError:
    """What a refusal says: a problem document (RFC 9457), or an error in OpenAI's shape."""
    try:
        document: Any = response.json()
    except ValueError:
        document = {}
    if not isinstance(document, dict):
        document = {}
    nested = document.get("error")
    if isinstance(nested, dict):
        document = {"detail": nested.get("message"), "field": nested.get("param"), **nested}
    detail = document.get("detail") or f"the platform answered {response.status_code}"
    field = document.get("field")
    return ApiError(
        str(detail),
        fix=str(document.get("fix") or _FIXES.get(response.status_code, "see the platform's logs")),
        status=response.status_code,
        field=None if field is None else str(field),
        request_id=document.get("request_id") or response.headers.get("x-request-id"),
        job=document.get("job"),
    )


_FIXES = {
    401: "give a valid key with --key or INTERPRETOPS_API_KEY",
    403: "ask an admin for a key with that scope",
    404: "check the address",
    429: "wait a little, and ask less often",
    503: "try again in a moment",
}


def plain(value: Any) -> Any:
    """A body as JSON has it; what is None in a model is left out."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", by_alias=True, exclude_none=True)
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def read(kind: type[T], response: httpx.Response) -> T:
    """An answer as its document.

    Raises:
        ApiError: When it is something else, as a proxy or another server answers.
    """
    try:
        return kind.model_validate_json(response.content)
    except ValidationError as error:
        raise ApiError(
            f"{response.request.url} did not answer as this platform does",
            fix="check the address, and that client and platform are of about the same version",
            status=response.status_code,
        ) from error
