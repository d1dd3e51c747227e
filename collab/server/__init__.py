"""What lets people in: the FastAPI application, WebSockets, REST and the page. `Collab` is the door."""

from collab.server.app import Collab

__all__ = ["Collab"]
