"""pycrdt-websocket on uvicorn, as its documentation starts it on an ASGI server: no store, nothing kept."""

import asyncio
import os

import uvicorn
from pycrdt.websocket import ASGIServer, WebsocketServer  # type: ignore[import-not-found]


async def main() -> None:
    """Serves until it is told to end."""
    websocket_server = WebsocketServer()
    app = ASGIServer(websocket_server)
    config = uvicorn.Config(app, port=int(os.environ["PORT"]), log_level="warning")
    async with websocket_server:
        await uvicorn.Server(config).serve()


asyncio.run(main())
