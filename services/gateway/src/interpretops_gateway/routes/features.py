"""`/dictionaries/{id}/features`: what is known of features, and what people call them."""

import asyncio
from typing import Annotated

from fastapi import Path, Query, Response
from interpretops_platform import annotations
from interpretops_platform.annotations import FeatureName
from interpretops_platform.database.session import tenant_session
from interpretops_platform.errors import NotFoundError
from interpretops_platform.rpc.call import current_principal
from interpretops_platform.security.principal import Scope
from pydantic import BaseModel, Field

from interpretops_gateway.bodies import Body, example
from interpretops_gateway.cards import MOST_BYTES, Cards, FeatureCard
from interpretops_gateway.contracts import ARTIFACT_ID, STORABLE
from interpretops_gateway.edge import Edge, EdgeDep
from interpretops_gateway.etags import CHANGED, IfMatch, etag, revision_of
from interpretops_gateway.pages import Limit, Page
from interpretops_gateway.problems import invalid
from interpretops_gateway.routes.artifacts import locate
from interpretops_gateway.routing import needs, router

routes = router("dictionaries")

DictionaryId = Annotated[
    str,
    Path(
        pattern=ARTIFACT_ID,
        description="The dictionary.",
        examples=["sae_01ARZ3NDEKTSV4RRFFQ69G5FAV"],
    ),
]
Site = Annotated[
    str,
    Path(
        pattern=r"^[a-z][a-z0-9_]{0,63}\.[0-9]{1,4}$",
        description="Where the dictionary reads the model.",
        examples=["resid_post.12"],
    ),
]
Feature = Annotated[int, Path(ge=0, lt=2**31, description="Number of the feature.", examples=[47])]


class FeatureSummary(BaseModel):
    """A feature in a line."""

    index: int
    label: str | None = Field(description="What people call it; null where nobody named it.")
    density: float = Field(description="Share of tokens on which it is active.")
    max_activation: float
    peak_tokens: list[str] = Field(description="The token at each of its strongest peaks.")
    promoted: list[str] = Field(description="The three tokens it makes likelier the most.")


class FeatureDocument(FeatureCard):
    """A feature's card, and what people call it."""

    dictionary: str
    site: str
    label: str | None = Field(description="Null where nobody named it.")
    label_author: str | None
    revision: int = Field(description="Of the label, from 0; it is the `ETag`.")


class LabelBody(Body):
    """What to call a feature."""

    model_config = example({"label": "locks and keys"}, {"label": ""})

    label: str = Field(
        max_length=200, pattern=STORABLE, description="Its name; empty takes it away."
    )


class LabelDocument(BaseModel):
    """What a feature is called."""

    label: str | None
    author: str
    revision: int = Field(description="It is the `ETag`.")


@routes.get(
    "/dictionaries/{dictionary_id}/features/{site}", dependencies=[needs(Scope.ARTIFACTS_READ)]
)
async def list_features(
    edge: EdgeDep,
    dictionary_id: DictionaryId,
    site: Site,
    only: Annotated[
        list[Annotated[int, Field(ge=0, lt=2**31)]] | None,
        Query(max_length=200, description="These features alone, in place of a page."),
    ] = None,
    limit: Limit = 50,
    cursor: Annotated[
        str | None,
        Query(max_length=300, description="`next_cursor` of the page before."),
    ] = None,
) -> Page[FeatureSummary]:
    """List the features of a site that were ever active, by number."""
    cards = await _cards(edge, dictionary_id, site)
    if only is not None:
        found = [card for card in map(cards.get, dict.fromkeys(only)) if card is not None]
        following = None
    else:
        found = cards.after(_cursor(cursor), limit + 1)
        following = str(found[limit - 1].index) if len(found) > limit else None
        found = found[:limit]
    async with tenant_session(edge.database, current_principal().tenant_id) as session:
        indices = [card.index for card in found]
        labels = await annotations.labels_of(session, dictionary_id, site, indices)
    items = [
        FeatureSummary(
            index=card.index,
            label=labels.get(card.index),
            density=card.density,
            max_activation=card.max_activation,
            peak_tokens=[shown.tokens[shown.peak] for shown in card.contexts[:5]],
            promoted=[effect.token for effect in card.promoted[:3]],
        )
        for card in found
    ]
    return Page(items=items, next_cursor=following)


@routes.get(
    "/dictionaries/{dictionary_id}/features/{site}/{feature}",
    dependencies=[needs(Scope.ARTIFACTS_READ)],
)
async def read_feature(
    edge: EdgeDep, dictionary_id: DictionaryId, site: Site, feature: Feature, response: Response
) -> FeatureDocument:
    """Look at a feature: where it is active, how often, and which tokens it moves."""
    cards = await _cards(edge, dictionary_id, site)
    card = cards.get(feature)
    if card is None:
        raise NotFoundError(
            f"there is no card of feature {feature} at {site}: it was never active on the text that "
            "was searched",
            fix="list the features of the site",
        )
    name = FeatureName(dictionary_id, site, feature)
    async with tenant_session(edge.database, current_principal().tenant_id) as session:
        row = await annotations.read_label(session, name)
    revision = 0 if row is None else row.revision
    response.headers["etag"] = etag(revision)
    return FeatureDocument(
        **dict(card),
        dictionary=dictionary_id,
        site=site,
        label=(row.label or None) if row is not None else None,
        label_author=None if row is None else row.author,
        revision=revision,
    )


@routes.put(
    "/dictionaries/{dictionary_id}/features/{site}/{feature}/label",
    dependencies=[needs(Scope.ARTIFACTS_WRITE)],
    responses=CHANGED,
)
async def label_feature(
    edge: EdgeDep,
    dictionary_id: DictionaryId,
    site: Site,
    feature: Feature,
    body: LabelBody,
    response: Response,
    if_match: IfMatch = None,
) -> LabelDocument:
    """Call a feature something, wherever it is shown. It is in the audit log."""
    principal = current_principal()
    name = FeatureName(dictionary_id, site, feature)
    async with tenant_session(edge.database, principal.tenant_id) as session:
        row = await annotations.write_label(
            session, principal, name, body.label.strip(), expected_revision=revision_of(if_match)
        )
        written = LabelDocument(label=row.label or None, author=row.author, revision=row.revision)
    response.headers["etag"] = etag(written.revision)
    return written


async def _cards(edge: Edge, dictionary_id: str, site: str) -> Cards:
    path = f"{site}/cards.json"
    artifact, store, file = await locate(edge, dictionary_id, path)
    if artifact.kind != "dictionary":
        raise NotFoundError(
            f"there is no dictionary {dictionary_id}", fix=f"it is a {artifact.kind}"
        )
    if file.size > MOST_BYTES:
        raise NotFoundError(
            f"the cards of {site} are too many to show one by one ({file.size / 1e6:.0f} MB)",
            fix=f"download {path}, or train with fewer contexts_per_card",
        )
    tenant = str(current_principal().tenant_id)
    kept = edge.cards.find(tenant, file.sha256)
    if kept is not None:
        return kept

    def read() -> Cards:
        return Cards(store.get(store.ref(file.sha256, file.size, file.media_type)))

    return edge.cards.keep(tenant, file.sha256, await asyncio.to_thread(read))


def _cursor(cursor: str | None) -> int:
    if cursor is None:
        return -1
    if not (cursor.isascii() and cursor.isdecimal() and len(cursor) < 11):
        raise invalid(
            "cursor", "this is no cursor of this list", "take next_cursor of the page before"
        )
    return int(cursor)
