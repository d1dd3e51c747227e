"""How the nodes of one deployment hear of each other: the port and its adapters."""

from collab.bus.memory import MemoryBus
from collab.bus.port import Bus, Envelope, Kind, Subscription

__all__ = ["Bus", "Envelope", "Kind", "MemoryBus", "Subscription"]
