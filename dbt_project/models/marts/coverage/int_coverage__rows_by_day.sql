-- Grain: one row per contract table, load date and event date with rows: how much of each table
-- arrived, and of which days it is.

{{ config(**replace_window()) }}

{%- set tables = [
    'crm__party_individual',
    'crm__customer',
    'crm__billing_account',
    'bss__subscription',
    'bss__subscription_status_event',
    'bss__subscription_offering',
    'bss__product_offering',
    'med__cdr_voice',
    'med__cdr_sms',
    'med__cdr_data',
    'bil__bill',
    'bil__bill_line',
    'bil__payment',
    'ocs__recharge',
    'cc__interaction',
    'cc__trouble_ticket',
    'npd__np_port',
    'chn__dealer',
    'ref__operator',
    'ref__number_range',
    'ref__competitor_hotline',
    'ref__holiday',
    'ref__geography',
    'ref__brand',
] %}

with

arrived as (

    {% for table in tables %}
        select
            '{{ table.split("__")[0] }}' as source_system,
            '{{ table.split("__")[1] }}' as contract_table,
            load_date,
            event_date,
            count(*) as row_cnt

        from {{ ref('stg_' ~ table) }}

        where {{ in_window() }}

        group by load_date, event_date

        {% if not loop.last %}union all{% endif %}
    {% endfor %}

)

select
    source_system,
    contract_table,
    load_date,
    event_date,
    {{ as_bigint('row_cnt') }} as row_cnt

from arrived
