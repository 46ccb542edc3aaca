"""Every published column is described, and the dictionary says just that."""

from __future__ import annotations

from keepline.dictionary import dictionary
from keepline.settings import PROJECT_DIR


def test_it_names_the_table_that_marketing_pulls():
    assert "### mart.churn_risk_daily" in dictionary(PROJECT_DIR / "dbt_project")


def test_it_lists_no_column_that_readers_do_not_have():
    text = dictionary(PROJECT_DIR / "dbt_project")

    for column in ("birth_date", "id_no_hash", "msisdn_hash"):
        assert f"`{column}`" not in text
    for column in ("birth_year", "msisdn_masked"):
        assert f"`{column}`" in text
