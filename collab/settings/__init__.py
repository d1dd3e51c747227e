"""Everything that can be set, why a server must not be started with it, and how people read it."""

from collab.settings.fields import Settings
from collab.settings.objections import ENV_PREFIX, LOOPBACK_HOSTS
from collab.settings.table import Setting, describe, markdown_table, sentences

__all__ = ["ENV_PREFIX", "LOOPBACK_HOSTS", "Setting", "Settings", "describe", "markdown_table", "sentences"]
