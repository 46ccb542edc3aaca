-- Grain: one row per subscription and month in which it was activated, came back or was lost.
-- What a month of fct_subscription_month counts, and what tells that it has changed.

with

lives as (

    select * from {{ ref('int_subscription_life') }}

),

churn_events as (

    select * from {{ ref('fct_churn_event') }}

),

known_until as (

    select max(load_date) as last_date from {{ ref('business_date') }}

),

turns as (

    select
        lives.subscription_id,
        {{ month_start('lives.from_date') }} as month_start,
        case when lives.begin_kind = 'activation' then 1 else 0 end as gross_add_cnt,
        case when lives.begin_kind = 'return' then 1 else 0 end as win_back_cnt,
        0 as churn_cnt,
        0 as churn_first_published_cnt

    from lives

    inner join known_until on lives.from_date <= known_until.last_date

    union all

    select
        lives.subscription_id,
        {{ month_start('lives.to_date') }} as month_start,
        0 as gross_add_cnt,
        0 as win_back_cnt,
        1 as churn_cnt,
        0 as churn_first_published_cnt

    from lives

    inner join known_until on lives.to_date <= known_until.last_date

    union all

    select
        subscription_id,
        {{ month_start('event_date') }} as month_start,
        0 as gross_add_cnt,
        0 as win_back_cnt,
        0 as churn_cnt,
        1 as churn_first_published_cnt

    from churn_events

)

select
    subscription_id,
    month_start,
    cast(sum(gross_add_cnt) as integer) as gross_add_cnt,
    cast(sum(win_back_cnt) as integer) as win_back_cnt,
    cast(sum(churn_cnt) as integer) as churn_cnt,
    cast(sum(churn_first_published_cnt) as integer) as churn_first_published_cnt

from turns

group by subscription_id, month_start
