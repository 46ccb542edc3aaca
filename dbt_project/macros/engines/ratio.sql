{#
    One number divided by another, with six decimals; null when the divisor is null
    or 0. Integer division truncates on PostgreSQL and not on DuckDB: the numerator
    is made a decimal first.
#}
{% macro ratio(numerator, denominator) -%}
    cast(
        round(cast({{ numerator }} as decimal(28, 6)) / nullif({{ denominator }}, 0), 6)
        as decimal(18, 6)
    )
{%- endmacro %}

{# A ratio rounded to a whole number, as bigint: a mean of fen stays fen. #}
{% macro whole_ratio(numerator, denominator) -%}
    cast(
        round(cast({{ numerator }} as decimal(28, 6)) / nullif({{ denominator }}, 0), 0)
        as bigint
    )
{%- endmacro %}

{#
    Sample standard deviation divided by the mean, from the count, the sum and the
    sum of squares of whole numbers. Sums of integers do not depend on the order in
    which an engine adds them; its own stddev() does, in the last digits.
#}
{% macro variation(count, total, squares) -%}
    {{ return(adapter.dispatch('variation', 'keepline')(count, total, squares)) }}
{%- endmacro %}

{% macro default__variation(count, total, squares) -%}
    cast(round(
        sqrt(
            case
                when {{ count }} < 2 or {{ total }} = 0 then null
                else cast(
                    {{ count }} * {{ squares }} - {{ total }} * {{ total }} as decimal(38, 0)
                ) / ({{ count }} * ({{ count }} - 1))
            end
        ) * {{ count }} / nullif({{ total }}, 0), 6
    ) as decimal(18, 6))
{%- endmacro %}

{# Spark divides decimals into six digits; a double keeps sixteen, as DuckDB's does. #}
{% macro spark__variation(count, total, squares) -%}
    cast(round(
        sqrt(
            case
                when {{ count }} < 2 or {{ total }} = 0 then null
                else cast({{ count }} * {{ squares }} - {{ total }} * {{ total }} as double)
                    / ({{ count }} * ({{ count }} - 1))
            end
        ) * {{ count }} / nullif({{ total }}, 0), 6
    ) as decimal(18, 6))
{%- endmacro %}
