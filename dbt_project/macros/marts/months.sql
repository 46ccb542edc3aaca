{#
    The earliest month in which something happened that became known in the window, or
    the month of the window itself, as a scalar subquery: a month mart writes again
    from here on, so that late rows restate it whatever the order of the windows.

    Args:
        facts: list of facts with event_date and load_date that the mart reads.
        reach_days: days before an event that it may still change.
#}
{% macro first_month_touched(facts, reach_days=0) -%}
(
    select min(touched.month_start)

    from (
        select {{ month_start(add_days(window_from(), -reach_days)) }} as month_start

        {% for fact in facts %}
        union all

        select {{ month_start(add_days('min(event_date)', -reach_days)) }} as month_start

        from {{ ref(fact) }}

        where {{ in_window() }}
        {% endfor %}
    ) as touched
)
{%- endmacro %}

{# What mart_rfm_month reads: a late row changes its month and those after it. #}
{% macro first_rfm_month() -%}
{%- call asked_date() -%}
    {{ first_month_touched(['fct_usage_daily', 'fct_recharge', 'fct_bill_line']) }}
{%- endcall -%}
{%- endmacro %}

{#
    What fct_subscription_month restates: besides late rows, a loss or an activation
    that became known long after its day. A loss by silence began as many days before
    as param_churn_definition says; what is read back here is longer than any of them.
#}
{% macro first_restated_month() -%}
{%- call asked_date() -%}
least(
    {{ first_month_touched(
        ['fct_usage_daily', 'fct_activity_daily', 'fct_recharge', 'fct_bill_line'], 124
    ) }},
    (
        select coalesce({{ month_start('min(event_date)') }}, {{ end_of_time() }})
        from {{ ref('fct_churn_event') }}
        where ({{ in_window('confirmed_date') }}) or ({{ in_window('revoked_date') }})
    ),
    (
        select coalesce({{ month_start('min(valid_from)') }}, {{ end_of_time() }})
        from {{ ref('dim_subscription') }}
        where {{ in_window() }}
    )
)
{%- endcall -%}
{%- endmacro %}
