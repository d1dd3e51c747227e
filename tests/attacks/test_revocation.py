"""D12: what is taken away on one real node is gone on the other, with Redis and without; how soon is measured apart."""

from __future__ import annotations

import asyncio
import shutil
from random import Random

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from collab.errors import CloseCode
from tests.attacks.revocation import DOCUMENT, PATIENCE_S, measure, token, two_nodes

KINDS = {"grant taken back", "grant lowered", "subject revoked", "token revoked", "link revoked"}


@pytest.mark.postgres
@pytest.mark.skipif(shutil.which("redis-server") is None, reason="no redis-server on this machine")
async def test_d12_d14_what_is_taken_away_on_one_node_is_gone_on_the_other_with_redis_and_without() -> None:
    async with two_nodes() as cluster:
        for redis_is_up in (True, False):
            if not redis_is_up:
                cluster.redis.kill()
            samples = await measure(cluster, 2, Random(1))
            assert {kind: len(times) for kind, times in samples.items()} == dict.fromkeys(KINDS, 2)
        await _one_of_two_nodes_takes_a_ticket([node.url for node in cluster.nodes])


async def _one_of_two_nodes_takes_a_ticket(urls: list[str]) -> None:
    headers = {"Authorization": f"Bearer {token('ben', documents={DOCUMENT: 'read'})}"}
    for _ in range(5):
        async with httpx.AsyncClient(trust_env=False, timeout=PATIENCE_S, headers=headers) as client:
            ticket = (await client.post(f"{urls[0]}/v1/tickets", json={"document": DOCUMENT})).json()["ticket"]
        assert sorted(await asyncio.gather(*(_enters(url, ticket) for url in urls * 2))) == [False, False, False, True]


async def _enters(url: str, ticket: str) -> bool:
    address = f"{url.replace('http', 'ws')}/yjs/{DOCUMENT}?token={ticket}"
    async with connect(address, compression=None, proxy=None) as socket:
        try:
            await socket.recv()
        except ConnectionClosed:
            assert socket.close_code == CloseCode.UNAUTHENTICATED.code
            return False
        return True
