"""What stands beside a row of the rows that fall due: written, and read as of any moment, without Redis or a warehouse."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from materializer.online.due import changes_by, due_text, in_force, none_due

NOW = 1_700_000_000_000_000
NAMES = ("age", "city", "blob", "_fs_event")
TEXTS = st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=4).map(str.encode)
ROWS = st.fixed_dictionaries(
    {"age": st.sampled_from([None, b"0.0", b"-0.0", b"nan"]), "city": TEXTS, "blob": st.none() | st.binary(max_size=4)}
)
STEPS = st.lists(st.tuples(st.integers(NOW, NOW + 30), ROWS), max_size=6, unique_by=lambda step: step[0]).map(
    lambda steps: sorted(steps, key=lambda step: step[0])
)


def whole(row: dict[str, bytes | None], event: int | None) -> dict[str, bytes | None]:
    return {**row, "_fs_event": None if event is None else b"%d" % event}


@given(st.none() | ROWS, STEPS, st.integers(NOW - 2, NOW + 32))
def test_at_any_moment_it_is_the_newest_row_whose_moment_has_come(
    first: dict[str, bytes | None] | None, steps: list[tuple[int, dict[str, bytes | None]]], moment: int
) -> None:
    begins = whole(first, 0) if first is not None else {}
    steps = [(at, whole(row, at)) for at, row in steps]
    expected = ([begins] + [row for at, row in steps if at <= moment])[-1]
    fields = {name.encode(): value for name, value in begins.items() if value is not None}
    fields[b"_fs_writer"] = b"run:x"
    if steps:
        fields[b"_fs_due"] = due_text(begins, steps, {"blob"})
        if steps[0][0] > moment:
            assert fields[b"_fs_due"] > none_due(moment)
            assert changes_by(fields[b"_fs_due"], moment) == {}
        else:
            assert fields[b"_fs_due"] < none_due(moment)
    found = in_force(fields, moment)
    assert found.pop(b"_fs_writer") == b"run:x"
    assert found == {name.encode(): value for name, value in expected.items() if value is not None}


def test_each_step_says_what_changes_and_no_more() -> None:
    row = {"age": b"0.0", "city": b"Bergen", "blob": b"\x00\xff", "_fs_event": b"a"}
    later = {**row, "age": b"-0.0", "_fs_event": b"b"}
    last = {**later, "city": None, "blob": b"", "_fs_event": b"c"}
    text = due_text(row, [(NOW, later), (NOW + 1, last)], {"blob"})
    assert json.loads(text) == [
        [NOW, {"age": "-0.0", "_fs_event": "b"}],
        [NOW + 1, {"city": None, "blob": {"base64": ""}, "_fs_event": "c"}],
    ]
    assert b" " not in text and text.startswith(b"[[1700000000000000,")


def test_a_text_that_looks_like_a_blob_is_a_text() -> None:
    odd = b'{"base64":"AA=="}'
    assert changes_by(due_text({}, [(NOW, {"city": odd})], ()), NOW) == {"city": odd.decode()}


@pytest.mark.parametrize(
    "text",
    [b"[", b"{}", b"[1]", b"[[1]]", b'[["1",{}]]', b"[[1,2]]", b'[[1,{"a":2}]]', b'[[1,{"a":[]}]]', b"\xff",
     b'[[1,{"a":{"base64":"?"}}]]', b'[[1,{"a":{"hex":"00"}}]]', b'[[1,{"a":{"base64":1}}]]', b"[[1,{},3]]"],
)  # fmt: skip
def test_what_is_no_such_list_is_an_error(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        in_force({b"_fs_event": b"x", b"_fs_due": text}, NOW)
