-- Grain: one row per business date that was built, whether or not a row landed on it. What says
-- that a day, and so a month, is over: an operator that bills monthly has days without a row.

{{ config(**replace_window()) }}

with

days as (

    select * from {{ ref('dim_date') }}

),

{% if is_incremental() -%}
span as (

    select
        {{ window_from() }} as first_date,
        {{ add_days(window_to(), -1) }} as last_date

)

{%- else -%}
-- Built from nothing: all that is loaded, and the window.
landed as (

    {% for table in [
        'bss__subscription', 'bss__subscription_status_event', 'med__cdr_voice', 'med__cdr_sms',
        'med__cdr_data', 'bil__bill_line', 'ocs__recharge',
    ] -%}
    select
        min(load_date) as first_date,
        max(load_date) as last_date

    from {{ ref('stg_' ~ table) }}

    where {{ in_window() }}
    {%- if not loop.last %}

    union all

    {% endif -%}
    {%- endfor %}

),

span as (

    select
        least(coalesce(min(first_date), {{ window_from() }}), {{ window_from() }}) as first_date,
        greatest(
            coalesce(max(last_date), {{ window_from() }}), {{ add_days(window_to(), -1) }}
        ) as last_date

    from landed

)
{%- endif %}

select days.date_day as load_date

from days

inner join span on days.date_day >= span.first_date and days.date_day <= span.last_date

where {{ in_window('days.date_day') }}
