{# Full months from one date to a later one: a month is full on the same day of the month. #}
{% macro full_months(earlier, later) -%}
    cast(
        (extract(year from {{ later }}) - extract(year from {{ earlier }})) * 12
        + extract(month from {{ later }}) - extract(month from {{ earlier }})
        - case
            when extract(day from {{ later }}) < extract(day from {{ earlier }}) then 1
            else 0
        end
        as integer
    )
{%- endmacro %}
