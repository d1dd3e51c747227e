"""What OpenAPI promises, asked for by schemathesis: requests of every kind the schema allows (E08).

Bounded to a minute of the default run; more by `HYPOTHESIS_EXAMPLES=1000 pytest tests/attacks/test_schema.py`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import CHECKS, load_all_checks

from tests.attacks.conftest import Ground
from tests.attacks.routes import openapi
from tests.support.tokens import bearer

load_all_checks()
CHECKED = CHECKS.get_by_names(
    [
        "not_a_server_error",
        "status_code_conformance",
        "content_type_conformance",
        "response_headers_conformance",
        "response_schema_conformance",
    ]
)
EXAMPLES = int(os.environ.get("HYPOTHESIS_EXAMPLES", "10"))
schema = schemathesis.openapi.from_dict(openapi())


@pytest.fixture
def target(guarded: Ground) -> Iterator[str]:
    """Where the server is, with a document that generated names often hit."""
    with httpx.Client(base_url=guarded.door.http, trust_env=False, headers=bearer(access="admin"), timeout=30) as rest:
        for name in ("0", "acme:specs:42"):
            rest.post("/v1/documents", json={"name": name})
    return guarded.door.http


@schema.parametrize()
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=list(HealthCheck),
    database=None,
    derandomize=True,
)
def test_e08_every_answer_is_one_the_schema_promises(case: schemathesis.Case, target: str) -> None:
    case.call_and_validate(base_url=target, headers=bearer(access="admin"), checks=CHECKED, timeout=30)
