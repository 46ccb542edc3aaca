"""The fault catalogue, part A: what can happen to a file on its way, each with its verdict and its counts."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import re
import tarfile
import time
import tracemalloc
import zipfile
from datetime import timedelta
from typing import Any, NamedTuple

import pytest
from extract_source import COLUMNS, DAY, OPERATOR, Extraction, call, calls

from keepline import store
from keepline.commands import pipeline
from keepline.errors import BadDataError, OutOfRoomError, SourceUnavailableError, UsageError
from keepline.extract import IncompleteError, NotReadyError, Verdict, extract_window
from keepline.extract import landing as landing_module
from keepline.extract import records as records_module
from keepline.extract import registry as registry_module
from keepline.window import Window

BEFORE = DAY - timedelta(days=1)
BOTH = Window(BEFORE, DAY + timedelta(days=1))
case = pytest.mark.case


@pytest.fixture
def extraction(settings, tmp_path, monkeypatch):
    return Extraction(settings, tmp_path, monkeypatch)


class Outcome(NamedTuple):
    """What came of an extraction: its codes, its exit code, and the balance of each day.

    A balance is (records, loaded, quarantined, skipped, balanced).
    """

    codes: list[str]
    exit_code: int
    verdict: Verdict
    balances: list[tuple[int, int, int, int, bool]]
    notes: list[str]


def outcome(extraction: Extraction, window: Any = DAY, ticket: str = "") -> Outcome:
    chosen = window if isinstance(window, Window) else Window.day(window)
    exit_code = 0
    try:
        results = extract_window(extraction.settings, chosen, accept_changed=ticket)
    except IncompleteError as error:
        results, exit_code = error.results, error.exit_code
    result = next(result for result in results if result.provided)
    balances = [
        (
            b.physical_rows,
            b.loaded_rows,
            sum(b.quarantined_rows.values()),
            b.skipped_rows,
            b.balanced,
        )
        for b in result.reconciliations
    ]
    for records, loaded, aside, skipped, balanced in balances:
        assert not balanced or records == loaded + aside + skipped
    return Outcome(
        [finding.code for finding in result.findings],
        exit_code,
        result.verdict,
        balances,
        [note.code for note in result.notes],
    )


def held(code: str, records: int = 0) -> Outcome:
    """One held day; of a file that is refused before it is read no record is known."""
    return Outcome([code], 2, Verdict.HOLD, [(records, 0, 0, 0, False)], [])


def loaded(rows: int, notes: tuple[str, ...] = ()) -> Outcome:
    return Outcome([], 0, Verdict.LOAD, [(rows, rows, 0, 0, True)], list(notes))


def text_of(lines, header=COLUMNS):
    return "".join(f"{line}\n" for line in [header, *lines]).encode()


def packed(content: bytes) -> bytes:
    return gzip.compress(content, mtime=0)


def checksum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def change_manifest(extraction: Extraction, **said: Any) -> None:
    path = extraction.mediation.path().parent / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **said}))


def change_operator(extraction: Extraction, old: str, new: str) -> None:
    text = extraction.operator_file.read_text()
    assert old in text
    extraction.operator_file.write_text(text.replace(old, new))


# -- what is refused before a row is read ----------------------------------------------------------

GOOD = text_of(calls(50))
ENTRY = {"name": "cdr_voice.csv.gz", "rows": 50, "bytes": 1, "sha256": "0" * 64}


def deliver(content: bytes, **said: Any):
    return lambda e: e.mediation.deliver_bytes(content, 50, **said)


def manifest(**said: Any):
    def arrange(extraction):
        extraction.mediation.deliver(calls(50))
        change_manifest(extraction, **said)

    return arrange


def manifest_text(text: str | None):
    def arrange(extraction):
        extraction.mediation.deliver(calls(50))
        path = extraction.mediation.path().parent / "manifest.json"
        path.unlink() if text is None else path.write_text(text)

    return arrange


def beside(name: str):
    def arrange(extraction):
        extraction.mediation.deliver(calls(50))
        (extraction.mediation.path().parent / name).write_bytes(packed(GOOD))

    return arrange


def listed(name: str):
    """A manifest that lists another path, which is there."""

    def arrange(extraction):
        extraction.mediation.deliver(calls(50))
        path = extraction.mediation.path().parent / "manifest.json"
        entries = json.loads(path.read_text())["files"]
        change_manifest(extraction, files=[*entries, {**ENTRY, "name": name}])

    return arrange


def link(extraction):
    extraction.mediation.deliver(calls(50))
    path = extraction.mediation.path()
    path.rename(extraction.drops.parent / "elsewhere.csv.gz")
    path.symlink_to(extraction.drops.parent / "elsewhere.csv.gz")


def nothing(extraction):
    extraction.mediation.deliver(calls(50))
    extraction.mediation.path().unlink()


def listed_twice(extraction):
    extraction.mediation.deliver(calls(50))
    path = extraction.mediation.path()
    (path.parent / "copy.csv.gz").write_bytes(path.read_bytes())
    entries = json.loads((path.parent / "manifest.json").read_text())["files"]
    change_manifest(extraction, files=[*entries, {**entries[0], "name": "copy.csv.gz"}])


def archive(kind: str) -> bytes:
    """An archive whose member wants to be written beside its folder."""
    content = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(content, "w") as box:
            box.writestr("../../x", GOOD)
    else:
        with tarfile.open(fileobj=content, mode=kind) as box:
            member = tarfile.TarInfo("../../x")
            member.size = len(GOOD)
            box.addfile(member, io.BytesIO(GOOD))
    return content.getvalue()


REFUSED = [
    pytest.param(listed_twice, "DUP_FILE", id="one file, listed under two names", marks=case(2)),
    pytest.param(
        deliver(packed(GOOD[: len(GOOD) // 2])), "SHORT_FILE", id="cut in a row", marks=case(4)
    ),
    pytest.param(
        deliver(packed(GOOD[:-60]), bytes=len(packed(GOOD)), sha256=checksum(packed(GOOD))),
        "SHORT_FILE",
        id="cut in its last row",
        marks=case(4),
    ),
    pytest.param(
        deliver(packed(text_of(calls(25)))), "SHORT_FILE", id="cut at a row's end", marks=case(5)
    ),
    pytest.param(
        deliver(packed(GOOD)[: len(packed(GOOD)) // 2]), "BAD_GZIP", id="half a gz", marks=case(6)
    ),
    pytest.param(deliver(packed(GOOD)[:-4]), "BAD_GZIP", id="gz less 4 bytes", marks=case(6)),
    pytest.param(deliver(packed(GOOD)[:-8]), "BAD_GZIP", id="gz less 8 bytes", marks=case(6)),
    pytest.param(
        deliver(packed(GOOD)[:200] + bytes([packed(GOOD)[200] ^ 255]) + packed(GOOD)[201:]),
        "BAD_GZIP",
        id="a flipped byte",
        marks=case(7),
    ),
    pytest.param(listed("../x"), "BAD_PATH", id="a path that leaves the folder", marks=case(10)),
    pytest.param(listed("/etc/passwd"), "BAD_PATH", id="an absolute path", marks=case(10)),
    pytest.param(link, "BAD_PATH", id="a link", marks=case(10)),
    pytest.param(deliver(archive("zip")), "BAD_PATH", id="a zip", marks=case(10)),
    pytest.param(deliver(archive("w")), "BAD_PATH", id="a tar", marks=case(10)),
    pytest.param(deliver(archive("w:gz")), "BAD_PATH", id="a tar.gz", marks=case(10)),
    pytest.param(deliver(b""), "EMPTY_FILE", id="no byte", marks=case(11)),
    pytest.param(nothing, "MISSING_FILE", id="not there at the deadline", marks=case(13)),
    pytest.param(
        beside("cdr_voice_2.csv.gz"), "UNKNOWN_FILE", id="a file that is not listed", marks=case(16)
    ),
    pytest.param(manifest_text(None), "BAD_MANIFEST", id="no manifest", marks=case(17)),
    pytest.param(manifest_text("{"), "BAD_MANIFEST", id="half a manifest", marks=case(17)),
    pytest.param(
        manifest_text("[" * 100_000), "BAD_MANIFEST", id="a manifest without end", marks=case(17)
    ),
    pytest.param(
        deliver(packed(GOOD), sha256="0" * 64),
        "BAD_MANIFEST",
        id="another checksum",
        marks=case(17),
    ),
    pytest.param(
        manifest(files=[{**ENTRY, "rows": "50"}]),
        "BAD_MANIFEST",
        id="a count that is text",
        marks=case(17),
    ),
    pytest.param(
        deliver(packed(GOOD), sums={"duration_s": "many"}),
        "BAD_MANIFEST",
        id="a total that is text",
        marks=case(17),
    ),
    pytest.param(
        manifest(files=[ENTRY, ENTRY]), "BAD_MANIFEST", id="one name listed twice", marks=case(17)
    ),
    pytest.param(manifest(files=[]), "UNKNOWN_FILE", id="not listed itself", marks=case(16)),
]


@pytest.mark.parametrize(("arrange", "code"), REFUSED)
def test_a_file_that_cannot_be_right_is_held_and_what_had_landed_stays(extraction, arrange, code):
    # Given the day before, landed, and what landed of this day the first time.
    extraction.mediation.deliver(calls(40, BEFORE), BEFORE)
    extraction.mediation.deliver(calls(30))
    assert outcome(extraction, BOTH).codes == []
    before, known = extraction.files(), registered(extraction)
    around = everything_in(extraction.drops.parent)
    # When this day comes again, broken.
    arrange(extraction)
    around |= everything_in(extraction.drops.parent)

    # Then it is held whatever else could be said, nothing is read, and nothing is written anywhere.
    assert outcome(extraction, ticket="T-1") == held(code)
    assert extraction.files() == before
    assert registered(extraction) == known
    assert everything_in(extraction.drops.parent) <= around


def registered(extraction):
    with store.connect(extraction.settings) as connection:
        return connection.execute(
            "select table_name, load_date, file_set, name, sha256, bytes, rows, ticket"
            " from ops.source_file order by 1, 2"
        ).fetchall()


def everything_in(folder):
    return {path for path in folder.rglob("*") if not path.is_relative_to(folder / "home")}


@pytest.mark.case(9)
def test_a_file_that_unpacks_without_end_is_refused_before_memory_fills(extraction):
    # Given 1 MB that unpacks to 1 GB.
    bomb = packed(bytes(64 << 20)) * 16
    assert len(bomb) < 1.1e6
    extraction.mediation.deliver_bytes(bomb, 50)

    tracemalloc.start()
    started = time.process_time()
    try:
        extract_window(extraction.settings, Window.day(DAY))
        pytest.fail("it landed")
    except IncompleteError as error:
        finding = error.findings[0]
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()

    assert finding.code == "TOO_BIG"
    unpacked = int(re.search(r"(\d+) bytes", finding.detail).group(1))
    assert unpacked < 70 << 20
    assert peak < 64 << 20
    assert time.process_time() - started < 10
    assert outcome(extraction) == held("TOO_BIG")
    assert extraction.landed() == []


# -- what has come before --------------------------------------------------------------------------


@pytest.mark.case(1)
def test_the_same_file_again_changes_nothing(extraction):
    extraction.mediation.deliver(calls(50))
    assert outcome(extraction) == loaded(50)
    before, known = extraction.files(), registered(extraction)

    extraction.mediation.deliver(calls(50))

    assert outcome(extraction) == loaded(50)
    assert (extraction.files(), registered(extraction)) == (before, known)


@pytest.mark.case(1)
def test_the_same_file_again_under_another_date_is_held(extraction):
    extraction.mediation.deliver(calls(50, BEFORE), BEFORE)
    outcome(extraction, BEFORE)
    before = extraction.files()

    extraction.mediation.deliver(calls(50, BEFORE))

    # Also with a ticket, because that is for corrections.
    assert outcome(extraction) == outcome(extraction, ticket="T-1") == held("DUP_FILE")
    assert extraction.files() == before


@pytest.mark.case(1, 15)
def test_of_two_equal_files_in_one_window_the_first_lands(extraction):
    for day in (BEFORE, DAY):
        extraction.mediation.deliver(calls(50, BEFORE), day)

    found = outcome(extraction, BOTH)

    assert found.codes == ["DUP_FILE"]
    assert found.balances == [(50, 50, 0, 0, True), (0, 0, 0, 0, False)]
    assert {row[0] for row in extraction.landed(columns="load_date")} == {BEFORE}


@pytest.mark.case(2)
def test_the_same_content_under_another_name_is_held(extraction):
    # Given a folder of all dates, in which a file is told by its name alone.
    extraction.operator_file.write_text(
        OPERATOR.replace("{date}/{file}.csv.gz", "{file}_{date}.csv").replace(
            ', manifest: "{date}/manifest.json"', ""
        )
    )
    (extraction.drops / f"cdr_voice_{BEFORE}.csv").write_bytes(text_of(calls(50, BEFORE)))
    outcome(extraction, BEFORE)
    before = extraction.files()
    (extraction.drops / f"cdr_voice_{DAY}.csv").write_bytes(text_of(calls(50, BEFORE)))

    assert outcome(extraction) == held("DUP_FILE")
    assert extraction.files() == before


def test_days_without_records_are_no_duplicates(extraction):
    for day in (BEFORE, DAY):
        extraction.mediation.deliver([], day)

    assert outcome(extraction, BOTH).balances == [(0, 0, 0, 0, True)] * 2


@pytest.mark.case(3)
def test_a_changed_file_waits_for_a_ticket_and_then_replaces_its_day(extraction):
    extraction.mediation.deliver(calls(50))
    outcome(extraction)
    before = extraction.files()
    extraction.mediation.deliver(calls(52))

    assert outcome(extraction) == held("FILE_CHANGED")
    assert extraction.files() == before

    assert outcome(extraction, ticket="CR-17") == loaded(52)
    assert len(extraction.landed()) == 52
    # The decision is on record, and it is made once.
    with store.connect(extraction.settings) as connection:
        decided = connection.execute(
            "select table_name, load_date, ticket from ops.source_file_change"
        ).fetchall()
    assert decided == [("cdr_voice", DAY, "CR-17")]
    assert registered(extraction)[0][-2:] == (52, "CR-17")
    assert outcome(extraction) == loaded(52)


@pytest.mark.case(3)
def test_a_file_that_was_held_may_be_replaced_without_a_ticket(extraction):
    extraction.mediation.deliver_bytes(packed(GOOD)[:-4], 50)
    assert outcome(extraction) == held("BAD_GZIP")

    extraction.mediation.deliver(calls(50))

    assert outcome(extraction) == loaded(50)


@pytest.mark.parametrize("killed_at", ["accept", "landed"])
@pytest.mark.case(3)
def test_an_accepted_change_that_was_killed_is_mended_by_a_plain_rerun(
    extraction, monkeypatch, killed_at
):
    extraction.mediation.deliver(calls(50))
    outcome(extraction)
    extraction.mediation.deliver(calls(52))

    class KilledError(Exception):
        pass

    def die(*_):
        raise KilledError

    with monkeypatch.context() as patch:
        # After the decision is recorded: before the partition moves, and before the registry knows.
        if killed_at == "accept":
            patch.setattr(landing_module.Partitions, "land", die)
        else:
            patch.setattr(registry_module.Registry, "landed", die)
        with pytest.raises(KilledError):
            outcome(extraction, ticket="CR-17")

    assert outcome(extraction) == loaded(52)
    assert registered(extraction)[0][6] == 52


def test_a_store_without_a_registry_says_what_to_do(extraction):
    extraction.mediation.deliver(calls(5))
    with store.connect(extraction.settings, autocommit=True) as connection:
        connection.execute("drop table ops.source_file")

    with pytest.raises(UsageError, match="run `keepline migrate` first"):
        extraction.run()


@pytest.mark.case(15)
def test_yesterdays_records_in_todays_file_are_held(extraction):
    extraction.mediation.deliver(calls(50, BEFORE), BEFORE)
    outcome(extraction, BEFORE)
    # Packed again, so that its bytes are new.
    extraction.mediation.deliver_bytes(gzip.compress(text_of(calls(50, BEFORE)), 1, mtime=0), 50)

    assert outcome(extraction) == held("WRONG_DAY", records=50)
    assert {row[0] for row in extraction.landed(columns="load_date")} == {BEFORE}


# -- what is right, however it is written ------------------------------------------------------------

SAME = {
    "joined gz members": (packed(GOOD[:3000]) + packed(GOOD[3000:]), 8),
    "no line end at the end": (packed(GOOD[:-1]), 20),
    "blank lines": (packed(GOOD.replace(b"\n", b"\n\n", 9) + b"\n\n"), 20),
    "CR LF": (packed(GOOD.replace(b"\n", b"\r\n")), 20),
}


@pytest.mark.parametrize(
    "content",
    [pytest.param(content, id=name, marks=case(item)) for name, (content, item) in SAME.items()],
)
def test_what_is_only_written_otherwise_lands_with_the_same_bytes(extraction, content):
    extraction.mediation.deliver_bytes(packed(GOOD), 50)
    assert outcome(extraction) == loaded(50)
    clean = extraction.manifest()["sha256"]

    extraction.mediation.deliver_bytes(content, 50)

    assert outcome(extraction, ticket="T-1") == loaded(50)
    assert extraction.manifest()["sha256"] == clean


@pytest.mark.case(12)
def test_a_day_without_records_lands_where_that_may_be(extraction):
    extraction.mediation.deliver([])

    assert outcome(extraction) == loaded(0)

    change_operator(
        extraction, "    file: cdr_voice\n", "    file: cdr_voice\n    may_be_empty: false\n"
    )
    assert outcome(extraction) == held("EMPTY_DAY")


# -- what is not there yet ---------------------------------------------------------------------------


@pytest.fixture
def marked(extraction):
    """Drops that end with a marker; the day before is complete."""
    change_operator(extraction, "}\ntables", ', done: "{date}/_SUCCESS"}\ntables')
    extraction.mediation.deliver(calls(40, BEFORE), BEFORE)
    (extraction.mediation.path(BEFORE).parent / "_SUCCESS").touch()
    return extraction


@pytest.mark.case(14)
def test_a_delivery_without_its_marker_is_not_read_and_other_days_land(marked):
    # Given half a file, which would be called damaged if it were looked at.
    marked.mediation.deliver_bytes(packed(GOOD)[:99], 50)

    found = outcome(marked, BOTH)

    assert found == Outcome(
        ["NOT_READY"], 3, Verdict.STOP, [(40, 40, 0, 0, True), (0, 0, 0, 0, False)], []
    )
    with pytest.raises(
        NotReadyError, match=rf"{DAY}/cdr_voice\.csv\.gz.*Waiting for {DAY}/_SUCCESS"
    ):
        marked.run()

    # When it is complete, the same command lands it.
    marked.mediation.deliver(calls(50))
    (marked.mediation.path().parent / "_SUCCESS").touch()
    assert outcome(marked) == loaded(50)


@pytest.mark.case(14)
def test_waiting_is_not_enough_when_another_day_is_wrong(marked):
    marked.mediation.path(BEFORE).unlink()
    marked.mediation.deliver(calls(50))

    found = outcome(marked, BOTH)

    assert (found.codes, found.exit_code) == (["MISSING_FILE", "NOT_READY"], 2)


@pytest.mark.case(14)
def test_a_file_that_is_too_young_is_not_read(extraction):
    change_operator(extraction, "}\ntables", ", settle_s: 600}\ntables")
    extraction.mediation.deliver(calls(50))
    folder = extraction.mediation.path().parent
    long_ago = time.time() - 601
    os.utime(folder / "cdr_voice.csv.gz", (long_ago, long_ago))

    assert outcome(extraction).codes == ["NOT_READY"]  # its manifest is new
    os.utime(folder / "manifest.json", (long_ago, long_ago))
    assert outcome(extraction) == loaded(50)


@pytest.mark.case(14)
def test_a_file_that_changes_while_it_is_read_does_not_land(extraction, monkeypatch):
    extraction.mediation.deliver(calls(50))
    read = records_module.FileDelivery.stage

    def stage(delivery):
        columns = read(delivery)
        extraction.mediation.deliver(calls(50)[::-1])
        return columns

    with monkeypatch.context() as patch:
        patch.setattr(records_module.FileDelivery, "stage", stage)
        with pytest.raises(SourceUnavailableError, match="changed while it was read: run again"):
            extraction.run()

    assert extraction.landed() == []
    assert outcome(extraction) == loaded(50)


@pytest.mark.parametrize(
    ("words", "message"),
    [(', done: "_SUCCESS"', "`done` needs {date}"), (", settle_s: -1", "settle_s")],
)
def test_words_of_a_file_set_that_make_no_sense_are_refused(extraction, words, message):
    change_operator(extraction, "}\ntables", f"{words}}}\ntables")

    with pytest.raises(UsageError, match=re.escape(message)):
        extraction.run()


# -- what is told although it lands ------------------------------------------------------------------


@pytest.mark.case(16)
def test_without_a_manifest_a_stray_file_is_told_and_the_day_lands(extraction):
    change_operator(extraction, ', manifest: "{date}/manifest.json"', "")
    extraction.mediation.deliver(calls(50))

    # The manifest, which is no one's now, and a second part of the records.
    (extraction.mediation.path().parent / "cdr_voice_2.csv.gz").write_bytes(packed(GOOD))
    result = extraction.run()["cdr_voice"]

    assert [str(note) for note in result.notes] == [
        f"STRAY_FILE {DAY}/cdr_voice.csv.gz: a file beside it that no table reads. "
        "cdr_voice_2.csv.gz, manifest.json."
    ]
    assert outcome(extraction) == loaded(50, ("STRAY_FILE",))


@pytest.fixture
def named(extraction):
    """An operator file that says which columns there are."""
    change_operator(
        extraction, "    file: cdr_voice\n", f"    file: cdr_voice\n    columns: [{COLUMNS}]\n"
    )
    return extraction


def with_header(lines, change):
    return packed(b"\n".join(change(n, line) for n, line in enumerate(text_of(lines).splitlines())))


@pytest.mark.case(38)
def test_a_new_column_is_told_once_and_the_known_ones_land(named):
    for day in (BEFORE, DAY):
        content = with_header(calls(50, day), lambda n, line: line + (b",n78" if n else b",band"))
        named.mediation.deliver_bytes(content, 50, day)

    result = named.run(BOTH)["cdr_voice"]

    assert (result.rows, result.verdict) == (100, Verdict.LOAD)
    assert [(note.code, note.load_date) for note in result.notes] == [("NEW_COLUMN", BEFORE)]
    assert "column 14 of 14: left out until the operator file" in str(result.notes[0])


@pytest.mark.case(37)
def test_columns_in_another_order_land_by_their_names(named):
    content = with_header(calls(50), lambda _, line: b",".join(reversed(line.split(b","))))
    named.mediation.deliver_bytes(content, 50)

    assert outcome(named) == loaded(50)


@pytest.mark.case(39)
def test_a_column_that_is_gone_or_renamed_holds_its_day_only(named):
    named.mediation.deliver(calls(40, BEFORE), BEFORE)
    named.mediation.deliver(calls(50), header=COLUMNS.replace("roam_type", "roaming"))

    found = outcome(named, BOTH)

    assert found.codes == ["BREAKING_SCHEMA"]
    assert found.balances == [(40, 40, 0, 0, True), (0, 0, 0, 0, False)]


@pytest.mark.case(3, 38)
def test_the_run_book_has_the_notes_and_the_ticket(named, monkeypatch):
    monkeypatch.setenv("KEEPLINE_DEMO_DSN", "not needed")
    named.mediation.deliver(calls(50))
    pipeline.extract(named.settings, Window.day(DAY))
    content = with_header(calls(50), lambda n, line: line + (b",n78" if n else b",band"))
    named.mediation.deliver_bytes(content, 50)

    with pytest.raises(BadDataError, match="keepline backfill --date 2026-06-30 --table cdr_voice"):
        pipeline.extract(named.settings, Window.day(DAY))
    pipeline.extract(named.settings, Window.day(DAY), accept_changed="CR-17")

    with store.connect(named.settings) as connection:
        runs = connection.execute(
            "select status, message from ops.stage_run order by 1, 2"
        ).fetchall()
        balance = connection.execute(
            "select physical_rows, loaded_rows, balanced from ops.reconciliation"
        )
        assert [status for status, _ in runs] == ["done", "done", "failed"]
        assert "NEW_COLUMN 2026-06-30/cdr_voice.csv.gz" in runs[1][1]
        assert balance.fetchall() == [(50, 50, True)]
    assert registered(named)[0][-1] == "CR-17"


# -- what happens on this side -----------------------------------------------------------------------


@pytest.mark.case(22)
def test_a_disk_that_fills_while_landing_leaves_what_was_there(extraction, monkeypatch):
    extraction.mediation.deliver(calls(40, BEFORE), BEFORE)
    outcome(extraction, BEFORE)
    before = extraction.files()
    extraction.mediation.deliver(calls(50))
    put = landing_module._PartWriter._put
    written = []

    def full(part, data):
        written.append(len(data))
        if len(written) > 3:
            raise OSError(28, "No space left on device")
        return put(part, data)

    with monkeypatch.context() as patch:
        patch.setattr(landing_module._PartWriter, "_put", full)
        with pytest.raises((OSError, OutOfRoomError)):
            extraction.run()

    assert extraction.files() == before
    assert list(extraction.settings.operator_home.rglob(".incoming")) == []
    assert outcome(extraction) == loaded(50)


def test_a_held_day_keeps_its_vault_and_quarantine_and_the_others_move_on(extraction):
    # Given two days with a bad row each.
    for day in (BEFORE, DAY):
        lines = [*calls(200, day), call(900, day, direction="up")]
        extraction.mediation.deliver(lines, day)
    extraction.run(BOTH)
    assert len(extraction.quarantined("load_date")) == 2

    # When the first comes again without it, and the second is cut.
    extraction.mediation.deliver(calls(200, BEFORE), BEFORE)
    extraction.mediation.path().write_bytes(extraction.mediation.path().read_bytes()[:-4])
    found = outcome(extraction, BOTH, ticket="T-1")

    # Then what is known of the second stays.
    assert found.codes == ["BAD_GZIP"]
    assert extraction.quarantined("load_date") == [(DAY,)]
    assert len(extraction.landed()) == 400


def test_a_later_day_costs_no_more_look_ups_than_the_first(extraction):
    with store.connect(extraction.settings, autocommit=True) as connection:
        connection.execute(
            "insert into ops.source_file (table_name, load_date, file_set, name, sha256, bytes, rows)"
            " select 'cdr_voice', date '2000-01-01' + n, 'drops', 'n' || n, md5(n::text), 1, 1"
            " from generate_series(1, 9000) n"
        )
        connection.execute("analyze ops.source_file")
        plan = connection.execute(
            "explain " + registry_module.KNOWN, {"table": "cdr_voice", "days": [DAY], "sums": ["a"]}
        ).fetchall()

    assert "Seq Scan" not in "\n".join(row[0] for row in plan)
