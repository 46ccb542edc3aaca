-- Grain: one row per mart and contract table that the mart reads.
-- Tells an operator who lacks a table, or has a part of it, what the marts cannot say without it.
--
-- A table has arrived in part when one of three things is so (parameters coverage_* of
-- param_threshold, by table): few of the last business dates have rows, its rows stop long before
-- the last business date, or it names few of those that were in service throughout the last whole
-- month. A table without a parameter is not judged by that rule: a bill comes once a month.

{%- set text = dbt.type_string() %}

with

needs as (

    select * from {{ ref('mart_need') }}

),

rows_by_day as (

    select * from {{ ref('int_coverage__rows_by_day') }}

),

business_dates as (

    select * from {{ ref('business_date') }}

),

calendar as (

    select * from {{ ref('int_month') }}

),

subscription_months as (

    select * from {{ ref('fct_subscription_month') }}

),

parameters as (

    select * from {{ ref('param_threshold') }}

    where key like 'coverage%'

),

arrived as (

    select
        source_system,
        contract_table,
        sum(row_cnt) as rows_total,
        min(load_date) as first_load_date,
        max(load_date) as last_load_date

    from rows_by_day

    group by source_system, contract_table

),

known_until as (

    select max(load_date) as last_date from business_dates

),

-- Parameters as they hold on the last business date.
held as (

    select
        parameters.key,
        parameters.scope,
        parameters.value

    from parameters
    cross join known_until

    where
        known_until.last_date >= parameters.valid_from
        and known_until.last_date < parameters.valid_to

),

settings as (

    select
        max(case when key = 'coverage_look_back_days' then value end) as look_back_days,
        max(case when key = 'coverage_min_business_dates' then value end) as min_business_dates,
        max(case when key = 'coverage_min_subscriptions' then value end) as min_subscriptions

    from held

    where scope = 'ALL'

),

limits as (

    select
        scope as contract_table,
        max(case when key = 'coverage_min_days_share' then value end) as min_days_share,
        max(case when key = 'coverage_max_days_since' then value end) as max_days_since,
        max(case when key = 'coverage_min_named_share' then value end) as min_named_share

    from held

    group by scope

),

recent_dates as (

    select business_dates.load_date as date_day

    from business_dates
    cross join known_until
    cross join settings

    where
        business_dates.load_date
        > {{ add_days('known_until.last_date', '-settings.look_back_days') }}

),

recent as (

    select count(*) as business_dates from recent_dates

),

-- An event that is announced ahead has not come yet.
happened as (

    select
        rows_by_day.source_system,
        rows_by_day.contract_table,
        max(rows_by_day.event_date) as last_event_date

    from rows_by_day
    cross join known_until

    where rows_by_day.event_date <= known_until.last_date

    group by rows_by_day.source_system, rows_by_day.contract_table

),

days_seen as (

    select
        rows_by_day.source_system,
        rows_by_day.contract_table,
        count(distinct rows_by_day.event_date) as days_with_rows

    from rows_by_day
    inner join recent_dates on rows_by_day.event_date = recent_dates.date_day

    group by rows_by_day.source_system, rows_by_day.contract_table

),

last_whole_month as (

    select max(month_start) as month_start from calendar

    where is_whole_month

),

in_service as (

    select
        subscription_months.payment_type,
        subscription_months.month_start,
        subscription_months.month_end,
        case
            when subscription_months.voice_out_s + subscription_months.voice_in_s > 0 then 1 else 0
        end as has_calls,
        case when subscription_months.sms_out_cnt > 0 then 1 else 0 end as has_messages,
        case when subscription_months.volume_bytes > 0 then 1 else 0 end as has_data,
        case when subscription_months.recharge_fen > 0 then 1 else 0 end as has_recharges,
        case
            when
                subscription_months.own_revenue_fen <> 0
                or subscription_months.third_party_fen <> 0
                then 1
            else 0
        end as has_revenue

    from subscription_months
    inner join last_whole_month
        on subscription_months.month_start = last_whole_month.month_start

    where subscription_months.opening_flag and subscription_months.closing_flag

),

base as (

    select count(*) as subscriptions from in_service

),

named as (

    select
        'cdr_voice' as contract_table,
        min(month_start) as month_start,
        max(month_end) as month_end,
        count(*) as subscriptions_in_service,
        sum(has_calls) as subscriptions_named

    from in_service

    union all

    select
        'cdr_sms' as contract_table,
        min(month_start) as month_start,
        max(month_end) as month_end,
        count(*) as subscriptions_in_service,
        sum(has_messages) as subscriptions_named

    from in_service

    union all

    select
        'cdr_data' as contract_table,
        min(month_start) as month_start,
        max(month_end) as month_end,
        count(*) as subscriptions_in_service,
        sum(has_data) as subscriptions_named

    from in_service

    union all

    select
        'recharge' as contract_table,
        min(month_start) as month_start,
        max(month_end) as month_end,
        count(*) as subscriptions_in_service,
        sum(has_recharges) as subscriptions_named

    from in_service

    where payment_type = 'prepaid'

    union all

    select
        'bill_line' as contract_table,
        min(month_start) as month_start,
        max(month_end) as month_end,
        count(*) as subscriptions_in_service,
        sum(has_revenue) as subscriptions_named

    from in_service

    where payment_type <> 'prepaid'

),

