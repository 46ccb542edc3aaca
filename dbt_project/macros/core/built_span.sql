{#
    Query with one row: the first and the last business date that this run builds. In an
    incremental run they are the window's; a model that is built from nothing has all that is
    loaded, and the window.
#}
{% macro built_span() -%}
{%- if is_incremental() -%}
    select
        {{ window_from() }} as first_date,
        {{ add_days(window_to(), -1) }} as last_date
{%- else -%}
    select
        {% if var('window_from') and var('window_to') -%}
        least(coalesce(min(first_date), {{ window_from() }}), {{ window_from() }}) as first_date,
        greatest(
            coalesce(max(last_date), {{ window_from() }}), {{ add_days(window_to(), -1) }}
        ) as last_date
        {%- else -%}
        min(first_date) as first_date,
        max(last_date) as last_date
        {%- endif %}

    from (
        {% for table in [
            'bss__subscription', 'bss__subscription_status_event', 'med__cdr_voice',
            'med__cdr_sms', 'med__cdr_data', 'bil__bill_line', 'ocs__recharge',
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
    ) as landed
{%- endif -%}
{%- endmacro %}
