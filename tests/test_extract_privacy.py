"""Personal values: pseudonyms in landing, ciphertext in the vault, and nothing in clear anywhere."""

from __future__ import annotations

import base64
import gzip
import hashlib
import hmac
from datetime import date
from pathlib import Path

import psycopg
import pytest
from extract_source import DAY, Extraction, call, calls
from pydantic import SecretStr

from keepline import store
from keepline.errors import BadDataError, UsageError
from keepline.extract.vault import open_value, place
from keepline.settings import PROJECT_DIR, Settings

PEOPLE = """
name: demo
description: people in a file
files:
  people: {path_env: KEEPLINE_DEMO_DROPS, layout: "{file}.csv"}
tables:
  party_individual:
    file: people
    sql: |
      select party_id, name, id_no as id_no_hash, phone, email, address, updated_at from records
  subscription:
    file: people
    sql: |
      select
          party_id as subscription_id, party_id as customer_id, phone as msisdn, phone as msisdn_hash,
          phone as msisdn_masked, 'prepaid' as payment_type, updated_at as activated_at,
          'active' as status_code, updated_at as status_at, updated_at
      from records
"""
CANARIES = {
    "name": "Zhang Canary",
    "id_no": "110101199001011237",
    "phone": "13800007777",
    "email": "canary@example.org",
    "address": "7 Canary Street",
}


@pytest.fixture
def extraction(settings, tmp_path, monkeypatch):
    with store.connect(settings, autocommit=True) as connection:
        ddl = (PROJECT_DIR / "keepline" / "release" / "sql" / "ops.sql").read_bytes()
        connection.execute(ddl)
    return Extraction(settings, tmp_path, monkeypatch)


def people(extraction, *rows):
    header = "party_id,name,id_no,phone,email,address,updated_at"
    extraction.operator_file.write_text(PEOPLE)
    (extraction.drops / "people.csv").write_text("\n".join([header, *rows]) + "\n")


def person(number, updated_at=f"{DAY} 08:00:00", **changes):
    return ",".join([f"P{number}", *{**CANARIES, **changes}.values(), updated_at])


def key_of(settings):
    return bytes.fromhex(settings.pseudonym_key.get_secret_value())


def hits(folder, values):
    """Return the values found below a folder, as they are or in a coat that anyone can take off."""
    content = b"".join(
        path.read_bytes() if path.suffix != ".gz" else gzip.decompress(path.read_bytes())
        for path in sorted(Path(folder).rglob("*"))
        if path.is_file()
    )
    found = set()
    for value in values:
        clear = value.encode()
        coats = [
            clear,
            clear.hex().encode(),
            base64.b64encode(clear).rstrip(b"=")[:-1],
            hashlib.sha256(clear).hexdigest().encode(),
            hashlib.sha256(clear).digest(),
            hashlib.md5(clear, usedforsecurity=False).hexdigest().encode(),
        ]
        found |= {value for coat in coats if coat in content}
    return found


def test_a_pseudonym_is_the_hmac_of_the_value(extraction):
    extraction.mediation.deliver(calls(30))

    extraction.run()

    expected = {
        hmac.new(key_of(extraction.settings), f"139000{n:05d}".encode(), "sha256").hexdigest()
        for n in range(30)
    }
    assert {row[0] for row in extraction.landed(columns="msisdn_hash")} == expected


def test_the_same_number_has_the_same_pseudonym_in_every_table(extraction):
    people(extraction, person(1), person(2, phone="10086777"))

    extraction.run()

    number = hmac.new(key_of(extraction.settings), b"13800007777", "sha256").hexdigest()
    short = hmac.new(key_of(extraction.settings), b"10086777", "sha256").hexdigest()
    assert extraction.landed("subscription", "msisdn_hash, msisdn_masked") == [
        (number, "138****7777"),
        (short, "****"),
    ]


def test_another_key_gives_other_pseudonyms(extraction):
    extraction.mediation.deliver(calls(1))
    extraction.run()
    first = extraction.landed(columns="msisdn_hash")

    other = Settings(**{**extraction.settings.model_dump(), "pseudonym_key": "ab" * 32})
    extraction.settings = other
    extraction.run()

    assert extraction.landed(columns="msisdn_hash") != first


def test_no_personal_value_reaches_the_disk_in_clear(extraction):
    # Good people, a broken row of a person, and a line that is cut.
    rows = [person(n) for n in range(300)]
    people(extraction, *rows, person(300, updated_at="soon"), person(301).rsplit(",", 1)[0])

    extraction.run()

    assert len(extraction.quarantined("reason_code", "party_individual")) == 2
    assert hits(extraction.drops, CANARIES.values()) == set(CANARIES.values())
    assert hits(extraction.settings.home, CANARIES.values()) == set()