measured as (

    select
        needs.mart_name,
        needs.source_system,
        needs.contract_table,
        needs.is_required,
        needs.without_it,
        arrived.first_load_date,
        arrived.last_load_date,
        happened.last_event_date,
        known_until.last_date,
        named.month_start,
        named.month_end,
        recent.business_dates,
        named.subscriptions_in_service,
        named.subscriptions_named,
        coalesce(arrived.rows_total, 0) as rows_total,
        coalesce(days_seen.days_with_rows, 0) as days_with_rows,
        case when arrived.rows_total > 0 then 0 else 1 end as is_empty,
        case
            when
                recent.business_dates >= settings.min_business_dates
                and base.subscriptions >= settings.min_subscriptions
                and coalesce(days_seen.days_with_rows, 0)
                < limits.min_days_share * recent.business_dates
                then 1
            else 0
        end as has_few_days,
        case
            when
                {{ days_between('happened.last_event_date', 'known_until.last_date') }}
                > limits.max_days_since
                then 1
            else 0
        end as has_stopped,
        case
            when
                named.subscriptions_named
                < limits.min_named_share * named.subscriptions_in_service
                then 1
            else 0
        end as names_few

    from needs
    cross join known_until
    cross join settings
    cross join recent
    cross join base
    left join arrived
        on
            needs.source_system = arrived.source_system
            and needs.contract_table = arrived.contract_table
    left join happened
        on
            needs.source_system = happened.source_system
            and needs.contract_table = happened.contract_table
    left join days_seen
        on
            needs.source_system = days_seen.source_system
            and needs.contract_table = days_seen.contract_table
    left join limits on needs.contract_table = limits.contract_table
    left join named on needs.contract_table = named.contract_table

),

judged as (

    select
        *,
        case
            when is_empty = 1 then 'empty'
            when has_few_days + has_stopped + names_few > 0 then 'partial'
            else 'full'
        end as table_coverage,
        case
            when has_few_days = 1
                then {{ dbt.concat([
                    "' Only '", "cast(days_with_rows as " ~ text ~ ")", "' of the last '",
                    "cast(business_dates as " ~ text ~ ")", "' business dates have rows.'"
                ]) }}
            else ''
        end as days_said,
        case
            when has_stopped = 1
                then {{ dbt.concat([
                    "' The last row is of '", "cast(last_event_date as " ~ text ~ ")",
                    "', the last business date is '", "cast(last_date as " ~ text ~ ")", "'.'"
                ]) }}
            else ''
        end as stop_said,
        case
            when names_few = 1
                then {{ dbt.concat([
                    "' Only '", "cast(subscriptions_named as " ~ text ~ ")", "' of '",
                    "cast(subscriptions_in_service as " ~ text ~ ")",
                    "' lines in service from '", "cast(month_start as " ~ text ~ ")",
                    "' to '", "cast(month_end as " ~ text ~ ")", "' have any.'"
                ]) }}
            else ''
        end as named_said

    from measured

),

marts as (

    select
        mart_name,
        max(case when is_required then is_empty else 0 end) as lacks_required,
        max(case when table_coverage = 'full' then 0 else 1 end) as lacks_any

    from judged

    group by mart_name

)

select
    judged.mart_name,
    judged.source_system,
    judged.contract_table,
    judged.is_required,
    {{ as_bigint('judged.rows_total') }} as rows_total,
    judged.first_load_date,
    judged.last_load_date,
    judged.last_event_date,
    {{ as_bigint('judged.business_dates') }} as business_dates,
    {{ as_bigint('judged.days_with_rows') }} as days_with_rows,
    {{ as_bigint('judged.subscriptions_in_service') }} as subscriptions_in_service,
    {{ as_bigint('judged.subscriptions_named') }} as subscriptions_named,
    judged.table_coverage,
    case
        when marts.lacks_required = 1 then 'empty'
        when marts.lacks_any = 1 then 'partial'
        else 'full'
    end as mart_coverage,
    case judged.table_coverage
        when 'empty' then judged.without_it
        when 'partial'
            then {{ dbt.concat([
                "'Only a part has arrived.'", 'judged.days_said', 'judged.stop_said',
                'judged.named_said', "' For the rest: '", 'judged.without_it'
            ]) }}
        else 'Covered.'
    end as sentence

from judged
inner join marts on judged.mart_name = marts.mart_name
