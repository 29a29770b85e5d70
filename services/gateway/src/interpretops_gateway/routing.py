"""Routes that say who may use them: before a body is read, the caller is known and allowed.

Every route of the edge states its access with `needs(...)` or `PUBLIC`; one that does not cannot be
made. What a route needs stands in the OpenAPI document, and the tests try every route against it.
"""

import dataclasses
from typing import TYPE_CHECKING, Any

import grpc
from fastapi import APIRouter, Depends, Security, params
from fastapi.dependencies.utils import get_flat_params
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer
from interpretops_platform.rpc.call import acting_as
from interpretops_platform.rpc.problems import Problem
from interpretops_platform.security.principal import Scope
from starlette.datastructures import Headers, QueryParams
from starlette.exceptions import HTTPException
from starlette.types import Receive, Send
from starlette.types import Scope as AsgiScope

from interpretops_gateway.problems import OPENAI, OpenAIError, ProblemDocument, ProblemError

if TYPE_CHECKING:
    from interpretops_gateway.edge import Edge

_PROBLEM: dict[str, Any] = {
    "model": ProblemDocument,
    "content": {
        "application/problem+json": {"schema": {"$ref": "#/components/schemas/ProblemDocument"}}
    },
}

_BEARER = HTTPBearer(
    scheme_name="bearer",
    description="An API key of this installation (`iop_…`) or a token of its identity provider.",
    auto_error=False,
)


async def _everybody() -> None:
    """Marks a route that asks nobody who they are."""


PUBLIC = Depends(_everybody)
"""Marks a route that asks nobody who they are."""


def needs(*scopes: Scope) -> params.Security:
    """Marks a route that asks its caller for all of these scopes; for none, only who it is."""
    marked: params.Security = Security(_BEARER, scopes=[scope.value for scope in scopes])
    return marked


@dataclasses.dataclass(frozen=True)
class Access:
    """Who may use a route.

    Attributes:
        public: Whether nobody is asked.
        scopes: What a caller needs otherwise.
    """

    public: bool
    scopes: tuple[Scope, ...] = ()


class EdgeRoute(APIRoute):
    """A route that lets its caller in, or not, before anything else is done for it.

    Attributes:
        access: Who may use it.
    """

    access: Access

    def __init__(self, path: str, endpoint: Any, **options: Any) -> None:
        access = _access(options.get("dependencies") or ())
        if access is None:
            raise ValueError(f"{path} does not say who may use it: give it needs(...) or PUBLIC")
        given = options.get("responses") or {}
        options["responses"] = {**_responses(path, access), **given}
        super().__init__(path, endpoint, **options)
        self.access = access
        self._query = sorted(
            field.alias
            for field in get_flat_params(self.dependant)
            if isinstance(field.field_info, params.Query)
        )

    async def handle(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        """Serve a request whose path is this route's."""
        if scope["method"] not in (self.methods or ()):
            raise HTTPException(405, headers={"allow": ", ".join(sorted(self.methods or ()))})
        if self.access.public:
            _require_known(scope["query_string"], self._query)
            await super().handle(scope, receive, send)
            return
        edge: Edge = scope["app"].state.edge
        headers = Headers(scope=scope)
        given = headers.getlist("authorization")
        principal = await edge.authenticator.authenticate(given[0] if len(given) == 1 else None)
        scope["state"]["tenant"] = str(principal.tenant_id)
        allowance = await edge.rates.take(principal.tenant_id)
        scope["state"]["rate_remaining"] = allowance.remaining
        if not allowance.allowed:
            raise ProblemError(
                Problem(
                    grpc.StatusCode.RESOURCE_EXHAUSTED,
                    "this tenant asks for more than its rate allows",
                    "wait as long as Retry-After says",
                    retry_after=allowance.retry_after,
                )
            )
        for needed in self.access.scopes:
            principal.require(needed)
        _require_known(scope["query_string"], self._query)
        if self.body_field is not None:
            _require_json(headers)
        with acting_as(principal):
            await super().handle(scope, receive, send)


def router(*tags: str) -> APIRouter:
    """A router whose routes are `EdgeRoute`s, under these headings of the documentation."""
    return APIRouter(tags=list(tags), route_class=EdgeRoute)


def _access(dependencies: Any) -> Access | None:
    for dependency in dependencies:
        if dependency is PUBLIC:
            return Access(public=True)
        if isinstance(dependency, params.Security) and dependency.dependency is _BEARER:
            scopes = tuple(Scope(scope) for scope in dependency.scopes or ())
            return Access(public=False, scopes=scopes)
    return None


def _responses(path: str, access: Access) -> dict[int | str, dict[str, Any]]:
    openai = path.startswith(OPENAI)
    shape: dict[str, Any] = {"model": OpenAIError} if openai else _PROBLEM
    kinds = {"default": "What else went wrong."}
    if not access.public:
        kinds = {
            "401": "The caller did not prove who it is.",
            "403": "The caller is known and may not do this.",
            "422": "A part of the request is wrong; `errors` names the fields.",
            "429": "The tenant asks for too much at once; wait as long as `Retry-After` says.",
            **kinds,
        }
    if openai:
        kinds["400"] = "A part of the request is wrong; `param` names the field."
        kinds["422"] = "Not used here: see 400."
    return {status: {**shape, "description": text} for status, text in kinds.items()}


def _require_known(query: bytes, known: list[str]) -> None:
    """A misspelt filter would be a list of everything, and nobody would know."""
    errors = [
        {
            "type": "extra_forbidden",
            "loc": ("query", name),
            "msg": f"is no parameter of this request; it has {', '.join(known) or 'none'}",
            "input": None,
        }
        for name in (QueryParams(query) if query else ())
        if name not in known
    ]
    if errors:
        raise RequestValidationError(errors)


def _require_json(headers: Headers) -> None:
    if headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers:
        return
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json" and not (
        kind.startswith("application/") and kind.endswith("+json")
    ):
        raise HTTPException(415)
