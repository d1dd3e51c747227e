"""Who is asking, and what they may do: the seam `Authenticate`, its implementations, and which pages are believed.

`OpenAccess` lets everybody write and is meant for one machine; `JwtAccess` believes signed tokens; whoever mounts
collab brings their own. Tokens are never logged and never part of an error's text.
"""

from collab.server.auth.access import Access, Authenticate
from collab.server.auth.claims import LEEWAY_S, MAX_LIFETIME_S
from collab.server.auth.configured import authenticator, running
from collab.server.auth.contained import contained
from collab.server.auth.jwks import JwksKeys
from collab.server.auth.jwt_access import JwtAccess
from collab.server.auth.keys import FixedKeys, Key, Keys, keys_of_file, secret_key
from collab.server.auth.open_access import OpenAccess, open_access
from collab.server.auth.origins import Origins
from collab.server.auth.tokens import MAX_TOKEN_CHARS, SUBPROTOCOL, TOKEN_SUBPROTOCOL, select_subprotocol, token_of

__all__ = [
    "LEEWAY_S",
    "MAX_LIFETIME_S",
    "MAX_TOKEN_CHARS",
    "SUBPROTOCOL",
    "TOKEN_SUBPROTOCOL",
    "Access",
    "Authenticate",
    "FixedKeys",
    "JwksKeys",
    "JwtAccess",
    "Key",
    "Keys",
    "OpenAccess",
    "Origins",
    "authenticator",
    "contained",
    "keys_of_file",
    "open_access",
    "running",
    "secret_key",
    "select_subprotocol",
    "token_of",
]
