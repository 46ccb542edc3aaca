"""The questions that the report asks the store, in SQL for PostgreSQL.

Marts and names are read as the login `bi_reader`, which sees just the current release: the page
shows what every reader sees, and a right that is missing shows at once. The run book is read as the
pipeline. Columns bear the names of the fields in `rows`; brands and provinces come as codes.
"""

from __future__ import annotations

CURRENT = "select release_id from ctl.current_release"

RELEASE = "select from_date, to_date from ctl.release where release_id = %(release_id)s"

# Names are those of today.
BRANDS = """
    select brand_code, min(brand_name)
    from star.dim_brand
    where is_current
    group by brand_code
    order by brand_code
"""

PROVINCES = """
    select province_code, min(province_name)
    from star.dim_geography
    where is_current
    group by province_code
    order by province_code
"""

MOVEMENT = """
    select
        month_start,
        sum(opening)::bigint as opening,
        sum(gross_adds)::bigint as gross_adds,
        sum(migration_in)::bigint as moved_in,
        sum(migration_out)::bigint as moved_out,
        sum(churn)::bigint as churned,
        sum(closing)::bigint as closing
    from mart.subscriber_movement
    group by month_start
    order by month_start
"""

HAS_PREPAID = "select exists (select from mart.subscriber_movement where payment_type = 'prepaid')"

CHURN_BY_PLACE = """
    select
        brand_code as brand,
        province_code as province,
        sum(churn)::bigint as churned,
        sum(opening)::bigint as opening
    from mart.subscriber_movement
    where month_start = %(month_start)s
    group by brand_code, province_code
    order by brand_code, province_code
"""

RISK_BY_PLACE = """
    select
        brand_code as brand,
        province_code as province,
        count(*) as scored,
        count(*) filter (where risk_tier = 'HIGH') as high,
        count(*) filter (where risk_tier = 'MEDIUM') as medium,
        coalesce(sum(clv_12m_fen) filter (where risk_tier = 'HIGH'), 0)::bigint as high_worth_fen
    from mart.churn_risk_latest
    group by brand_code, province_code
    order by brand_code, province_code
"""

# Risk x worth is rounded line by line: a sum of floats would depend on the order of the rows.
TIERS = """
    select
        risk_tier as tier,
        count(*) as lines,
        coalesce(sum(clv_12m_fen), 0)::bigint as worth_fen,
        coalesce(sum(round(churn_probability::numeric * clv_12m_fen)), 0)::bigint as at_risk_fen,
        coalesce(sum(expected_profit_of_contact_fen), 0)::bigint as profit_fen
    from mart.churn_risk_latest
    group by risk_tier
    order by risk_tier
"""

TIER_DAYS = """
    select
        score_date,
        risk_tier as tier,
        count(*) as lines
    from mart.churn_risk_daily
    where score_date >= %(first)s
    group by score_date, risk_tier
    order by score_date, risk_tier
"""

URGENT = """
    select
        msisdn_masked,
        brand_code as brand,
        province_code as province,
        payment_type,
        risk_tier as tier,
        churn_probability as probability,
        clv_12m_fen as worth_fen,
        expected_profit_of_contact_fen as profit_fen,
        reason_1_text as reason_1,
        reason_2_text as reason_2,
        reason_3_text as reason_3
    from mart.churn_risk_latest
    where risk_tier in ('HIGH', 'MEDIUM') and eligible_flag
    order by
        (risk_tier = 'HIGH') desc,
        expected_profit_of_contact_fen desc nulls last,
        churn_probability desc,
        subscription_id
    limit %(rows)s
"""

SCORINGS = """
    select distinct score_date, score_run_id, model_version
    from mart.churn_risk_latest
    order by score_date, score_run_id, model_version nulls last
"""

RFM_MONTH = "select max(month_start) from mart.rfm_month"

RFM_CELLS = """
    select
        r_score,
        f_score,
        count(*) as lines,
        coalesce(sum(monetary_fen), 0)::bigint as revenue_fen
    from mart.rfm_month
    where month_start = %(month_start)s
    group by r_score, f_score
    order by r_score, f_score
"""

SEGMENTS = """
    select
        segment,
        count(*) as lines,
        coalesce(sum(monetary_fen), 0)::bigint as revenue_fen
    from mart.rfm_month
    where month_start = %(month_start)s
    group by segment
    order by revenue_fen desc, lines desc, segment
"""

TRENDS = """
    select
        brand_code as brand,
        coalesce(frequency_trend, 'too new') as trend,
        count(*) as lines
    from mart.rfm_month
    where month_start = %(month_start)s
    group by brand_code, frequency_trend
    order by brand_code, frequency_trend nulls last
"""

# The mart holds one row over all brands and provinces beside those of each.
PARETO_ALL = """
    select
        month_start,
        subscriptions as lines,
        revenue_fen,
        revenue_share_top20::double precision as top_share,
        share_of_subscriptions_making_80::double precision as makers_share
    from mart.pareto_month
    where brand_code = 'ALL' and province_code = 'ALL'
    order by month_start
"""

PARETO_BY_PLACE = """
    select
        brand_code as brand,
        province_code as province,
        subscriptions as lines,
        revenue_fen,
        revenue_share_top20::double precision as top_share,
        share_of_subscriptions_making_80::double precision as makers_share
    from mart.pareto_month
    where month_start = %(month_start)s and brand_code <> 'ALL' and province_code <> 'ALL'
    order by brand_code, province_code
"""

LACKS = """
    select mart_name, contract_table, mart_coverage, sentence
    from mart.coverage
    where table_coverage <> 'full'
    order by mart_coverage, mart_name, contract_table
"""

MARTS_COVERED = "select count(distinct mart_name) from mart.coverage"

CHECKS = """
    select gate, table_name, column_name, expectation, severity, success, observed
    from ops.gate_result
    where
        release_id = %(release_id)s
        or (release_id is null and from_date = %(from_date)s and to_date = %(to_date)s)
    order by
        success,
        case severity when 'critical' then 1 when 'warning' then 2 else 3 end,
        gate,
        table_name,
        column_name,
        expectation,
        observed
"""

SET_ASIDE = """
    select reason_code, table_name, sum(rows)::bigint as rows
    from ops.quarantine_count
    where load_date >= %(from_date)s and load_date < %(to_date)s and rows > 0
    group by reason_code, table_name
    order by sum(rows) desc, reason_code, table_name
"""

ARRIVALS = """
    select
        count(*) as batches,
        coalesce(sum(physical_rows), 0)::bigint as physical,
        coalesce(sum(loaded_rows), 0)::bigint as loaded,
        coalesce(sum(quarantined_rows), 0)::bigint as quarantined,
        coalesce(sum(skipped_rows), 0)::bigint as skipped,
        count(*) filter (where not balanced) as unbalanced
    from ops.reconciliation
    where load_date >= %(from_date)s and load_date < %(to_date)s
"""

# Attempts at a window and at days within it, such as the day on which a history ends with training.
STAGES = """
    select verb, from_date, to_date, rows, seconds::double precision as seconds, status, message
    from ops.stage_run
    where from_date >= %(from_date)s and to_date <= %(to_date)s
    order by stage_run_id
"""

LAST_TRAINING = """
    select message
    from ops.stage_run
    where verb = 'train' and to_date <= %(to_date)s and message <> ''
    order by stage_run_id desc
    limit 1
"""
