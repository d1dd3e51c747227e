"""How the nodes of one deployment hear of each other: the port and its adapters."""

from collab.bus.memory import MemoryBus, MemoryBusEnd, alone
from collab.bus.port import EVERYWHERE, Bus, Envelope, Kind, Subscription
from collab.bus.redis import RedisBus, RedisTimes

__all__ = [
    "EVERYWHERE",
    "Bus",
    "Envelope",
    "Kind",
    "MemoryBus",
    "MemoryBusEnd",
    "RedisBus",
    "RedisTimes",
    "Subscription",
    "alone",
]
