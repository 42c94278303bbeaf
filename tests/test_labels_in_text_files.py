"""What stands in a CSV or JSON-lines file comes back as it is written; join keys are read in the view's own type."""

from __future__ import annotations

from datetime import date, datetime, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from materializer import InputError
from materializer.training.spine import read_spine
from materializer.warehouse.join_keys import UUID

DIGITS = "12345678901234567890"
MOMENTS = ["2024-06-01 00:00:00", "2024-06-02 00:00:00"]


def csv(path: Path, **columns: list[str]) -> Any:
    rows = [",".join(columns), *(",".join(row) for row in zip(*columns.values(), strict=True))]
    (path / "labels.csv").write_text("\n".join(rows) + "\n")
    return read_spine(path / "labels.csv").rows


def json_lines(path: Path, text: str) -> Any:
    (path / "labels.jsonl").write_text(text)
    return read_spine(path / "labels.jsonl").rows


@pytest.mark.parametrize(
    "written, values",
    [
        (["0", "-7"], [0, -7]),
        (["1", ""], [1, None]),
        (["9223372036854775807", "1"], [2**63 - 1, 1]),
        (["0.5", "1.25"], [0.5, 1.25]),
        (["1.0", "0.0"], [1.0, 0.0]),
        (["0", "0.5"], [0.0, 0.5]),
        (["1e-07", "1e+20"], [1e-07, 1e20]),
        (["true", "false"], [True, False]),
        (["True", ""], [True, None]),
        (["2024-01-02", "2024-01-03"], [date(2024, 1, 2), date(2024, 1, 3)]),
        (MOMENTS, [datetime(2024, 6, 1), datetime(2024, 6, 2)]),
        (["2024-06-01 00:00:00.250", ""], [datetime(2024, 6, 1, 0, 0, 0, 250000), None]),
        *((text, text) for text in (
            ["000123", "1"], ["1.10", "2.5"], [DIGITS, "1"], ["NA", "NA"], ["NA", "1"], ["null", ""], ["", ""], ["nan", "1.5"], ["+1", "1"], ["1e5", "1"], ["0x10", "1"], ["true", "False"], ["yes", "no"], ["2024-1-2", "2024-01-02"],
            ["2024-13-01", "2024-01-02"], ["2024-06-01T00:00:00", ""], ["2024-06-01 00:00:00.5", ""], ["10:00", "11:00"], [" a", "b "],
        )),
    ],
    ids=str,
)  # fmt: skip
def test_a_column_of_a_csv_is_typed_only_where_it_prints_as_it_is_written(
    tmp_path: Path, written: list[str], values: list[Any]
) -> None:
    rows = csv(tmp_path, k=["1", "2"], event_timestamp=MOMENTS, x=written)
    assert rows.table({"k": [pa.int64()]}, "event_timestamp")["x"].to_pylist() == values


@pytest.mark.parametrize("file", ["csv", "json"])
@pytest.mark.parametrize(
    "dtypes, written, keys",
    [
        ([pa.string()], ["00501", "1.10", DIGITS], ["00501", "1.10", DIGITS]),
        ([pa.int64()], ["00501", "7", "-5"], [501, 7, -5]),
        ([pa.decimal128(10, 2)], ["1.10", "7", "0007.5"], [Decimal("1.10"), Decimal(7), Decimal("7.5")]),
        ([pa.int64(), pa.string()], ["00501", "7", "-5"], ["00501", "7", "-5"]),
        ([pa.date32()], ["2024-01-02"] * 3, [date(2024, 1, 2)] * 3),
        ([UUID], ["6F9619FF8B86D011B42D00CF4FC964FF"] * 3, ["6F9619FF8B86D011B42D00CF4FC964FF"] * 3),
    ],
    ids=str,
)
def test_join_keys_are_read_in_the_views_type(
    tmp_path: Path, file: str, dtypes: list[pa.DataType], written: list[str], keys: list[Any]
) -> None:
    if file == "csv":
        rows = csv(tmp_path, k=written, event_timestamp=["2024-06-01 00:00:00"] * 3)
    else:
        rows = json_lines(
            tmp_path, "\n".join(f'{{"k": "{text}", "event_timestamp": "{MOMENTS[0]}"}}' for text in written)
        )
    assert rows.table({"k": dtypes}, "event_timestamp")["k"].to_pylist() == keys


def test_a_missing_key_is_null_and_a_wrong_one_is_refused(tmp_path: Path) -> None:
    rows = csv(tmp_path, k=["1", ""], event_timestamp=MOMENTS)
    assert rows.table({"k": [pa.int64()]}, "event_timestamp")["k"].to_pylist() == [1, None]
    rows = csv(tmp_path, k=["1", "1.5"], event_timestamp=MOMENTS)
    with pytest.raises(InputError, match=r"Join key 'k' is of type int64, but '1\.5' was given for it"):
        rows.table({"k": [pa.int64()]}, "event_timestamp")


@pytest.mark.parametrize(
    "written, moment",
    [
        ("2024-06-01 12:00:00", datetime(2024, 6, 1, 12)),
        ("2024-06-01T12:00:00.000001", datetime(2024, 6, 1, 12, 0, 0, 1)),
        ("2024-06-01T12:00:00Z", datetime(2024, 6, 1, 12, tzinfo=timezone.utc)),
        ("2024-06-01 14:00:00+02:00", datetime(2024, 6, 1, 12, tzinfo=timezone.utc)),
        ("2024-06-01", date(2024, 6, 1)),
    ],
)
@pytest.mark.parametrize("name", ["event_timestamp", "at"])
def test_the_time_column_is_read_in_any_form_of_iso_8601(tmp_path: Path, written: str, moment: Any, name: str) -> None:
    rows = csv(tmp_path, k=["1"], x=["a"], **{name: [written]})
    assert rows.table({"k": [pa.int64()]}, "event_timestamp")[name].to_pylist() == [moment]
    rows = json_lines(tmp_path, f'{{"k": 1, "x": "a", "{name}": "{written}"}}')
    if name == "event_timestamp" or len(written) > 10:  # a column of dates alone is not taken for the moments
        assert rows.table({"k": [pa.int64()]}, "event_timestamp")[name].to_pylist() == [moment]


def test_json_values_are_what_json_says(tmp_path: Path) -> None:
    rows = json_lines(
        tmp_path,
        f'{{"k": 1.10, "event_timestamp": null, "text": "000123", "big": {DIGITS}, "x": 1.5, "day": "2024-01-02", "l": [1]}}\n'
        '{"k": 7, "text": "NA", "x": 2, "l": []}\n',
    ).table({"k": [pa.string()]}, "event_timestamp")
    assert rows.to_pydict() == {
        "k": ["1.10", "7"], "event_timestamp": [None, None], "text": ["000123", "NA"], "big": [Decimal(DIGITS), None],
        "x": [1.5, 2.0], "day": ["2024-01-02", None], "l": [[1], []],
    }  # fmt: skip


def test_a_csv_with_two_columns_of_one_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("k,x,x\n1,2,3\n")
    with pytest.raises(InputError, match=r"labels\.csv has two columns called 'x': rename one of them\."):
        read_spine(tmp_path / "labels.csv")


def test_quotes_line_breaks_and_a_byte_order_mark_are_read(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_bytes(b'\xef\xbb\xbfk,x\r\n1,"a\n""b"", c"\r\n')
    table = read_spine(tmp_path / "labels.csv").rows.table({"k": [pa.int64()]}, "event_timestamp")
    assert table.to_pydict() == {"k": [1], "x": ['a\n"b", c']}
