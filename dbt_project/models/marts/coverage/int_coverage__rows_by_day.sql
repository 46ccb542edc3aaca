-- Grain: one row per contract table, load date and event date with rows: how much of each table
-- arrived, and of which days it is.

{{ config(**replace_window()) }}

with

arrived as (

    {% for system, table, staged in covered_tables() %}
        select
            '{{ system }}' as source_system,
            '{{ table }}' as contract_table,
            load_date,
            event_date,
            count(*) as row_cnt

        from {{ ref(staged) }}

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
