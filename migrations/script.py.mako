"""${message}.

Expands or contracts, never both: nodes of the version before run on while this is done, and after it.
An expansion adds what that version need not know of (columns with a default or NULL) and leaves `collab_schema` alone.
A contraction takes away what no revision since X uses, and says so: UPDATE collab_schema SET oldest = 'X'.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
${imports if imports else ""}
revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = ${repr(branch_labels)}
depends_on = ${repr(depends_on)}


def upgrade() -> None:
    ${upgrades if upgrades else "pass"}


def downgrade() -> None:
    ${downgrades if downgrades else "pass"}
