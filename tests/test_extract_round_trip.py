"""Whatever text a CSV file holds lands as it was given, and the counts agree."""

from __future__ import annotations

import csv
import io
from datetime import date, timedelta

import pytest
from catalogue import catalogue
from conftest import DEEP
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

OPERATOR = """
name: demo
description: people with any hobby
files:
  drops: {{path_env: KEEPLINE_DEMO_DROPS, encoding: {encoding}, layout: "{{date}}/{{file}}.csv"}}
tables:
  party_individual:
    file: people
    sql: |
      select party_id, hobby, id_type, load_date || ' 12:00:00' as updated_at from records
"""
FIRST = date(2026, 1, 1)
# Texts of one example; a file of one line is not where things go wrong.
TEXTS = 50
EXAMPLES = 10_000 // TEXTS if DEEP else 500 // TEXTS
ODD = st.sampled_from(list('",\n\r\t \';|\\\0\ufeff\u200b\u0085\u2028é广𠮷"\r\n,'))
ANY = st.characters(exclude_categories=["Cs"])
TEXT = st.text(st.one_of(ODD, ANY), max_size=12)
ROWS = st.lists(st.tuples(TEXT, TEXT), min_size=TEXTS // 2, max_size=TEXTS // 2)


def written(rows: list[tuple[str, str]], end: str, *, all_quoted: bool) -> str:
    out = io.StringIO()
    for number, row in enumerate([("hobby", "id_type"), *rows]):
        first = "party_id" if number == 0 else f"P{number:03d}"
        # The writer quotes a lone carriage return only when it is part of its line end.
        quoted = all_quoted or any("\r" in text for text in row)
        quoting = csv.QUOTE_ALL if quoted else csv.QUOTE_MINIMAL
        csv.writer(out, lineterminator=end, quoting=quoting).writerow([first, *row])
    return out.getvalue()


@pytest.mark.case(35)
@pytest.mark.parametrize("encoding", ["utf-8", "gb18030"])
def test_any_text_lands_as_it_was_given(postgres, tmp_path, encoding):
    days = iter(FIRST + timedelta(days=n) for n in range(EXAMPLES * 20))
    with catalogue(postgres, tmp_path, OPERATOR.format(encoding=encoding)) as found:

        @settings(max_examples=max(2, EXAMPLES // 2), deadline=None, phases=[Phase.generate])
        @given(rows=ROWS, end=st.sampled_from(["\n", "\r\n"]), all_quoted=st.booleans())
        def lands(rows, end, all_quoted):
            day = next(days)
            text = written(rows, end, all_quoted=all_quoted)
            found.deliver(f"{day}/people.csv", text.encode(encoding))

            found.extract(day)

            # An empty text is no value; PostgreSQL has no NUL.
            expected = [
                (f"P{n:03d}", *(text or None for text in row))
                for n, row in enumerate(rows, 1)
                if "\0" not in "".join(row)
            ]
            assert (
                found.landed(day, "party_id, hobby, id_type", table="party_individual") == expected
            )
            nul = len(rows) - len(expected)
            counts = {"NUL_BYTE": nul} if nul else {}
            held = day in found.results["party_individual"].held_days
            assert held == (nul > 20)
            assert found.balance(day, "party_individual") == (
                len(rows),
                len(expected),
                counts,
                0,
                True,
            )

        lands()
