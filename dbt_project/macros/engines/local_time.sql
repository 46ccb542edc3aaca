{#
    The operator's local clock. Instants are kept in UTC without a zone; days and
    hours of business are local (variable `timezone`).
#}
{% macro local_timestamp(utc_timestamp) -%}
    {{ return(adapter.dispatch('local_timestamp', 'keepline')(utc_timestamp)) }}
{%- endmacro %}

{% macro default__local_timestamp(utc_timestamp) -%}
    ({{ utc_timestamp }} at time zone 'UTC' at time zone '{{ var("timezone") }}')
{%- endmacro %}

{% macro spark__local_timestamp(utc_timestamp) -%}
    convert_timezone('UTC', '{{ var("timezone") }}', {{ utc_timestamp }})
{%- endmacro %}

{# Local business day of a UTC instant. #}
{% macro local_date(utc_timestamp) -%}
    cast({{ local_timestamp(utc_timestamp) }} as date)
{%- endmacro %}

{# Local hour (0-23) of a UTC instant. #}
{% macro local_hour(utc_timestamp) -%}
    cast(extract(hour from {{ local_timestamp(utc_timestamp) }}) as integer)
{%- endmacro %}
