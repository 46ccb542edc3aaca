-- Every bill line and recharge of a known subscription is revenue, but for tax, what was reversed,
-- bill lines of who was prepaid (their recharges have paid them) and recharges of who was not.

{%- set has_window = var('window_from') and var('window_to') %}
{%- set in_days = "<day> >= " ~ window_from() ~ " and <day> < " ~ window_to()
    if has_window else "1 = 1" %}

with

counted as (

    select
        source_name,
        count(*) as row_cnt

    from {{ ref('int_revenue') }}

    where {{ in_days | replace('<day>', 'load_date') }}

    group by source_name

),

known as (

    select
        subscription_id,
        max(case when payment_type = 'prepaid' then 1 else 0 end) as was_prepaid,
        max(case when payment_type = 'prepaid' then 0 else 1 end) as was_other

    from {{ ref('dim_subscription') }}

    where subscription_id <> 'UNKNOWN' and not is_inferred

    group by subscription_id

),

-- Who never changed: there is nothing to decide. The others only bound the count.
expected as (

    select
        'bill' as source_name,
        sum(case when coalesce(known.was_prepaid, 0) = 0 then 1 else 0 end) as least_cnt,
        sum(case when coalesce(known.was_other, 1) = 1 then 1 else 0 end) as most_cnt

    from {{ ref('fct_bill_line') }} as bill_lines
    left join known on bill_lines.subscription_id = known.subscription_id

    where
        bill_lines.charge_class <> 'tax'
        and bill_lines.subscription_id is not null
        and {{ in_days | replace('<day>', 'bill_lines.load_date') }}

    union all

    select
        'recharge' as source_name,
        sum(case when known.was_other = 0 then 1 else 0 end) as least_cnt,
        sum(case when known.was_prepaid = 1 then 1 else 0 end) as most_cnt

    from {{ ref('fct_recharge') }} as recharges
    left join known on recharges.subscription_id = known.subscription_id

    where
        not recharges.reversed_flag
        and recharges.subscription_id is not null
        and {{ in_days | replace('<day>', 'recharges.load_date') }}

)

select
    expected.source_name,
    expected.least_cnt,
    expected.most_cnt,
    counted.row_cnt

from expected
left join counted on expected.source_name = counted.source_name

where
    coalesce(counted.row_cnt, 0) < coalesce(expected.least_cnt, 0)
    or coalesce(counted.row_cnt, 0) > coalesce(expected.most_cnt, 0)
