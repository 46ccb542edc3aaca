-- Grain: one row per account and as-of date with a bill known by both clocks: the debt
-- part of perspective 8. A bill is as its last version known on the as-of date says.

{{ config(materialized='ephemeral', contract={'enforced': false}) }}

with

days as (

    select * from {{ ref('feat_day_asof') }}

),

versions as (

    select * from {{ ref('fct_bill') }}

    where {{ within_reach(365) }}

),

known as (

    select
        days.as_of_date,
        versions.bill_id,
        versions.account_id,
        versions.due_date,
        versions.remaining_fen,
        case when versions.state = 'settled' then versions.load_date end as settled_on,
        row_number() over (
            partition by days.as_of_date, versions.bill_id
            order by versions.updated_at desc, versions.load_date desc
        ) as version_rank

    from versions
    inner join days
        on
            versions.event_date = days.event_date
            and versions.load_date <= days.as_of_date
            and days.in_365d = 1

),

bills as (

    select
        as_of_date,
        bill_id,
        max(case when version_rank = 1 then account_id end) as account_id,
        max(case when version_rank = 1 then due_date end) as due_date,
        max(case when version_rank = 1 then remaining_fen end) as remaining_fen,
        min(settled_on) as settled_on

    from known

    group by as_of_date, bill_id

),

late as (

    select
        as_of_date,
        account_id,
        remaining_fen,
        case when due_date < as_of_date then remaining_fen else 0 end as arrears_fen,
        case
            when due_date > {{ add_days('as_of_date', -180) }} and due_date < as_of_date
                then greatest(
                    {{ days_between('due_date', 'coalesce(settled_on, as_of_date)') }}, 0
                )
            else 0
        end as days_late

    from bills

)

select
    account_id,
    as_of_date,
    {{ as_bigint('sum(remaining_fen)') }} as unpaid_fen,
    {{ as_bigint('sum(arrears_fen)') }} as arrears_amt,
    cast(max(days_late) as integer) as arrears_days_max_180d,
    cast(sum(case when days_late > 0 then 1 else 0 end) as integer) as late_payment_cnt_180d

from late

group by account_id, as_of_date