def test_a_shifted_line_does_not_give_a_number_away(extraction):
    # Two values that lost their comma and one that gained it: as many columns as there should be.
    shifted = call(7).replace("V0007,S0,", "V0007S0,", 1) + ",0"
    named = call(8, direction="Zhang Canary", cell_id="Zhang Canary")
    extraction.mediation.deliver([*calls(300), shifted, named])

    extraction.run()

    assert len(extraction.quarantined("reason_code")) == 2
    values = ["13900000007", "13800000002", "Zhang Canary"]
    assert hits(extraction.drops, values) == set(values)
    assert hits(extraction.settings.home, values) == set()


def test_the_vault_holds_each_value_and_opens_only_in_its_place(extraction):
    people(extraction, person(1))

    extraction.run()

    with store.connect(extraction.settings) as connection:
        rows = connection.execute(
            "select table_name, key_text, column_name, load_date, ciphertext, key_version"
            " from vault.personal_value order by table_name, column_name"
        ).fetchall()
    opened = {
        row[2]: open_value(extraction.settings, row[4], place(row[0], row[1], row[2], row[3]))
        for row in rows
    }
    assert opened == {
        "name": "Zhang Canary",
        "phone": "13800007777",
        "email": "canary@example.org",
        "address": "7 Canary Street",
        "msisdn": "13800007777",
    }
    assert {row[1] for row in rows} == {"P1|2026-06-30 00:00:00"}
    assert {row[5] for row in rows} == {1}
    with pytest.raises(BadDataError, match="does not open"):
        open_value(extraction.settings, rows[0][4], place("party_individual", "P2", "name", DAY))


def test_running_again_replaces_the_vaults_values_of_the_window_only(extraction):
    people(extraction, person(1), person(2, updated_at="2026-06-29 08:00:00"))
    extraction.run(date(2026, 6, 29))
    extraction.run()
    people(extraction, person(3))

    extraction.run()

    with store.connect(extraction.settings) as connection:
        rows = connection.execute(
            "select distinct split_part(key_text, '|', 1), load_date from vault.personal_value order by 1"
        ).fetchall()
    assert rows == [("P2", date(2026, 6, 29)), ("P3", DAY)]


def test_a_held_table_leaves_the_vault_as_it_was(extraction):
    people(extraction, person(1))
    extraction.run()
    people(extraction, person(2), *[person(n, updated_at="never") for n in range(3, 24)])

    assert set(extraction.held()) == {"QUARANTINE_LIMIT"}

    with store.connect(extraction.settings) as connection:
        keys = connection.execute("select distinct left(key_text, 2) from vault.personal_value")
        assert keys.fetchall() == [("P1",)]


def test_a_store_without_a_vault_says_what_to_do(settings, tmp_path, monkeypatch):
    extraction = Extraction(settings, tmp_path, monkeypatch)
    people(extraction, person(1))
    with store.connect(settings, autocommit=True) as connection:
        connection.execute("drop schema vault cascade")

    with pytest.raises(UsageError, match="run `keepline migrate` first"):
        extraction.run(DAY, "party_individual")


@pytest.mark.parametrize("name", ["pseudonym_key", "vault_key"])
def test_a_key_that_is_too_short_is_refused_without_showing_it(extraction, name):
    people(extraction, person(1))
    # Settings refuse it first; what makes pseudonyms and seals values does not rely on that.
    short = extraction.settings.model_copy(update={name: SecretStr("c0ffee")})
    extraction.settings = short

    with pytest.raises(UsageError, match=f"KEEPLINE_{name.upper()} must be 32 bytes") as raised:
        extraction.run(DAY, "subscription")

    assert "c0ffee" not in str(raised.value)


def test_nothing_can_spill_to_disk(extraction):
    from keepline.contract import load_contract
    from keepline.extract.operator import load_operator
    from keepline.extract.session import Session

    contract = load_contract(extraction.settings.dbt_dir)
    operator = load_operator(extraction.operator_file, contract)

    with Session(extraction.settings, operator) as session:
        assert session.rows("select current_setting('temp_directory')") == [("",)]


def test_a_password_is_in_no_error_text(extraction, monkeypatch):
    extraction.operator_file.write_text(
        "name: demo\ndescription: x\nconnections:\n"
        "  operator: {type: postgres, dsn_env: KEEPLINE_DEMO_DSN}\n"
        "tables:\n  brand:\n    sql: select * from operator.ref.brand\n"
    )
    texts = []
    for dsn in (
        "host=127.0.0.1 port=1 dbname=x user=u password=hunter2",
        "postgresql://u:hunter2@127.0.0.1:1/x",
        "host=127.0.0.1 hunter2",
    ):
        monkeypatch.setenv("KEEPLINE_DEMO_DSN", dsn)
        with pytest.raises((BadDataError, UsageError, Exception)) as raised:
            extraction.run()
        texts += [str(raised.value), repr(raised.value.__cause__)]

    assert not [text for text in texts if "hunter2" in text]
    assert "127.0.0.1:1 (database x), from KEEPLINE_DEMO_DSN, cannot be reached" in texts[0]
    assert psycopg.OperationalError.__name__ not in texts[0]
