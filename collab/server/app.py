"""The composition root: settings become a store, an engine, a hub, and the application in front of them.

`Collab` is what people hold: `collab serve` runs its ``app``; others mount it in their own FastAPI application, give
their lifespan to `Collab.lifespan`, and call `Collab.sign_out` where people sign out.
"""

from __future__ import annotations

import random
import secrets
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.routing import WebSocketRoute

from collab import __version__
from collab.bus import RedisBus, alone
from collab.engine.inline import InlineEngine
from collab.engine.isolated import IsolatedEngine
from collab.engine.process import ProcessOptions
from collab.errors import Misuse
from collab.node import ConnectionLimits, Hub, HubLimits, RoomLimits
from collab.node.connections import ANONYMOUS
from collab.room import Identity
from collab.server.addresses import trusted_hosts
from collab.server.admission import MAX_SESSION_S
from collab.server.allowance import Rates
from collab.server.auth import Access, JwtAccess, Origins, authenticator, contained, running
from collab.server.guard import BodyLimits, Guard, Rest
from collab.server.health import Health
from collab.server.hosts import Hosts
from collab.server.http import api
from collab.server.metrics import Metrics
from collab.server.page import page_routes
from collab.server.refusals import Refusals
from collab.server.revoking import as_long_as, revoke
from collab.server.websocket import EndpointLimits, YjsEndpoint
from collab.settings import Settings
from collab.settings.objections import objections_when_mounted
from collab.store import SqlStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from fastapi import FastAPI
    from starlette.types import ASGIApp

    from collab.bus import Bus
    from collab.engine.port import Engine
    from collab.server.auth import Authenticate
    from collab.store.port import Store


