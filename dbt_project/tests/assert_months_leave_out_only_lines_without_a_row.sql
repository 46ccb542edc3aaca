-- The revenue of a month in fct_subscription_month is that of int_revenue, but for subscriptions
-- that have no row in the month (a last bill after the line has gone). The months of the window.

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
        {{ month_start('event_date') }} as month_start,
        own_fen,
        third_party_fen

    from {{ ref('int_revenue') }}

),

facts as (

    select
        subscription_months.month_start,
        sum(entries.own_fen) as own_fen,
        sum(entries.third_party_fen) as third_party_fen

    from entries
    inner join subscription_months
        on
            entries.subscription_id = subscription_months.subscription_id
            and entries.month_start = subscription_months.month_start

    group by subscription_months.month_start

),

told as (

    select
        month_start,
        sum(own_revenue_fen) as own_fen,
        sum(third_party_fen) as third_party_fen

    from subscription_months

    group by month_start

)

select
    told.month_start,
    told.own_fen,
    told.third_party_fen,
    facts.own_fen as own_fen_of_facts,
    facts.third_party_fen as third_party_fen_of_facts

from told
left join facts on told.month_start = facts.month_start

where
    told.own_fen <> coalesce(facts.own_fen, 0)
    or told.third_party_fen <> coalesce(facts.third_party_fen, 0)
