"""What is objected to in the head of a request, and what is not."""

from __future__ import annotations

import pytest

from collab.server.request_head import MAX_HEADERS, MAX_LINE_BYTES, objection

HOST = (b"host", b"127.0.0.1:8000")


@pytest.mark.parametrize(
    "host", [b"localhost", b"a_b.example:80", b"[::1]:8000", b"[::1]", b"", b"xn--bcher-kva.example.", b"10.0.0.1:"]
)
def test_a04_a_host_of_the_right_form_is_none_of_our_business(host: bytes) -> None:
    assert objection("1.1", b"/", [(b"host", host)], upgrade=True) is None


@pytest.mark.parametrize(
    "host", [b"a b", b"a/b", b"u@a", b"a:b", b"a:80:80", b"[::1", b"a\\b", b"\xff", b"a?b", b"a#b"]
)
def test_a04_a_host_of_another_form_is_refused(host: bytes) -> None:
    refused = objection("1.1", b"/", [(b"host", host)], upgrade=False)
    assert refused is not None
    assert refused.status == 400


def test_a04_http_1_0_knew_no_hosts_and_two_are_too_many() -> None:
    assert objection("1.0", b"/", [], upgrade=False) is None
    for version, headers in (("1.1", []), ("1.0", [HOST, HOST]), ("1.1", [HOST, HOST])):
        assert objection(version, b"/", headers, upgrade=False) == (400, "A request names exactly one host.")


@pytest.mark.parametrize(
    ("status", "version", "url", "more", "upgrade"),
    [
        (505, "0.9", b"/", [], False),
        (505, "2.0", b"/", [], False),
        (414, "1.1", b"/" * (MAX_LINE_BYTES + 1), [], False),
        (431, "1.1", b"/", [(b"x", b"y" * MAX_LINE_BYTES)], False),
        (431, "1.1", b"/", [(b"x", b"y")] * MAX_HEADERS, False),
        (400, "1.0", b"/", [], True),
        (400, "1.1", b"/", [(b"content-length", b"5")], True),
        (400, "1.1", b"/", [(b"transfer-encoding", b"chunked")], True),
    ],
)
def test_a05_a06_what_is_refused(
    status: int, version: str, url: bytes, more: list[tuple[bytes, bytes]], upgrade: bool
) -> None:
    refused = objection(version, url, [HOST, *more], upgrade=upgrade)
    assert refused is not None
    assert refused.status == status


def test_a05_a_body_is_no_objection_elsewhere() -> None:
    for header in ((b"content-length", b"5"), (b"transfer-encoding", b"chunked")):
        assert objection("1.1", b"/", [HOST, header], upgrade=False) is None
    assert objection("1.1", b"/", [HOST, (b"content-length", b"0")], upgrade=True) is None
