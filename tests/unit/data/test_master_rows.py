"""Files of customers and locations, as other people's programs write them."""

import csv
import io
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from troupe.actors.data import master_rows
from troupe.actors.data.master_csv import MAX_LINE, MAX_ROW_LINES, read_rows
from troupe.actors.data.master_errors import FileMalformed
from troupe.actors.data.master_rows import (
    CheckedTable,
    Form,
    TooManyBadRows,
    check_table,
    forms_of,
)
from troupe.common.connections import SftpConfig

CUSTOMERS = {"customer_id": "No", "company": "Name", "email": "Mail", "phone": "Phone"}


def form(**changes: Any) -> Form:
    values: dict[str, Any] = {
        "content": "customers",
        "file": "erp/customers.csv",
        "encoding": "utf-8",
        "delimiter": ";",
        "headers": CUSTOMERS,
        "bad_row_share": 0.5,
    }
    return Form(**values | changes)


def check(content: bytes | str, **changes: Any) -> CheckedTable:
    data = content.encode() if isinstance(content, str) else content
    return check_table(io.BytesIO(data), form(**changes))


def rows_of(table: CheckedTable) -> list[dict[str, Any]]:
    return [row for batch in table.batches for row in json.loads(batch)]


HEADER = "No;Name;Mail;Phone\r\n"
ROW = {"customer_id": "7", "company": "Müller", "email": None, "phone": None}


@pytest.mark.parametrize("end", ["\r\n", "\n", "\r"])
@pytest.mark.parametrize("last", [True, False])
def test_lines_may_end_in_any_way(end: str, last: bool) -> None:
    lines = ["No;Name;Mail;Phone", "7;Müller;;"]
    table = check(end.join(lines) + (end if last else ""))
    assert rows_of(table) == [ROW]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "cp1252", "cp850", "iso-8859-15"])
def test_each_encoding_is_read(encoding: str) -> None:
    content = f"{HEADER}7;Müller;;\r\n".encode(encoding)
    assert rows_of(check(content, encoding=encoding)) == [ROW]


@pytest.mark.parametrize("written", ["utf-8-sig", "utf-16"])
@pytest.mark.parametrize("configured", ["utf-8", "cp1252", "utf-16"])
def test_a_byte_order_mark_trumps_the_configuration(written: str, configured: str) -> None:
    content = f"{HEADER}7;Müller;;\r\n".encode(written)
    assert rows_of(check(content, encoding=configured)) == [ROW]


def test_a_byte_outside_of_the_encoding_makes_its_row_bad_and_no_other() -> None:
    content = HEADER.encode() + "7;Müller;;\r\n".encode() + "8;Jörg;;\r\n".encode("cp1252")
    table = check(content)
    assert rows_of(table) == [ROW]
    assert list(map(str, table.errors)) == ["line 3, Name: is not in the file's encoding"]


def test_a_file_that_ends_within_a_character_is_malformed() -> None:
    content = f"{HEADER}7;Müller;;".encode("utf-16-le")[:-1]
    with pytest.raises(FileMalformed, match=r"customers.csv is not in utf-16\."):
        check(content, encoding="utf-16")


def test_quotes_protect_delimiters_and_quotes() -> None:
    table = check(HEADER + '7;"Bolt; ""Nut"" & Co";;\r\n8;Werk "Nord" 2;;\r\n')
    assert [row["company"] for row in rows_of(table)] == ['Bolt; "Nut" & Co', 'Werk "Nord" 2']


def test_text_behind_a_closing_quote_is_one_bad_row() -> None:
    table = check(HEADER + '7;"Bolt" Nut;;\r\n8;Right;;\r\n')
    assert [row["customer_id"] for row in rows_of(table)] == ["8"]
    [error] = table.errors
    assert (error.line, error.column) == (2, None)
    assert error.message.startswith("cannot be split into cells")


def test_an_open_quote_is_found_where_it_was_opened() -> None:
    lines = [f"{number};Name;;\r\n" for number in range(2 * MAX_ROW_LINES)]
    lines[20] = '20;"Name;;\r\n'
    with pytest.raises(FileMalformed, match=r"begins on line 22 does not end .* quote"):
        check(HEADER + "".join(lines))


def test_a_row_that_swallowed_others_counts_for_each_of_them() -> None:
    lines = [f"{number};Name;;\r\n" for number in range(10)]
    lines[2], lines[5] = '2;"Name;;\r\n', '5;Name";;\r\n'
    table = check(HEADER + "".join(lines))
    assert (table.rows, table.bad_rows, table.errors_total) == (6, 4, 1)
    assert str(table.errors[0]) == "line 4, Name: holds a control character"
    with pytest.raises(TooManyBadRows, match="4 of 10 rows are bad, more than 30%"):
        check(HEADER + "".join(lines), bad_row_share=0.3)


