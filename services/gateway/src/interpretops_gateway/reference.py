"""What the OpenAPI document says about the whole, and the page that shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi.openapi.docs import get_swagger_ui_html

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.requests import Request
    from starlette.responses import HTMLResponse

DESCRIPTION = """
Trace a model, learn its features, find the circuit behind a risk, fit a policy that steers it, measure
the policy, and write the audit report. Every result is an immutable **artifact** that names the
artifacts it was made from. People may give it a **name** (`PUT /names/sae_v1`), which then stands for
its id in bodies and where an artifact is looked at.

**Callers** send `Authorization: Bearer` and an API key (`iop_…`) or a token of the configured identity
provider. What a route needs stands beside it. A caller sees its own tenant and nothing else: another
tenant's id is a 404. A revoked key is refused within some seconds.

**Long work** answers `202` with the job, `Location: /jobs/{id}` and `Retry-After`. Follow it at
`/jobs/{id}/events`, or send `Prefer: wait=60` to be answered when it is done, in full. Send an
`Idempotency-Key` so that a request whose answer was lost can be repeated: under one key there is one
job.

**Errors** are problem documents (RFC 9457): `detail` says what is wrong, `fix` what to do about it, and
`errors` names the fields and parameters at fault. One that a request does not have is refused, not
ignored. Routes below `/v1` answer in OpenAI's shape instead.

**Lists** are newest first, in pages: give `next_cursor` as `cursor`. What is added meanwhile moves
nothing.

**Rates** are counted per tenant; `RateLimit-Remaining` says what is left, `429` comes with
`Retry-After`.
"""

TAGS = [
    {"name": "traces", "description": "Run prompts through a model and keep its activations."},
    {"name": "dictionaries", "description": "Learn features (sparse autoencoders)."},
    {"name": "circuits", "description": "Find the heads, MLPs and features behind a risk."},
    {"name": "policies", "description": "Write, check, approve and activate what steers a model."},
    {"name": "drift", "description": "Whether policies still see what they were fitted on."},
    {"name": "steering", "description": "Answer with and without a policy, side by side."},
    {"name": "openai", "description": "Steered models for any OpenAI client."},
    {"name": "evaluation", "description": "Measure a policy: the Risk Card."},
    {"name": "reports", "description": "Write the audit report with its APP mapping."},
    {"name": "jobs", "description": "Follow long work, and stop it."},
    {"name": "artifacts", "description": "What was made, from what, and its files."},
    {"name": "keys", "description": "API keys of the tenant."},
    {"name": "tenant", "description": "One's own tenant, what it keeps, and its end."},
    {"name": "audit", "description": "Who did what."},
    {"name": "operations", "description": "Health, metrics, and who one is."},
]

_PAGE_POLICY = (
    "default-src 'none'; connect-src 'self'; img-src 'self' data: https://fastapi.tiangolo.com; "
    "style-src 'unsafe-inline' https://cdn.jsdelivr.net; "
    "script-src 'unsafe-inline' https://cdn.jsdelivr.net; frame-ancestors 'none'"
)


def add_reference(app: FastAPI) -> None:
    """Show the OpenAPI document at `/docs`, for people."""

    async def docs(_: Request) -> HTMLResponse:
        page = get_swagger_ui_html(openapi_url="/openapi.json", title="InterpretOps")
        page.headers["content-security-policy"] = _PAGE_POLICY
        return page

    app.add_route("/docs", docs, include_in_schema=False)
