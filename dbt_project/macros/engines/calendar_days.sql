{#
    Query with one row `date_day` per day of the calendar, variables `calendar_from` to
    `calendar_to` (excluded). dbt's own date_spine asks the database how long it is
    while compiling; here the calendar's length is known from its two years.
#}
{% macro calendar_days() -%}
    {%- set days = (var('calendar_to') - var('calendar_from')) * 366 -%}
    select cast(date_day as date) as date_day

    from (
        select
            {{ add_days("cast('" ~ var('calendar_from') ~ "-01-01' as date)", 'generated_number - 1') }}
                as date_day

        from (
            {{ dbt.generate_series(days) }}
        ) as numbers
    ) as spine

    where date_day < cast('{{ var("calendar_to") }}-01-01' as date)
{%- endmacro %}
