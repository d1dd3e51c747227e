"""What runs: this process and its live rooms. `Hub` is the door."""

from collab.node.connections import ConnectionLimits, ConnectionManager
from collab.node.counters import Counters
from collab.node.hub import Hub, HubLimits
from collab.node.live_room import LiveRoom
from collab.node.outbox import Connection, Frame, Outbox
from collab.node.present import Presence
from collab.node.surroundings import RoomLimits

__all__ = [
    "Connection",
    "ConnectionLimits",
    "ConnectionManager",
    "Counters",
    "Frame",
    "Hub",
    "HubLimits",
    "LiveRoom",
    "Outbox",
    "Presence",
    "RoomLimits",
]
