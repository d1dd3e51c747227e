"""What is decided about one document being edited here: pure state, told the time, returning effects.

`Room` is the door; `collab.node.live_room` performs what it returns. Nothing in this package awaits.
"""

from collab.room.awareness import AwarenessTable
from collab.room.effects import (
    Answer,
    Broadcast,
    Disconnect,
    Echo,
    Effect,
    Greet,
    Integrate,
    Integrated,
    Proposal,
    Publish,
    PublishAwareness,
    Receipt,
    Record,
    Renew,
    Saved,
    Send,
    Withdraw,
)
from collab.room.foreign import Foreign, ForeignUpdate
from collab.room.room import Room
from collab.room.session import Identity, Role, Session

__all__ = [
    "Answer",
    "AwarenessTable",
    "Broadcast",
    "Disconnect",
    "Echo",
    "Effect",
    "Foreign",
    "ForeignUpdate",
    "Greet",
    "Identity",
    "Integrate",
    "Integrated",
    "Proposal",
    "Publish",
    "PublishAwareness",
    "Receipt",
    "Record",
    "Renew",
    "Role",
    "Room",
    "Saved",
    "Send",
    "Session",
    "Withdraw",
]
