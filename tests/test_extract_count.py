"""The independent count: however a file is written and cut into chunks, it finds the records."""

from __future__ import annotations

import csv
import gzip
import io

from hypothesis import given, settings
from hypothesis import strategies as st

from keepline.extract import scan

CELLS = st.text(alphabet='ab,"\n\r é广\t', max_size=6)
HEADER = st.just(["c1", "c2"])
ROWS = st.lists(st.one_of(st.lists(CELLS, min_size=2, max_size=2), HEADER), max_size=8)


def written(rows, end, blank_after, final_end):
    """Return the text of a file: some blank lines among the rows, a last line end or none."""
    lines = []
    for number, row in enumerate([["c1", "c2"], *rows]):
        line = io.StringIO()
        # A carriage return alone is only quoted by the writer when it is part of its line end.
        quoting = csv.QUOTE_ALL if "\r" in "".join(row) else csv.QUOTE_MINIMAL
        csv.writer(line, lineterminator=end, quoting=quoting).writerow(row)
        lines.append(line.getvalue() + end * (blank_after == number))
    text = "".join(lines)
    return text if final_end else text.removesuffix(end)


@settings(max_examples=300)
@given(
    rows=ROWS,
    end=st.sampled_from(["\n", "\r\n"]),
    blank_after=st.integers(0, 9),
    final_end=st.booleans(),
    chunk=st.integers(1, 9),
    packed=st.booleans(),
)
def test_records_are_counted_as_the_csv_module_does(
    tmp_path_factory, rows, end, blank_after, final_end, chunk, packed
):
    text = written(rows, end, blank_after, final_end)
    path = tmp_path_factory.getbasetemp() / ("count.csv.gz" if packed else "count.csv")
    content = text.encode()
    path.write_bytes(gzip.compress(content) if packed else content)
    sizes = scan.CHUNK, scan.UNPACKED_CHUNK
    scan.CHUNK = scan.UNPACKED_CHUNK = chunk
    try:
        found = scan.CsvScan(path)
        found.run()
    finally:
        scan.CHUNK, scan.UNPACKED_CHUNK = sizes

    expected = [row for row in csv.reader(io.StringIO(text, newline="")) if row]
    assert found.records == len(expected) - 1 == len(rows)
    assert found.header == ("c1", "c2")
    # It may be looked for in vain, never missed.
    assert found.repeated_header or "\nc1,c2" not in text
    assert found.unseen or "".join(map("".join, rows)).replace('"', "").isprintable()
    assert found.unseen or text.isascii()
