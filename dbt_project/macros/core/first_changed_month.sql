{#
    The earliest month of fct_subscription_month that this run must write again, as a
    date literal. It compares what the table says with what is known now, so that it
    holds whatever the order in which windows arrive:

    - the month of the window's first load date, and the one after the last that is there;
    - the months of what happened earlier and became known in the window (late rows);
    - the months of the rows that the window, or a later day, had brought when it was built
      before: what it has brought no more is seen by that alone;
    - the earliest month whose leavers are not those in the table any more.
#}
{% macro first_changed_month() -%}
{%- call asked_date() -%}
(
    select min(changed.month_start)

    from (
        select {{ month_start(window_from()) }} as month_start

        {% for fact in ['fct_usage_daily', 'fct_activity_daily', 'fct_bill_line', 'fct_recharge'] %}
        union all

        select {{ month_start('min(event_date)') }} as month_start

        from {{ ref(fact) }}

        where {{ in_window() }}

        {% endfor %}
        union all

        select {{ month_start('min(valid_from)') }} as month_start

        from {{ ref('dim_subscription') }}

        where {{ in_window() }}

        union all

        select {{ add_months('max(month_start)', 1) }} as month_start

        from {{ this }}

        union all

        select min(month_start) as month_start

        from {{ this }}

        where load_date_max >= {{ window_from() }}

        union all

        select min(coalesce(told.month_start, known.month_start)) as month_start

        from (
            select
                subscription_id,
                month_start

            from {{ this }}

            where churn_flag
        ) as told

        full join (
            select
                subscription_id,
                {{ month_start('event_date') }} as month_start

            from {{ ref('fct_churn_event') }}

            where
                revoked_date is null
                and event_date >= (select min(first.month_start) from {{ this }} as first)
        ) as known
            on
                told.subscription_id = known.subscription_id
                and told.month_start = known.month_start

        where told.subscription_id is null or known.subscription_id is null
    ) as changed
)
{%- endcall -%}
{%- endmacro %}
