-- The money of a month in fct_subscription_month is that of the facts, but for what belongs to
-- nobody in the base: rows without subscription, or of one that has no row in the month. Bills of
-- a prepaid line count there with their third-party part only. The months of the window.
--
-- The rest is what the two are compared by, and not whether one is the smaller: it may be a credit.

{%- set has_window = var('window_from') and var('window_to') %}

with

subscription_months as (

    select * from {{ ref('fct_subscription_month') }}

    {% if has_window -%}
    where
        month_start >= {{ month_start(window_from()) }}
        and month_start < {{ window_to() }}
    {%- endif %}

),

entries as (

    select
        subscription_id,
        'bill' as source_name,
        third_party_flag,
        {{ month_start('event_date') }} as month_start,
        tax_excl_fen as amount_fen

    from {{ ref('fct_bill_line') }}

    where charge_class <> 'tax'

    union all

    select
        subscription_id,
        'recharge' as source_name,
        false as third_party_flag,
        {{ month_start('event_date') }} as month_start,
        paid_fen as amount_fen

    from {{ ref('fct_recharge') }}

    where not reversed_flag

),

facts as (

    select
        entries.month_start,
        entries.source_name,
        sum(entries.amount_fen) as all_fen,
        sum(
            case
                when
                    subscription_months.subscription_id is null
                    or (
                        entries.source_name = 'bill'
                        and not entries.third_party_flag
                        and subscription_months.payment_type = 'prepaid'
                    )
                    then entries.amount_fen
                else 0
            end
        ) as left_out_fen

    from entries
    left join subscription_months
        on
            entries.subscription_id = subscription_months.subscription_id
            and entries.month_start = subscription_months.month_start

    {% if has_window -%}
    where
        entries.month_start >= {{ month_start(window_from()) }}
        and entries.month_start < {{ window_to() }}
    {%- endif %}

    group by entries.month_start, entries.source_name

),

told as (

    select
        month_start,
        'bill' as source_name,
        sum(
            third_party_fen + case when payment_type = 'prepaid' then 0 else own_revenue_fen end
        ) as told_fen

    from subscription_months

    group by month_start

    union all

    select
        month_start,
        'recharge' as source_name,
        sum(recharge_fen) as told_fen

    from subscription_months

    group by month_start

)

select
    facts.all_fen,
    facts.left_out_fen,
    told.told_fen,
    coalesce(facts.month_start, told.month_start) as month_start,
    coalesce(facts.source_name, told.source_name) as source_name

from facts
full join told on facts.month_start = told.month_start and facts.source_name = told.source_name

where
    coalesce(told.told_fen, 0)
    <> coalesce(facts.all_fen, 0) - coalesce(facts.left_out_fen, 0)
