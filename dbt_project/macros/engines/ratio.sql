{#
    One number divided by another, with six decimals, half away from zero; null when
    the divisor is null or 0. Integer division truncates on PostgreSQL and not on
    DuckDB: the numerator is made a decimal first.
#}
{% macro ratio(numerator, denominator) -%}
    {{ return(adapter.dispatch('ratio', 'keepline')(numerator, denominator)) }}
{%- endmacro %}

{% macro default__ratio(numerator, denominator) -%}
    cast(
        round(cast({{ numerator }} as decimal(28, 6)) / nullif({{ denominator }}, 0), 6)
        as decimal(18, 6)
    )
{%- endmacro %}

{#
    DuckDB divides decimals as doubles, whose 333 / 640 is a little less than the
    0.5203125 that the others round up. Close to such a half whole numbers are
    divided, forty times slower; so is what a double holds with too few digits.
    Written tightly: dbt counts the words of a model, and some have thirty ratios.
#}
{% macro duckdb__ratio(numerator, denominator) -%}
    {%- set quotient = '((' ~ numerator ~ ')::decimal(28,6)/nullif(' ~ denominator ~ ',0))' -%}
    {%- set whole_n = '((' ~ numerator ~ ')::decimal(28,6)*1000000)::hugeint' -%}
    {%- set whole_d = '((' ~ denominator ~ ')::decimal(28,6)*1000000)::hugeint' -%}
    {%- set by_double = 'round(' ~ quotient ~ ',6)::decimal(18,6)' -%}
    {%- set rounded = '2000000*' ~ whole_n ~ '+sign(' ~ whole_n ~ ')*abs(' ~ whole_d ~ ')' -%}
    {%- set millionths = 'divide(' ~ rounded ~ ',2*nullif(' ~ whole_d ~ ',0))::decimal(18,0)' -%}
    case when abs({{ quotient }})<100000 and abs(abs({{ quotient }})*1000000%1-0.5)>0.001
    then {{ by_double }} else ({{ millionths }}*0.000001::decimal(6,6))::decimal(18,6) end
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
