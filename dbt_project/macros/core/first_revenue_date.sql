{#
    The earliest day of int_revenue that this run must write again, as a date literal:

    - the first load date of the window;
    - the days of bill lines and recharges that became known in it or later: what they are
      depends on what was known of the subscription and its plans by then;
    - the days of the rows that the window, or a later day, had brought when it was built
      before: what it has brought no more is seen by that alone;
    - the days since which a subscription has another version.
#}
{% macro first_revenue_date() -%}
{%- call asked_date() -%}
(
    select min(changed.event_date)

    from (
        select {{ window_from() }} as event_date

        {% for relation in [ref('fct_bill_line'), ref('fct_recharge'), this] %}
        union all

        select min(event_date) as event_date

        from {{ relation }}

        where load_date >= {{ window_from() }}

        {% endfor %}
        union all

        select min(valid_from) as event_date

        from {{ ref('dim_subscription') }}

        where {{ in_window() }}
    ) as changed
)
{%- endcall -%}
{%- endmacro %}
