"""The questions that the report asks the store, in SQL for PostgreSQL.

Marts and names are read as the login `bi_reader`, which sees just the current release: the page
shows what every reader sees, and a right that is missing shows at once. The run book is read as the
pipeline. Columns bear the names of the fields in `rows`; brands and provinces come as codes.
"""

from __future__ import annotations

# A line that has been silent for too long has no risk, and its tier is a rule's: here it is SILENT,
# so that nobody reads it as one of those that are safe.
_LINES = """
    with lines as (
        select
            *,
            case
                when tier_rule_id = 'SILENT_TOO_LONG' then 'SILENT'
                when churn_probability is null and risk_tier not in ('NEW', 'NODATA') then 'SILENT'
                else risk_tier
            end as tier,
            case
                when tier_rule_id is distinct from 'SILENT_TOO_LONG' then churn_probability
            end as probability
        from mart.churn_risk_latest
    )
"""

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

# A payment type without a line in a month has no losses to wait for.
MOVEMENT = """
    with cells as (
        select
            *,
            opening + gross_adds + win_backs + migration_in > 0 as has_lines
        from mart.subscriber_movement
    )

    select
        month_start,
        sum(opening)::bigint as opening,
        sum(gross_adds)::bigint as gross_adds,
        sum(win_backs)::bigint as won_back,
        sum(migration_in)::bigint as moved_in,
        sum(migration_out)::bigint as moved_out,
        sum(churn)::bigint as churned,
        sum(churn_first_published)::bigint as first_told,
        sum(closing)::bigint as closing,
        bool_and(is_whole_month) as is_whole,
        coalesce(
            array_agg(distinct payment_type order by payment_type)
            filter (where has_lines and not is_settled),
            '{}'
        ) as waiting_for
    from cells
    group by month_start
    order by month_start
"""

# The days of silence by which a line is lost, as the newest loss of this kind names them.
SILENCE_LOST_BY = """
    select substring(definition_code from '[0-9]+$')::integer
    from star.fct_churn_event
    where kind = 'inactivity' and definition_code ~ '[0-9]+$'
    order by confirmed_date desc, definition_code
    limit 1
"""

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

# Risk x revenue is rounded line by line: a sum of floats would depend on the order of the rows.
RISK_BY_PLACE = (
    _LINES
    + """
    select
        brand_code as brand,
        province_code as province,
        count(probability) as judged,
        count(*) filter (where tier = 'HIGH' and eligible_flag) as high,
        count(*) filter (where tier = 'MEDIUM' and eligible_flag) as medium,
        coalesce(sum(clv_12m_fen) filter (where tier = 'HIGH' and eligible_flag), 0)::bigint
            as high_revenue_fen,
        coalesce(sum(round(probability::numeric * clv_12m_fen)), 0)::bigint as at_risk_fen
    from lines
    group by brand_code, province_code
    order by brand_code, province_code
"""
)

TIERS = (
    _LINES
    + """
    select
        tier,
        count(*) as lines,
        count(probability) as judged,
        count(*) filter (where eligible_flag) as callable,
        coalesce(sum(clv_12m_fen) filter (where probability is not null), 0)::bigint as revenue_fen,
        coalesce(sum(round(probability::numeric * clv_12m_fen)), 0)::bigint as at_risk_fen,
        coalesce(sum(expected_profit_of_contact_fen) filter (where eligible_flag), 0)::bigint
            as profit_fen
    from lines
    group by tier
    order by tier
"""
)

NOT_TO_CALL = (
    _LINES
    + """
    select
        tier,
        coalesce(ineligible_reason, 'UNKNOWN') as reason,
        count(*) as lines
    from lines
    where not eligible_flag
    group by tier, ineligible_reason
    order by tier, count(*) desc, ineligible_reason
"""
)

TIER_DAYS = """
    select
        score_date,
        case
            when tier_rule_id = 'SILENT_TOO_LONG' then 'SILENT'
            when churn_probability is null and risk_tier not in ('NEW', 'NODATA') then 'SILENT'
            else risk_tier
        end as tier,
        count(*) as lines
    from mart.churn_risk_daily
    where score_date >= %(first)s
    group by 1, 2
    order by 1, 2
"""

URGENT = """
    select
        msisdn_masked,
        brand_code as brand,
        province_code as province,
        payment_type,
        risk_tier as tier,
        churn_probability as probability,
        clv_12m_fen as revenue_fen,
        expected_profit_of_contact_fen as profit_fen,
        reason_1_text as reason_1,
        reason_2_text as reason_2,
        reason_3_text as reason_3
    from mart.churn_risk_latest
    where risk_tier in ('HIGH', 'MEDIUM') and eligible_flag
    order by
        (risk_tier = 'HIGH') desc,
        expected_profit_of_contact_fen desc nulls last,
        churn_probability desc nulls last,
        subscription_id
    limit %(rows)s
"""

