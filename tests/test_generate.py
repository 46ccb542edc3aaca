"""What follows from a declaration is generated, current, and never changed by hand."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from keepline import generate
from keepline.commands.generate import generate_files
from keepline.errors import UsageError
from keepline.settings import PROJECT_DIR

STAGING = Path("dbt_project", "models", "staging")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of what is generated and what it is generated from."""
    ignored = shutil.ignore_patterns("target", "logs")
    shutil.copytree(PROJECT_DIR / "dbt_project", tmp_path / "dbt_project", ignore=ignored)
    shutil.copytree(PROJECT_DIR / "docs", tmp_path / "docs")
    return tmp_path


@pytest.fixture
def check(project, monkeypatch):
    """The verb's `--check` on the copy."""
    monkeypatch.setattr("keepline.commands.generate.PROJECT_DIR", project)
    return lambda: generate_files(check=True)


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def test_every_generated_file_is_current():
    files = generate.rendered(PROJECT_DIR)

    assert generate.differences(PROJECT_DIR, files) == {}, "keepline generate"
    # The first line of a CSV names its columns.
    told = [text for path, text in files.items() if path.suffix != ".csv"]
    assert all(generate.MADE_BY in text.partition("\n")[0] for text in told)


def test_the_staging_models_are_all_generated():
    staging = PROJECT_DIR / STAGING

    assert {path for path in generate.rendered(PROJECT_DIR) if staging in path.parents} == {
        *staging.glob("*/*.sql"),
        *staging.glob("*/_*.yml"),
    }


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        (STAGING / "bil" / "stg_bil__bill.sql", "    bill_no,\n", ""),
        (STAGING / "bil" / "_bil__models.yml", "Account billed.", "Account."),
        (Path("dbt_project", "contract.lock.yml"), "paid_at: timestamp\n", "paid_at: date\n"),
        (Path("docs", "dictionary.md"), "Who is at risk", "Who leaves"),
        (Path("dbt_project", "seeds", "mart_need.csv"), "Bills are not seen", "No bills"),
    ],
)
def test_a_generated_file_changed_by_hand_is_refused_and_written_anew(
    project, check, file, old, new
):
    before = (project / file).read_bytes()
    change(project / file, old, new)
    raised = ["payment"] if file.name == "contract.lock.yml" else []

    with pytest.raises(UsageError, match=f"{file.name}.* changed by hand|payment: the column"):
        check()
    said = generate.write(project, raised)

    assert said == [f"wrote {file}"]
    if not raised:
        assert (project / file).read_bytes() == before
    check()


def test_a_change_of_a_contract_comes_into_what_follows_from_it(project, check):
    column = "          - name: fee_code\n            data_type: text\n"
    column += (
        '            description: "Fee, yuan."\n            config: {meta: {nullable: true}}\n'
    )
    change(
        project / STAGING / "bil" / "payment.yml",
        "        columns:\n",
        f"        columns:\n{column}",
    )

    with pytest.raises(UsageError, match=r"stg_bil__payment\.sql"):
        check()
    said = generate.write(project)

    folder = STAGING / "bil"
    names = [folder / "stg_bil__payment.sql", folder / "_bil__models.yml"]
    assert said == [f"wrote {name}" for name in (*names, "dbt_project/contract.lock.yml")]
    assert "    fee_code,\n" in (project / names[0]).read_text()
    assert 'fee_code\n        description: "Fee, fen."' in (project / names[1]).read_text()
    assert generate.write(project) == []


def test_the_staging_model_of_a_contract_that_is_gone_goes_with_a_decision(project):
    (project / STAGING / "ocs" / "recharge.yml").unlink()
    # What a mart says of it goes, too.
    for path in (project / "dbt_project" / "models" / "marts").rglob("*__models.yml"):
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        path.write_text("".join(line for line in lines if "ocs.recharge: {" not in line))

    with pytest.raises(UsageError, match=r"table recharge: it is gone.*--raise recharge"):
        generate.write(project)
    said = generate.write(project, ["recharge"])

    removed = [STAGING / "ocs" / "stg_ocs__recharge.sql", STAGING / "ocs" / "_ocs__models.yml"]
    written = ["macros/core/contract_tables.sql", "seeds/mart_need.csv", "contract.lock.yml"]
    assert said == [
        *(f"wrote dbt_project/{name}" for name in written),
        *(f"removed {path}" for path in removed),
    ]
    assert not any((project / path).exists() for path in removed)


def test_a_version_is_raised_of_known_tables_alone(project):
    with pytest.raises(UsageError, match="the contract has no table recharges"):
        generate.write(project, ["recharges"])


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("        needs:\n", "        needed:\n", "meta.needs is not there: write"),
        ("npd.np_port:", "npd.port:", "meta.needs names npd.port, and no contract has"),
        ("npd.np_port:", "ocs.np_port:", "meta.needs names ocs.np_port, and no contract has"),
        ("npd.np_port: {useful:", "npd.np_port: {nice:", "npd.np_port: write"),
        ("npd.np_port: {useful:", "npd.np_port: {required: x, useful:", "npd.np_port: write"),
    ],
)
def test_a_mart_says_what_it_needs(project, old, new, said):
    movement = Path("dbt_project", "models", "marts", "movement", "_movement__models.yml")
    change(project / movement, old, new)

    with pytest.raises(UsageError) as refused:
        generate.rendered(project)

    assert f"{movement.relative_to('dbt_project')}, mart_subscriber_movement: " in str(
        refused.value
    )
    assert said in str(refused.value)
