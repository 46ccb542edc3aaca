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
    were corrected or won back, of versions, of activations whose date was corrected, and of
    subscriptions that the mart counts and fct_subscription_month does not, or the other way round:
    a correction that was taken back has left no row to find it by. A loss by silence began as many
    days before as param_churn_definition says; what is read back here is longer than any of them.

    Args:
        counted: how many subscriptions the mart's rows of a month, province and brand count.
        rows: predicate of the mart's rows that count a subscription once.
        subscriptions: predicate of the rows of fct_subscription_month that are counted there.
#}
{% macro first_restated_month(counted='count(*)', rows='1 = 1', subscriptions='closing_flag') -%}
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
    ),
    (
        select coalesce(min(coalesce(told.month_start, known.month_start)), {{ end_of_time() }})
        from (
            select month_start, province_code, brand_code, {{ counted }} as subscription_cnt
            from {{ this }}
            where {{ rows }}
            group by month_start, province_code, brand_code
        ) as told
        full join (
            select
                month_start,
                coalesce(province_code, 'UNKNOWN') as province_code,
                coalesce(brand_code, 'UNKNOWN') as brand_code,
                count(case when {{ subscriptions }} then 1 end) as subscription_cnt
            from {{ ref('fct_subscription_month') }}
            where
                month_start >= (select min(month_start) from {{ this }})
                and month_start <= (select max(month_start) from {{ this }})
            group by month_start, coalesce(province_code, 'UNKNOWN'), coalesce(brand_code, 'UNKNOWN')
        ) as known
            on
                told.month_start = known.month_start
                and told.province_code = known.province_code
                and told.brand_code = known.brand_code
        where coalesce(told.subscription_cnt, 0) <> coalesce(known.subscription_cnt, 0)
    )
)
{%- endcall -%}
{%- endmacro %}

{#
    What mart_rfm_month and int_value__rfm_measures write again: the months after a late row or a
    payment, too, because they look back.
#}
{% macro first_rfm_month() -%}
{{ first_restated_month() }}
{%- endmacro %}

{# What mart_subscriber_movement writes again. #}
{% macro first_movement_month() -%}
{{ first_restated_month('sum(closing)') }}
{%- endmacro %}

{# What mart_pareto_month writes again. #}
{% macro first_pareto_month() -%}
{{ first_restated_month(
    'max(subscriptions)',
    "level = 'province_brand'",
    'opening_flag or gross_add_flag or win_back_cnt > 0'
) }}
{%- endmacro %}