SCORINGS = """
    select distinct score_date, score_run_id, model_version
    from mart.churn_risk_latest
    order by score_date, score_run_id, model_version nulls last
"""

# Months that are not whole are not described: five days are no month.
RFM_MONTH = "select max(month_start) from mart.rfm_month where is_whole_month"

RFM_CELLS = """
    select
        r_score,
        f_score,
        count(*) as lines,
        coalesce(sum(monetary_fen), 0)::bigint as revenue_fen
    from mart.rfm_month
    where month_start = %(month_start)s and r_score is not null and f_score is not null
    group by r_score, f_score
    order by r_score, f_score
"""

# How long ago the lines of each recency score were last used.
RFM_BANDS = """
    select
        payment_type,
        r_score,
        min(recency_days) as least_days,
        max(recency_days) as most_days,
        bool_or(recency_days is null) as has_silent
    from mart.rfm_month
    where month_start = %(month_start)s and r_score is not null
    group by payment_type, r_score
    order by payment_type, r_score desc
"""

# A payment type without facts has no scores.
RFM_SCORED = """
    select
        payment_type,
        count(*) as lines,
        count(*) filter (where r_score is not null and f_score is not null) as used,
        count(m_score) as paying,
        count(segment) as named
    from mart.rfm_month
    where month_start = %(month_start)s
    group by payment_type
    order by payment_type
"""

SEGMENTS = """
    select
        segment,
        count(*) as lines,
        coalesce(sum(monetary_fen), 0)::bigint as revenue_fen
    from mart.rfm_month
    where month_start = %(month_start)s and segment is not null
    group by segment
    order by revenue_fen desc, lines desc, segment
"""

TRENDS = """
    select
        brand_code as brand,
        coalesce(frequency_trend, 'no trend') as trend,
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
    where brand_code = 'ALL' and province_code = 'ALL' and is_whole_month
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
    select mart_name, contract_table, table_coverage, mart_coverage, sentence
    from mart.coverage
    where table_coverage <> 'full'
    order by mart_coverage, mart_name, contract_table
"""

MARTS_COVERED = "select count(distinct mart_name) from mart.coverage"

# Per payment type, the newest score date whose window ended by the end of the last month that is
# settled for it: no loss of that window can still become known. A month back is far enough. Days are
# asked for one by one, as the index finds them: a month of scores is too much to read.
RIPE_SCORES = """
    with settled as (
        select payment_type, (max(month_start) + interval '1 month')::date - 1 as last_day
        from (
            select payment_type, month_start
            from mart.subscriber_movement
            group by payment_type, month_start
            having bool_and(is_settled)
        ) as months
        group by payment_type
    ),

    days as (
        select payment_type, last_day - %(span)s::integer - days_before as score_date
        from settled
        cross join generate_series(0, 30) as days_before
    )

    select payment_type, max(score_date) as score_date
    from days
    where
        exists (
            select
            from mart.churn_risk_daily as scores
            where
                scores.score_date = days.score_date
                and scores.payment_type = days.payment_type
                and scores.churn_probability is not null
                and scores.tier_rule_id is distinct from 'SILENT_TOO_LONG'
        )
    group by payment_type
    order by payment_type
"""

# What came of the lines of a score date, counted like the labels that the model learns from. A loss
# from which the line had come back by the score date is an earlier story. A silence counts also when
# it began before the window and went on; other losses before the window, and losses against the
# customer's will, take the line out.
OUTCOMES = """
    with lines as (
        select
            subscription_id,
            risk_tier as tier,
            churn_probability::numeric as probability
        from mart.churn_risk_daily
        where
            score_date = %(score_date)s
            and payment_type = %(payment_type)s
            and churn_probability is not null
            and tier_rule_id is distinct from 'SILENT_TOO_LONG'
    ),

    losses as (
        select
            subscription_id,
            kind,
            event_date > %(score_date)s::date + %(gap_days)s::integer as is_in_window
        from star.fct_churn_event
        where
            outcome <> 'corrected'
            and (returned_date is null or returned_date > %(score_date)s)
            and event_date <= %(score_date)s::date + %(gap_days)s::integer + %(window_days)s::integer
    ),

    left_lines as (
        select
            subscription_id,
            bool_or(
                kind = 'inactivity' or (is_in_window and kind in ('voluntary', 'port_out'))
            ) as has_left,
            bool_or(
                kind <> 'inactivity'
                and (not is_in_window or kind not in ('voluntary', 'port_out'))
            ) as is_excluded
        from losses
        group by subscription_id
    )

    select
        %(payment_type)s::text as payment_type,
        lines.tier,
        %(score_date)s::date as score_date,
        count(*) as lines,
        sum(lines.probability)::double precision as said,
        count(*) filter (where left_lines.has_left) as came
    from lines
    left join left_lines using (subscription_id)
    where left_lines.is_excluded is not true
    group by lines.tier
    order by lines.tier
"""

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
