"""A connection without calls is probed, and kept."""

import asyncio

from interpretops_platform.rpc.settings import GrpcSettings

from .conftest import GET, Jobs, found


class Peers(Jobs):
    """Notes from which connection each call came."""

    def __init__(self):
        self.seen = []

    async def GetJob(self, request, context):  # noqa: N802 - the contract's name
        self.seen.append(context.peer())
        return found()


async def test_probes_of_an_idle_connection_are_no_flood(running, as_operator):
    often = GrpcSettings(keepalive_seconds=1)  # channels do not probe more often
    servicer = Peers()
    async with running(servicer, settings=often) as (_, stub):
        await stub.GetJob(GET)
        await asyncio.sleep(6.5)  # a server takes the fourth probe too many for a flood
        await stub.GetJob(GET)
    first, last = servicer.seen
    assert first == last
