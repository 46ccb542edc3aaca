{#
    The earliest month of fct_subscription_month that this run must write again, as a
    date literal. It compares what the table says with what is known now, so that it
    holds whatever the order in which windows arrive:

    - the month of the window's first load date, and the one after the last that is there;
    - months that had not ended when they were written;
    - the months of what happened earlier and became known in the window (late rows);
    - the months of the rows that the window, or a later day, had brought when it was built
      before: what it has brought no more is seen by that alone;
    - the earliest month whose joiners, returns or leavers are not those in the table any more,
      as after the correction of a date.
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

        where load_date_max >= {{ window_from() }} or closing_date < month_end

        union all

        select min(coalesce(told.month_start, known.month_start)) as month_start

        from (
            select
                subscription_id,
                month_start,
                case when gross_add_flag then 1 else 0 end as gross_add_cnt,
                win_back_cnt,
                churn_cnt,
                churn_first_published_cnt

            from {{ this }}

            where gross_add_flag or win_back_cnt + churn_cnt + churn_first_published_cnt > 0
        ) as told

        full join (
            select turns.*

            from {{ ref('int_subscription_turn') }} as turns

            cross join (
                select
                    min(month_start) as first_month,
                    max(month_start) as last_month

                from {{ this }}
            ) as written

            where
                turns.month_start >= written.first_month
                and turns.month_start <= written.last_month
        ) as known
            on
                told.subscription_id = known.subscription_id
                and told.month_start = known.month_start

        where
            told.subscription_id is null
            or known.subscription_id is null
            or told.gross_add_cnt <> known.gross_add_cnt
            or told.win_back_cnt <> known.win_back_cnt
            or told.churn_cnt <> known.churn_cnt
            or told.churn_first_published_cnt <> known.churn_first_published_cnt
    ) as changed
)
{%- endcall -%}
{%- endmacro %}
