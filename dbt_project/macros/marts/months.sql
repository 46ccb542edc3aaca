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

{#
    What the marts by month write again: the months of late rows, of losses that became known,
    were corrected or won back, of versions, and of activations whose date was corrected. A loss by
    silence began as many days before as param_churn_definition says; what is read back here is
    longer than any of them.
#}
{% macro first_restated_month() -%}
{%- call asked_date() -%}
least(
    {{ first_month_touched(
        ['fct_usage_daily', 'fct_activity_daily', 'fct_recharge', 'fct_bill_line', 'fct_payment'], 124
    ) }},
    (
        select coalesce({{ month_start('min(event_date)') }}, {{ end_of_time() }})
        from {{ ref('fct_churn_event') }}
        where
            ({{ in_window('confirmed_date') }})
            or ({{ in_window('revoked_date') }})
            or ({{ in_window('corrected_date') }})
    ),
    (
        select coalesce({{ month_start('min(least(valid_from, activated_date, date_before))') }}, {{ end_of_time() }})
        from (
            select
                load_date,
                valid_from,
                case when activated_date <> activated_before then activated_date end
                    as activated_date,
                case when activated_date <> activated_before then activated_before end
                    as date_before
            from (
                select
                    load_date,
                    valid_from,
                    activated_date,
                    lag(activated_date) over (
                        partition by subscription_id order by valid_from
                    ) as activated_before
                from {{ ref('dim_subscription') }}
            ) as versions
        ) as changes
        where {{ in_window() }}
    )
)
{%- endcall -%}
{%- endmacro %}

{#
    What mart_rfm_month writes again: what fct_subscription_month restates, and the months after
    a late row or a payment, because it looks back.
#}
{% macro first_rfm_month() -%}
{{ first_restated_month() }}
{%- endmacro %}
