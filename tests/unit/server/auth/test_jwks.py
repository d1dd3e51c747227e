"""Keys by address: fetched once for everybody, kept through an outage, and nothing but a plain answer is taken."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import structlog
from cryptography.hazmat.primitives.asymmetric import ec
from structlog.testing import capture_logs

from collab.errors import CloseCode, Misuse, Unauthenticated, Unavailable, close_code_for
from collab.server.auth import JwksKeys, JwtAccess, jwks
from tests.unit.server.auth.signing import PRIVATE, Clock, Provider, bearing, jwk, private_jwk, signed, token

OLD, NEW = PRIVATE["ES256"], ec.generate_private_key(ec.SECP256R1())


def by(key: Any, kid: str) -> str:
    return token(key=key, algorithm="ES256", kid=kid)


class Scene:
    """A provider, the keys it publishes as one server sees them, and that server's door."""

    def __init__(self, provider: Provider, **more: Any) -> None:
        self.provider = provider
        self.clock = Clock()
        self.keys = JwksKeys(provider.URL, clock=self.clock, client=provider.client(), **more)
        self.door = JwtAccess(self.keys)

    async def subject(self, text: str) -> str:
        return (await self.door(bearing(text), "d")).identity.subject

    async def settled(self) -> None:
        """What is fetched in the background has been."""
        await self.keys._fetched()


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    made = Scene(Provider(jwk("ES256", OLD, kid="old")))
    yield made
    await made.keys.close()


async def test_i3_the_first_token_waits_for_the_keys_and_the_next_do_not_ask(scene: Scene) -> None:
    for _ in range(3):
        assert await scene.subject(by(OLD, "old")) == "ann"
    assert scene.provider.asked == 1


async def test_i3_keys_are_fetched_at_start_before_anybody_comes(scene: Scene) -> None:
    scene.keys.start()
    await scene.settled()
    assert [key.id for key in scene.keys.known] == ["old"]
    assert scene.provider.asked == 1


async def test_i3_after_ten_minutes_they_are_fetched_anew_behind_everybodys_back(scene: Scene) -> None:
    await scene.subject(by(OLD, "old"))
    scene.clock.now += jwks.FRESH_S
    scene.provider.answers.clear()
    for _ in range(5):
        assert await scene.subject(by(OLD, "old")) == "ann"  # without waiting: nobody answers yet
    await asyncio.sleep(0)
    assert scene.provider.asked == 2
    scene.provider.keys = [jwk("ES256", NEW, kid="new")]
    scene.provider.answers.set()
    await scene.settled()
    assert await scene.subject(by(NEW, "new")) == "ann"
    assert scene.provider.asked == 2


async def test_i3_a_key_that_was_taken_back_is_not_believed_any_more(scene: Scene) -> None:
    text = by(OLD, "old")
    await scene.subject(text)
    scene.provider.keys = [jwk("ES256", NEW, kid="new")]
    scene.clock.now += jwks.FRESH_S
    await scene.subject(text)
    await scene.settled()
    with pytest.raises(Unauthenticated):  # remembered or not
        await scene.subject(text)


async def test_i3_rotation_a_new_key_is_found_by_the_first_token_that_names_it(scene: Scene) -> None:
    await scene.subject(by(OLD, "old"))
    scene.provider.keys.append(jwk("ES256", NEW, kid="new"))
    assert await scene.subject(by(NEW, "new")) == "ann"
    assert await scene.subject(by(OLD, "old")) == "ann"
    assert scene.provider.asked == 2


async def test_i3_fifty_unknown_key_ids_at_once_are_one_fetch_and_a_minute_of_them_one_more(scene: Scene) -> None:
    await scene.subject(by(OLD, "old"))
    scene.provider.answers.clear()
    scene.provider.keys.append(jwk("ES256", NEW, kid="49"))
    waiting = [asyncio.create_task(scene.subject(by(NEW, str(n)))) for n in range(50)]
    while scene.provider.asked < 2:
        await asyncio.sleep(0)
    scene.provider.answers.set()
    answers = await asyncio.gather(*waiting, return_exceptions=True)
    assert answers[49] == "ann"
    assert [type(answer) for answer in answers[:49]] == [Unauthenticated] * 49
    for second in range(1, 60):
        scene.clock.now += 1
        with pytest.raises(Unauthenticated):
            await scene.subject(by(NEW, f"made up {second}"))
    assert scene.provider.asked == 2
    scene.clock.now += 1
    with pytest.raises(Unauthenticated):
        await scene.subject(by(NEW, "made up"))
    assert scene.provider.asked == 3


async def test_i3_a_known_key_id_with_a_wrong_signature_or_algorithm_asks_nobody(scene: Scene) -> None:
    await scene.subject(by(OLD, "old"))
    for bad in (by(NEW, "old"), signed("RS256", kid="old"), signed("EdDSA")):
        with pytest.raises(Unauthenticated):
            await scene.subject(bad)
    assert scene.provider.asked == 1


