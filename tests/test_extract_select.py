"""An operator file holds one SELECT that reads what the file declares, and nothing else."""

from __future__ import annotations

import pytest
from extract_source import DAY, RECHARGE_HEADER, Extraction, put, recharge, recharges

from keepline.contract import load_contract
from keepline.errors import UsageError
from keepline.extract.operator import load_operator
from keepline.extract.session import Session
from keepline.extract.statement import Select, SelectError, requoted
from keepline.settings import PROJECT_DIR

GOOD = (
    "select id as recharge_id, line as subscription_id, made as recharged_at, face as face_amt,"
    " paid as paid_amt, false as reversed_flag"
)


@pytest.fixture
def extraction(settings, tmp_path, monkeypatch):
    found = Extraction(settings, tmp_path, monkeypatch)
    put(found.drops, f"{DAY}/recharge.csv", RECHARGE_HEADER, recharge(1))
    return found


# What an operator file may not hold, by what it would do.
FORBIDDEN = {
    "a second statement": f"{GOOD} from records; copy (select 1) to 'OUT/stolen.csv'",
    "an attachment": f"{GOOD} from records; attach 'OUT/other.db'",
    "an installation": f"{GOOD} from records; install httpfs",
    "a copy alone": f"copy ({GOOD} from records) to 'OUT/stolen.csv'",
    "a table made": f"create table x as {GOOD} from records",
    "a setting": "set threads = 1",
    "the text of a key file": f"{GOOD}, (select content from read_text('OUT/key')) as x from records",
    "the bytes of a key file": f"{GOOD}, (select content from read_blob('OUT/key')) as x from records",
    "a list of files": f"{GOOD} from records, glob('OUT/*')",
    "a reader that leaves the folder": f"{GOOD} from records, read_csv('OUT/key')",
    "a reader that climbs out": f"{GOOD} from records, read_csv('{{drops}}/../key')",
    "a path that is put together": f"{GOOD} from records, read_csv('{{drops}}' || '/../key')",
    "a path without a reader": f"{GOOD} from records, 'OUT/key'",
    "SQL in a text": f"{GOOD} from records, query('select 1')",
    "DuckDB's own tables": f"{GOOD} from records, duckdb_settings()",
    "keepline's own tables": f"{GOOD} from records, delivered",
    "a name of a WITH outside of it": (
        f"{GOOD} from records, (with duckdb_settings as (select 1 as a) from duckdb_settings) as x,"
        " duckdb_settings as y"
    ),
    "a name of a WITH before it": (
        f"with y as (select * from duckdb_settings), duckdb_settings as (select 1 as a)"
        f" {GOOD} from records, y"
    ),
    "a WITH that reads what it hides": (
        f"with duckdb_settings as (select * from duckdb_settings) {GOOD} from records, duckdb_settings"
    ),
    "a list of tables": "show tables",
    "a description": f"describe {GOOD} from records",
}


@pytest.mark.parametrize("sql", FORBIDDEN.values(), ids=list(FORBIDDEN))
def test_whatever_is_more_than_a_select_of_what_is_declared_is_refused(extraction, sql, tmp_path):
    (tmp_path / "key").write_text("0123456789abcdef\n")
    recharges(extraction, sql=sql.replace("OUT", str(tmp_path)))

    with pytest.raises(UsageError, match=r"demo\.yml, table recharge: `sql` must be") as raised:
        extraction.run()

    assert "0123456789abcdef" not in str(raised.value)
    assert not (tmp_path / "stolen.csv").exists()
    assert extraction.landed("recharge") == []


def test_a_link_that_leaves_the_folder_is_not_followed_by_a_reader(extraction, tmp_path):
    (tmp_path / "key").write_text("id\n0123456789abcdef\n")
    (extraction.drops / "list.csv").symlink_to(tmp_path / "key")

    for name in ("list.csv", "l*.csv"):
        recharges(extraction, sql=f"{GOOD} from records, read_csv('{{drops}}/{name}') as other")
        with pytest.raises(UsageError, match="it reads a link that leaves the folders"):
            extraction.run()


def test_duckdb_itself_reaches_nothing_else_and_can_be_told_nothing_new(extraction, tmp_path):
    # Given the DuckDB of an extraction, and SQL that the parser would have refused
    recharges(extraction)
    (tmp_path / "key").write_text("a\n1\n")
    operator = load_operator(extraction.operator_file, load_contract(extraction.settings.dbt_dir))
    with Session(extraction.settings, operator) as session:
        session.attach("recharge")

        for sql in (
            f"from read_text('{tmp_path}/key')",
            f"copy (select 1) to '{tmp_path}/stolen.csv'",
            f"attach '{tmp_path}/other.db'",
            "install httpfs",
            "set enable_external_access = true",
            "set lock_configuration = false",
            f"set allowed_directories = ['{tmp_path}']",
        ):
            with pytest.raises(Exception, match=r"Permission|locked|disabled|Cannot"):
                session.run(sql)

        assert session.rows(f"from read_csv('{extraction.drops}/{DAY}/recharge.csv')")


def test_names_are_found_in_quotes_in_any_case_and_never_in_a_text():
    sql = (
        """select p."order", 'src.a.b' as "src.c.d", '价' as 价 /* src.e.f */ """
        """from src."Billing"."Payment" as p join "SRC".s.t on true join src.u on true -- src.g.h"""
    )

    found = Select(sql)

    named = [(t.connection, t.schema, t.name) for t in found.tables(["src"])]
    assert sorted(named) == [("SRC", "s", "t"), ("src", "", "u"), ("src", "Billing", "Payment")]
    assert found.without_connection("src", "public") == (
        """select p."order", 'src.a.b' as "src.c.d", '价' as 价 /* src.e.f */ """
        """from "Billing"."Payment" as p join s.t on true join public.u on true -- src.g.h"""
    )
    assert requoted("""select 'say "hi"', "a""b" from t""", "`") == (
        """select 'say "hi"', `a"b` from t"""
    )


def test_a_readers_bracket_is_found_whatever_stands_between():
    sql = "select * from read_csv('/d/a(\").csv', all_varchar = true /* ) */) as r, read_json(['/d/b'])"

    assert Select(sql).without_hive() == (
        "select * from read_csv('/d/a(\").csv', all_varchar = true /* ) */, hive_partitioning = false)"
        " as r, read_json(['/d/b'], hive_partitioning = false)"
    )


@pytest.mark.parametrize("sql", ["", "select", "select 1; select 2", "delete from x"])
def test_what_is_not_one_select_cannot_be_parsed(sql):
    with pytest.raises(SelectError):
        Select(sql)


def test_the_shipped_operator_files_hold_nothing_but_such_selects(tmp_path, monkeypatch, settings):
    contract = load_contract(settings.dbt_dir)
    for path in sorted((PROJECT_DIR / "operators").glob("*.yml")):
        operator = load_operator(path, contract)
        for files in operator.files.values():
            monkeypatch.setenv(files.path_env, str(tmp_path))
        words = dict.fromkeys(("from_at", "to_at", "from_local", "to_local"), "null")

        for table in operator.tables:
            assert operator.select(table, {**words, "from_date": "null", "to_date": "null"})