def test_formulas_stay_text() -> None:
    names = ["=1+1", "+49 40 1234", "-5", "@SUM(A1)", '=HYPERLINK("http://x","y")', "007", "1e5"]
    body = "".join(
        f'{number};"{name.replace(chr(34), chr(34) * 2)}";;\r\n'
        for number, name in enumerate(names)
    )
    assert [row["company"] for row in rows_of(check(HEADER + body))] == names


def test_headers_may_stand_anywhere_in_any_case_beside_others() -> None:
    table = check("Extra;PHONE; mail ;Name;no\r\nx;1;a@b.example;Bolt;7\r\n")
    assert rows_of(table) == [
        {"customer_id": "7", "company": "Bolt", "email": "a@b.example", "phone": "1"}
    ]


def test_a_column_without_a_header_is_left_alone() -> None:
    table = check("No;Name\r\n7;Bolt\r\n", headers={"customer_id": "No"})
    assert rows_of(table) == [{"customer_id": "7"}]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", r"customers.csv is empty\."),
        ("\r\n\r\n", r"customers.csv is empty\."),
        ("No;Name;Mail\r\n", r"lacks the header 'Phone'; check"),
        ("No,Name,Mail,Phone\r\n", r"lacks the header 'No', 'Name', 'Mail', 'Phone'"),
        ("No;Name;Mail;Phone;Name\r\n", r"has the header 'Name' more than once"),
        ('"No"x;Name;Mail;Phone\r\n', r"line 1 cannot be split"),
        (HEADER + "x" * (MAX_LINE + 1), r"line 2 is longer than"),
        (HEADER + ";" * (MAX_LINE + 1), r"line 2 is longer than"),
    ],
)
def test_a_file_that_is_not_the_agreed_table(content: str, told: str) -> None:
    with pytest.raises(FileMalformed, match=told):
        check(content)


def test_a_header_alone_is_a_table_without_rows() -> None:
    assert check(HEADER) == CheckedTable()


def test_blank_lines_and_rows_of_delimiters_are_no_rows() -> None:
    table = check(f"\r\n{HEADER}\r\n;;;\r\n7;Müller;;;;\r\n \r\n")
    assert rows_of(table) == [ROW]
    assert table.errors == []


@pytest.mark.parametrize(
    ("row", "told"),
    [
        (";Bolt;;", "line 2, No: is empty"),
        ("  ;Bolt;;", "line 2, No: is empty"),
        ("7;Bolt", "line 2: has 2 cells, the header has 4"),
        ("7;Bolt;;;more", "line 2: has 5 cells, the header has 4"),
        ("7" * 101 + ";Bolt;;", "line 2, No: is longer than 100 characters"),
        ("7;" + "x" * 60_000 + ";;", "line 2, Name: is longer than 300 characters"),
        ("7;Bo\x00lt;;", "line 2, Name: holds a control character"),
        ("7;Bo\x1blt;;", "line 2, Name: holds a control character"),
        ('7;"Bo\nlt";;', "line 2, Name: holds a control character"),
        ("7;Bo\u202elt;;", "line 2, Name: holds a control character"),
        ("7;Bolt;a@b.example, c@d.example;", "line 2, Mail: is not one plain e-mail address"),
        ("7;Bolt;Bolt <a@b.example>;", "line 2, Mail: is not one plain e-mail address"),
        ("7;Bolt;a@b;", "line 2, Mail: is not one plain e-mail address"),
        ("7;Bolt;a..b@c.example;", "line 2, Mail: is not one plain e-mail address"),
        ("7;Bolt;a b@c.example;", "line 2, Mail: is not one plain e-mail address"),
        ("7;Bolt;a@c.example.;", "line 2, Mail: is not one plain e-mail address"),
        ("7;Bolt;@c.example;", "line 2, Mail: is not one plain e-mail address"),
    ],
)
def test_a_bad_row_is_left_out_and_told(row: str, told: str) -> None:
    table = check(
        f"{HEADER}{row}\r\n8;Right;a.b+c@d-e.example;+49 40\r\n9;Right;j@müller.example;\r\n"
    )
    assert [found["customer_id"] for found in rows_of(table)] == ["8", "9"]
    assert list(map(str, table.errors)) == [told]


def test_an_id_counts_once_and_the_first_stays() -> None:
    table = check(f"{HEADER}7;First;;\r\n8;Other;;\r\n7;Second;;\r\n")
    assert [row["company"] for row in rows_of(table)] == ["First", "Other"]
    assert list(map(str, table.errors)) == ["line 4, No: stands on line 2 already"]


def test_a_bad_row_does_not_take_its_id() -> None:
    table = check(f"{HEADER}7;First;nonsense;\r\n7;Second;;\r\n", bad_row_share=1.0)
    assert [row["company"] for row in rows_of(table)] == ["Second"]


