"""Document names: what is one, and that nothing else gets through."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collab.errors import InvalidName
from collab.protocol.names import MAX_NAME_LENGTH, canonical_name

ALPHABET = string.ascii_letters + string.digits + "._:~-"


@pytest.mark.parametrize("name", ["a", "acme:specs:42", "Notes-2026_v1.2~x", "-", "0" * MAX_NAME_LENGTH])
def test_a_name_of_the_alphabet_comes_back_unchanged(name: str) -> None:
    assert canonical_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        ".hidden",
        "a/b",
        "a b",
        "a%20b",
        "a\n",
        "\na",
        "a\x00",
        "ü",
        "a\u0661",
        "*",
        "a" * 201,
        "a\r\nb",
        "a\\b",
    ],
)
def test_anything_else_is_no_name(name: str) -> None:
    with pytest.raises(InvalidName):
        canonical_name(name)


@given(st.text(max_size=210))
def test_a_name_is_accepted_exactly_when_its_characters_and_length_allow(name: str) -> None:
    good = 1 <= len(name) <= MAX_NAME_LENGTH and set(name) <= set(ALPHABET) and not name.startswith(".")
    try:
        accepted = canonical_name(name) == name
    except InvalidName:
        accepted = False
    assert accepted == good


@given(st.text(ALPHABET, min_size=1, max_size=MAX_NAME_LENGTH).filter(lambda name: name[0] != "."))
def test_every_name_of_the_alphabet_is_accepted(name: str) -> None:
    assert canonical_name(name) == name