class Collab:
    """One node of collab: build it, run ``app`` with its `lifespan`.

    ``authenticate`` replaces what the settings say about auth: see `collab.server.auth.Authenticate`. ``store`` and
    ``engine`` replace what the settings say about those; a store given here is opened and closed by the lifespan.
    In production it raises `Misuse`, which says all that must not be served; `collab serve` has asked for more before.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        authenticate: Authenticate | None = None,
        store: Store | None = None,
        engine: Engine | None = None,
    ) -> None:
        settings = settings or Settings()
        inline = settings.engine == "inline" if engine is None else isinstance(engine, InlineEngine)
        objections = objections_when_mounted(
            settings, own_access=authenticate is not None, own_store=store is not None, inline=inline
        )
        if objections:
            raise Misuse("\n  ".join(("collab must not run with these settings:", *objections)))
        self.settings = settings
        self.store = store or SqlStore(settings.database.get_secret_value(), migrate=settings.migrate)
        self.engine = engine or _engine(settings)
        node = secrets.token_hex(8)
        self.bus = _bus(settings, node)
        self.hub = Hub(
            node=node,
            epoch=time.time_ns(),
            engine=self.engine,
            store=self.store,
            bus=self.bus,
            limits=_limits(settings),
        )
        self._saved: bool | None = None
        """What `drain` brought."""
        self._authenticate = authenticate or authenticator(settings)
        authenticate, origins = contained(self._authenticate), Origins.of(settings)
        refusals = Refusals(
            self.hub.counters,
            per_minute=settings.max_refusals_per_address,
            proxies=trusted_hosts(settings.trusted_proxies),
        )
        self.endpoint = YjsEndpoint(
            self.hub, authenticate, origins, _endpoint_limits(settings), refusals, hosts=Hosts.of(settings)
        )
        """What ``app`` serves below /yjs; `collab serve` calls it without the layers around it."""
        metrics = Metrics(self.hub.counters, refresh=self._refresh_gauges) if settings.metrics else None
        self._health = Health(self.store, draining=lambda: self.hub.draining, clock=time.monotonic, metrics=metrics)
        self.app = self._application(authenticate, origins, refusals)

    def _application(self, authenticate: Authenticate, origins: Origins, refusals: Refusals) -> FastAPI:
        settings = self.settings
        rest = Rest(
            self.hub,
            authenticate,
            origins,
            refusals,
            token_in_url=settings.token_in_url,
            max_token_lifetime_s=self._max_token_lifetime_s,
        )
        app = api(
            rest,
            version=__version__,
            limits=BodyLimits(usual=settings.max_body_bytes, content=settings.max_import_bytes),
            lifespan=self.lifespan,
            hosts=Hosts.of(settings),
            https=settings.is_https,
            openapi=settings.openapi,
        )
        app.router.routes.extend(self._health.routes(metrics=settings.metrics_port is None))
        app.router.routes.append(WebSocketRoute("/yjs/{document}", self.endpoint))
        if settings.serve_page:
            app.router.routes.extend(page_routes(public_url=settings.public_url))
        return app

    @property
    def _max_token_lifetime_s(self) -> float | None:
        asked = self._authenticate
        return asked.max_lifetime_s if isinstance(asked, JwtAccess) else None

    def machine_app(self) -> ASGIApp:
        """What `metrics_port` serves: health and metrics, to machines, under any name."""
        return Guard(Starlette(routes=self._health.routes()), hosts=Hosts())

    def _refresh_gauges(self) -> None:
        counters = self.hub.counters
        counters.queue_bytes = self.hub.connections.waiting_bytes()
        if isinstance(self.engine, IsolatedEngine):
            counters.engine_restarts = self.engine.counters.restarts
        counters.bus_connected = int(self.bus.connected)
        if isinstance(self.bus, RedisBus):
            told = self.bus.counters
            counters.bus_published, counters.bus_received = told.published, told.received
            counters.bus_bad_envelopes, counters.bus_reconnects = told.bad_envelopes, told.reconnects
            counters.bus_dropped = self.bus.dropped

    @asynccontextmanager
    async def lifespan(self, _: object = None) -> AsyncIterator[None]:
        """Everything this node needs while it serves. Usable as, or inside, a FastAPI lifespan."""
        await self.store.open()
        try:
            if isinstance(self.engine, IsolatedEngine):
                await self.engine.start()
            await self.bus.start()
            self.hub.start()
            try:
                async with running(self._authenticate):
                    yield
            finally:
                await self.drain()
                await self.hub.close()
                await self.bus.close()
                await self.engine.close()
        finally:
            await self.store.close()

    async def sign_out(self, subject: str, *, token_id: str | None = None) -> None:
        """Close a user's editors (4401) on every node within five seconds, with Redis and without. Call it while the
        lifespan runs, and have ``authenticate`` refuse from now on what was signed out.

        All of theirs, or with ``token_id`` those that came in with that `Access.token_id`: give each sign-in its own,
        and one browser signs out without the others. What they came in with is refused for twelve hours, as long as an
        editor may stay open (tokens of COLLAB_AUTH=jwt for as long as they are good); without ``token_id`` that is
        every `Access.issued_at` before now, and one that is None. Returns when it is committed and in the audit log.
        Raises `StoreUnavailable`, then ask again, and `Misuse` for what is no subject or token id.
        """
        access, kept_s = Access(Identity(subject), {}), as_long_as(self._max_token_lifetime_s or MAX_SESSION_S)
        if token_id is not None:
            await revoke(self.hub, access, "token", token_id, kept_s=kept_s)
        elif subject == ANONYMOUS:
            raise Misuse("anonymous is everybody nobody knows, and nobody's subject")
        else:
            await revoke(self.hub, access, "subject", subject, kept_s=kept_s)

    async def drain(self) -> bool:
        """Save everything and send everybody away with "come back"; True when all is saved.

        Once: whoever calls again hears what the first call brought, and False while it is under way or was cut short.
        """
        if self._saved is None:
            self._saved = False
            self._saved = await self.hub.drain(self.settings.drain_timeout_s)
        return self._saved


def _endpoint_limits(settings: Settings) -> EndpointLimits:
    return EndpointLimits(
        outbox_bytes=settings.outbox_bytes,
        max_frame_bytes=settings.max_frame_bytes,
        rates=Rates(
            messages_per_s=settings.messages_per_s,
            burst_messages=settings.burst_messages,
            bytes_per_s=settings.bytes_per_s,
            burst_bytes=settings.burst_bytes,
        ),
        authentication_s=settings.authentication_s,
        token_in_url=settings.token_in_url,
    )


def _engine(settings: Settings) -> Engine:
    if settings.engine == "inline":
        return InlineEngine(max_document_bytes=settings.max_document_bytes)
    options = ProcessOptions(
        memory_bytes=settings.engine_memory_mib << 20, max_document_bytes=settings.max_document_bytes
    )
    return IsolatedEngine(options=options, live_deadline_s=settings.engine_deadline_s)


def _bus(settings: Settings, node: str) -> Bus:
    if settings.redis is None:
        return alone()
    return RedisBus(
        settings.redis.get_secret_value(),
        node=node,
        rng=random.Random(),  # noqa: S311 - jitter, not secrets
        prefix=settings.redis_prefix,
        sharded=settings.redis_sharded,
        secret=settings.bus_secret.get_secret_value().encode() if settings.bus_secret else None,
    )


def _limits(settings: Settings) -> HubLimits:
    return HubLimits(
        connections=ConnectionLimits(
            per_node=settings.max_sessions,
            per_room=settings.max_sessions_per_room,
            per_user=settings.max_sessions_per_user,
            per_link=settings.max_sessions_per_link,
        ),
        room=RoomLimits(
            show_plain_at_once=settings.isolation == "fast",
            unsaved_bytes=settings.unsaved_bytes_per_room,
            unsaved_bytes_per_node=settings.unsaved_bytes,
            max_awareness_bytes=settings.max_awareness_bytes,
            many_clients=settings.many_clients,
            keep_alive_every=settings.keep_alive_s,
            awareness_expires_after=settings.awareness_expiry_s,
        ),
        unload_after=settings.unload_after_s,
        compact_after_updates=settings.compact_after_updates,
        drain_spread=settings.drain_spread_s,
    )
