-- RFM has the subscriptions that the movement closes with, month by month, and no ended month is
-- missing in either.

with

months as (

    select * from {{ ref('int_month') }}

    where is_ended

),

closings as (

    select
        month_start,
        sum(closing) as closing

    from {{ ref('mart_subscriber_movement') }}

    group by month_start

),

scored as (

    select
        month_start,
        count(*) as row_cnt

    from {{ ref('mart_rfm_month') }}

    group by month_start

)

select
    months.month_start,
    closings.closing,
    scored.row_cnt

from months
left join closings on months.month_start = closings.month_start
left join scored on months.month_start = scored.month_start

where coalesce(closings.closing, 0) <> coalesce(scored.row_cnt, 0)