async def test_i3_a_client_that_goes_away_does_not_take_the_keys_from_the_others(scene: Scene) -> None:
    scene.provider.answers.clear()
    first, second = (asyncio.create_task(scene.subject(by(OLD, "old"))) for _ in range(2))
    while not scene.provider.asked:
        await asyncio.sleep(0)
    first.cancel()
    scene.provider.answers.set()
    assert await second == "ann"
    assert scene.provider.asked == 1


async def test_i3_through_an_outage_the_keys_known_are_believed_for_a_day_and_then_clients_come_back_later(
    scene: Scene,
) -> None:
    await scene.subject(by(OLD, "old"))
    scene.provider.down = True
    scene.clock.now += jwks.MAX_STALE_S - 1
    assert await scene.subject(by(OLD, "old")) == "ann"
    await scene.settled()
    assert scene.provider.asked == 2
    scene.clock.now += 1
    with pytest.raises(Unavailable) as unavailable:  # the same token, verified a moment ago
        await scene.subject(by(OLD, "old"))
    assert close_code_for(unavailable.value) is CloseCode.UNAVAILABLE
    scene.provider.down = False
    scene.clock.now += jwks.RETRY_S
    assert await scene.subject(by(OLD, "old")) == "ann"


async def test_i3_while_the_provider_is_down_it_is_asked_seldom(scene: Scene) -> None:
    scene.provider.down = True
    for _ in range(20):
        with pytest.raises(Unavailable):
            await scene.subject(by(OLD, "old"))
    assert scene.provider.asked == 1
    scene.clock.now += jwks.RETRY_S
    with pytest.raises(Unavailable):
        await scene.subject(by(OLD, "old"))
    assert scene.provider.asked == 2


async def test_i3_an_unknown_key_id_during_an_outage_is_no_verdict_on_the_token(scene: Scene) -> None:
    await scene.subject(by(OLD, "old"))
    scene.provider.down = True
    for _ in range(3):
        with pytest.raises(Unavailable):
            await scene.subject(by(NEW, "new"))
    assert scene.provider.asked == 2
    scene.provider.down = False
    scene.provider.keys.append(jwk("ES256", NEW, kid="new"))
    scene.clock.now += jwks.LOOK_AGAIN_S
    assert await scene.subject(by(NEW, "new")) == "ann"


async def test_d02_symmetric_and_private_keys_at_the_address_are_left_out() -> None:
    entries = [{"kty": "oct", "k": "A" * 43, "kid": "s"}, private_jwk("EdDSA", kid="p"), jwk("ES256", kid="good")]
    scene = Scene(Provider(*entries))
    assert await scene.subject(by(OLD, "good")) == "ann"
    assert [key.id for key in scene.keys.known] == ["good"]
    await scene.keys.close()
    scene = Scene(Provider(*entries[:2]))
    with pytest.raises(Unavailable):
        await scene.subject(by(OLD, "good"))
    await scene.keys.close()


async def test_i1_only_keys_of_the_algorithms_allowed_are_taken() -> None:
    scene = Scene(Provider(jwk("ES256", kid="e"), jwk("RS256", kid="r")), algorithms=["ES256"])
    assert await scene.subject(by(OLD, "e")) == "ann"
    with pytest.raises(Unauthenticated):
        await scene.subject(signed("RS256", kid="r"))
    await scene.keys.close()


@pytest.mark.parametrize(
    "url",
    [
        "http://id.example/keys",
        "http://127.0.0.1.evil.example/keys",
        "http://localhost.evil.example/",
        "ftp://id.example/keys",
        "file:///etc/passwd",
        "https://",
        "https://user:pass@id.example/keys",
        "https://id.example/keys#x",
        "https://id.example:port/keys",
        "https://[::1/keys",
        "//id.example/keys",
        "",
    ],
)
def test_k01_an_address_that_somebody_on_the_way_answers_for_is_refused(url: str) -> None:
    with pytest.raises(Misuse):
        JwksKeys(url)


async def test_closing_ends_what_is_under_way(scene: Scene) -> None:
    scene.provider.answers.clear()
    scene.keys.start()
    while not scene.provider.asked:
        await asyncio.sleep(0)
    await scene.keys.close()
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "jwks-fetch"]


async def test_i3_a_key_set_without_a_usable_key_leaves_the_old_ones() -> None:
    scene = Scene(Provider(jwk("ES256", kid="old")))
    await scene.subject(by(OLD, "old"))
    scene.provider.keys = []
    scene.clock.now += jwks.FRESH_S
    await scene.subject(by(OLD, "old"))
    await scene.settled()
    assert await scene.subject(by(OLD, "old")) == "ann"
    await scene.keys.close()


async def test_h10_a_fetch_logs_nothing_in_the_name_of_the_request_that_began_it(scene: Scene) -> None:
    with (
        capture_logs(processors=[structlog.contextvars.merge_contextvars]) as lines,
        structlog.contextvars.bound_contextvars(request="of a stranger"),
    ):
        await scene.subject(by(OLD, "old"))
    assert [(line["event"], "request" in line) for line in lines] == [("jwks_fetched", False)]
