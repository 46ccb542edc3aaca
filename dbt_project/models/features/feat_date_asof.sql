-- Grain: one row per as-of date of this run (variable as_of_dates).
-- M-1 is the last calendar month that has ended on the as-of date.

{{ config(materialized='ephemeral', contract={'enforced': false}) }}

{%- set as_of_dates = (var('as_of_dates') or []) | sort %}

with

as_of_dates as (

    {% for as_of_date in as_of_dates %}
        select cast('{{ as_of_date }}' as date) as as_of_date

        {% if not loop.last %}union all{% endif %}
    {% else %}
        select cast(null as date) as as_of_date

        where 1 = 0
    {% endfor %}

),

months as (

    select
        as_of_date,
        {{ month_start(add_days('as_of_date', 1)) }} as m1_end

    from as_of_dates

)

select
    as_of_date,
    m1_end,
    {{ add_months('m1_end', -1) }} as m1_start,
    {{ add_months('m1_end', -2) }} as m2_start,
    {{ add_months('m1_end', -3) }} as m3_start,
    {{ add_months('m1_end', -4) }} as m4_start,
    {{ add_months('m1_end', -12) }} as m12_start

from months
