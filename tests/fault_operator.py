"""The small operator of the fault tests, as it was and as it is after it corrected a day."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import shutil
from datetime import date, timedelta
from pathlib import Path

import psycopg
from conftest import SECRETS

from keepline.embedded import EmbeddedPostgres
from keepline.simulator import simulate

SUBSCRIBERS, DAYS, SEED = 120, 45, 7
# Readers see this day before anything happens.
LAST = date(2026, 4, 1)
FIRST = LAST - timedelta(days=DAYS - 1)
# The day that is run, and corrected.
NEXT = LAST + timedelta(days=1)
# What the small operator would not have by chance on the day that is run: rows that a correction can take
# away again.
OPERATOR_SQL = f"""
set timezone = 'Asia/Shanghai';
insert into cc.trouble_ticket select r.* from (select * from cc.trouble_ticket order by 1 limit 1) as i,
    generate_series(1, 2) as n,
    jsonb_populate_record(null::cc.trouble_ticket, to_jsonb(i) || jsonb_build_object('ticket_id', 'T9' || n,
        'created_at', timestamptz '{NEXT} 11:00', 'updated_at', timestamptz '{NEXT} 11:00')) as r;
insert into ocs.recharge select r.* from (select * from ocs.recharge order by 1 limit 1) as i,
    generate_series(1, 3) as n,
    jsonb_populate_record(null::ocs.recharge, to_jsonb(i) || jsonb_build_object('recharge_id', 'R9' || n,
        'recharged_at', timestamptz '{NEXT} 12:00')) as r
"""
# A table's day becomes empty, a row vanishes, amounts and personal values change.
CORRECTION_SQL = f"""
set timezone = 'Asia/Shanghai';
delete from cc.trouble_ticket where updated_at >= '{NEXT}' and updated_at < '{NEXT + timedelta(days=1)}';
delete from ocs.recharge where recharge_id = 'R91';
update ocs.recharge set face = face + 1 where recharge_id = 'R92';
update crm.billing_account set credit_limit = credit_limit + 100, updated_at = '{NEXT} 09:00'
where account_id in (select account_id from crm.billing_account order by 1 limit 2);
update crm.party_individual set phone = '13900000000', updated_at = '{NEXT} 09:00'
where party_id = (select min(party_id) from crm.party_individual)
"""
# Files of that day in which the operator spoiled a record, before and after it corrected them.
SPOILED = {"first": "cdr_voice", "corrected": "cdr_data"}
# Days before that day of which a file comes late.
LATE = {1: "cdr_voice", 9: "cdr_sms", 17: "cdr_data", 30: "cdr_voice"}


def make_operator(folder: Path, server: EmbeddedPostgres, database: str) -> None:
    """Make the operator as it was: a database, and drops in `drops_first`."""
    server.ensure_database(database)
    simulate(
        server.dsn(database),
        folder / "drops_first",
        folder / "truth",
        subscribers=SUBSCRIBERS,
        days=DAYS,
        seed=SEED,
        start=FIRST,
        mornings=3,
        extractor_password=SECRETS["extractor_password"],
    )
    shutil.copytree(folder / "drops_first", folder / "drops_corrected")
    for source, table in SPOILED.items():
        spoil(folder / f"drops_{source}" / NEXT.isoformat(), table)
    with psycopg.connect(server.dsn(database)) as connection:
        connection.execute(OPERATOR_SQL)


def make_corrected(server: EmbeddedPostgres, database: str, corrected: str) -> None:
    """Make the operator as it is after the correction; its drops are in `drops_corrected`."""
    with psycopg.connect(server.dsn("postgres"), autocommit=True) as connection:
        connection.execute(f'create database "{corrected}" template "{database}"')
    with psycopg.connect(server.dsn(corrected)) as connection:
        connection.execute(CORRECTION_SQL)


def drops_with_late_files(folder: Path) -> Path:
    """Return the drops before the correction, without some files that come later."""
    drops = folder / "drops_late"
    if not drops.exists():
        shutil.copytree(folder / "drops_first", drops)
        for back, table in LATE.items():
            (drops / (NEXT - timedelta(days=back)).isoformat() / f"{table}.csv.gz").unlink()
    return drops


def spoil(drop: Path, table: str) -> None:
    """Put a word that no contract knows into one record of a drop, and say so in its manifest."""
    path = drop / f"{table}.csv.gz"
    lines = gzip.decompress(path.read_bytes()).decode().splitlines(keepends=True)
    lines[3] = re.sub(r",(in|home),", ",sideways,", lines[3])
    assert "sideways" in lines[3], lines[3]
    path.write_bytes(gzip.compress("".join(lines).encode(), mtime=0))
    manifest = json.loads((drop / "manifest.json").read_text())
    for file in manifest["files"]:
        if file["name"] == path.name:
            file["bytes"] = path.stat().st_size
            file["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    (drop / "manifest.json").write_text(json.dumps(manifest))
