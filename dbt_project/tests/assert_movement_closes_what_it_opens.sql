-- The closing of a month is the opening of the next one, in every cell.

with

movements as (

    select * from {{ ref('mart_subscriber_movement') }}

),

last_month as (

    select max(month_start) as month_start from movements

),

closings as (

    select
        {{ add_months('movements.month_start', 1) }} as month_start,
        movements.province_code,
        movements.brand_code,
        movements.payment_type,
        movements.activation_channel,
        movements.closing as line_cnt

    from movements
    inner join last_month on movements.month_start < last_month.month_start

    where movements.closing <> 0

),

first_month as (

    select min(month_start) as month_start from movements

),

openings as (

    select
        movements.month_start,
        movements.province_code,
        movements.brand_code,
        movements.payment_type,
        movements.activation_channel,
        movements.opening as line_cnt

    from movements
    inner join first_month on movements.month_start > first_month.month_start

    where movements.opening <> 0

)

select
    coalesce(closings.month_start, openings.month_start) as month_start,
    coalesce(closings.province_code, openings.province_code) as province_code,
    coalesce(closings.brand_code, openings.brand_code) as brand_code,
    coalesce(closings.line_cnt, 0) as closing_before,
    coalesce(openings.line_cnt, 0) as opening

from closings
full join openings
    on
        closings.month_start = openings.month_start
        and closings.province_code = openings.province_code
        and closings.brand_code = openings.brand_code
        and closings.payment_type = openings.payment_type
        and closings.activation_channel = openings.activation_channel

where coalesce(closings.line_cnt, 0) <> coalesce(openings.line_cnt, 0)