@pytest.mark.parametrize(("bad", "refused"), [(0, False), (10, False), (11, True)])
def test_too_many_bad_rows_refuse_the_file(bad: int, refused: bool) -> None:
    body = ";Nobody;;\r\n" * bad + "".join(f"{n};Name;;\r\n" for n in range(100 - bad))
    if not refused:
        table = check(HEADER + body, bad_row_share=0.1)
        assert (table.rows, table.bad_rows) == (100 - bad, bad)
        return
    told = r"11 of 100 rows are bad, more than 10%; the first: line 2, No: is empty\."
    with pytest.raises(TooManyBadRows, match=told) as failure:
        check(HEADER + body, bad_row_share=0.1)
    assert len(failure.value.table.errors) == bad


def test_the_report_is_bounded_and_the_count_is_not() -> None:
    table = check(HEADER + ";Nobody;no;\r\n" * 6000, bad_row_share=1.0)
    assert len(table.errors) == master_rows.REPORTED_ERRORS
    assert (table.errors_total, table.bad_rows) == (12000, 6000)


def test_no_message_tells_a_cell() -> None:
    secret = "canary"
    table = check(f"{HEADER}7;{secret};{secret};{secret}\x01\r\n7;{secret}\r\n", bad_row_share=1.0)
    assert table.errors_total == 3
    assert secret not in " ".join(map(str, table.errors))


def test_rows_come_in_batches() -> None:
    body = "".join(f"{number};Name;;\r\n" for number in range(2 * master_rows.BATCH_ROWS + 1))
    table = check(HEADER + body)
    assert [len(json.loads(batch)) for batch in table.batches] == [1000, 1000, 1]


def test_rows_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(master_rows, "MAX_ROWS", 3)
    with pytest.raises(FileMalformed, match="has more than 3 rows"):
        check(HEADER + "".join(f"{number};Name;;\r\n" for number in range(4)))


cells = st.text(st.characters(exclude_categories=["Cc", "Cf", "Cs", "Zl", "Zp"]), max_size=40).map(
    str.strip
)


@settings(max_examples=60, deadline=None)
@given(st.lists(cells, max_size=20), st.sampled_from([",", ";", "\t", "|"]))
def test_whatever_csv_writes_is_read_again(names: list[str], delimiter: str) -> None:
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter)
    writer.writerow(["No", "Name"])
    writer.writerows(enumerate(names))
    headers = {"customer_id": "No", "company": "Name"}
    table = check(text.getvalue(), delimiter=delimiter, headers=headers)
    assert [row["company"] or "" for row in rows_of(table)] == names


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=400), st.sampled_from(["utf-8", "utf-16", "cp1252"]))
def test_any_bytes_end_in_rows_or_in_one_sentence(noise: bytes, encoding: str) -> None:
    content, told = io.BytesIO(noise), ""
    try:
        rows = read_rows(content, name="x.csv", encoding=encoding, delimiter=";")
        assert all(row.lines >= 1 for row in rows)
    except FileMalformed as error:
        told = str(error)
    assert "\n" not in told
    assert not content.closed


def test_what_a_connection_names_becomes_forms() -> None:
    config = SftpConfig.model_validate(
        {
            "host": "erp.example",
            "username": "shop",
            "delimiter": ";",
            "encoding": "cp1252",
            "customers": {"file": "out/customers.csv", "columns": {"customer_id": "Nr"}},
            "locations": {"file": "out/l.csv", "columns": {"location_id": "Nr", "name": "Name"}},
        }
    )
    locations, customers = forms_of(config)
    assert (locations.content, locations.headers) == (
        "locations",
        {"location_id": "Nr", "name": "Name"},
    )
    assert (customers.name, customers.file) == ("customers.csv", "out/customers.csv")
    assert (customers.encoding, customers.delimiter) == ("cp1252", ";")
    assert forms_of(SftpConfig(host="erp.example", username="shop")) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"delimiter": ";;"},
        {"encoding": "rot13"},
        {"bad_row_share": 1.5},
        {"host_key": "ssh-ed25519"},
        {"host_key": "ssh-ed25519 AAAA\nssh-rsa AAAA"},
        {"customers": {"file": "out/", "columns": {"customer_id": "Nr"}}},
        {"customers": {"file": "a\nb", "columns": {"customer_id": "Nr"}}},
        {"customers": {"file": "a.csv", "columns": {"company": "Nr"}}},
        {"customers": {"file": "a.csv", "columns": {"customer_id": "Nr", "shoe_size": "S"}}},
        {"locations": {"file": "a.csv", "columns": {"location_id": "Nr"}}},
    ],
)
def test_a_connection_that_cannot_work_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        SftpConfig.model_validate({"host": "erp.example", "username": "shop"} | wrong)
