-- Grain: one row per mart and contract table that the mart reads.
-- Tells an operator who lacks a table what the marts cannot say without it.

with

needs as (

    select * from {{ ref('mart_need') }}

),

arrived as (

    select
        source_system,
        contract_table,
        sum(row_cnt) as rows_total,
        min(load_date) as first_load_date,
        max(load_date) as last_load_date

    from {{ ref('int_coverage__rows_by_day') }}

    group by source_system, contract_table

),

compared as (

    select
        needs.mart_name,
        needs.source_system,
        needs.contract_table,
        needs.is_required,
        needs.without_it,
        arrived.first_load_date,
        arrived.last_load_date,
        coalesce(arrived.rows_total, 0) as rows_total,
        case when arrived.rows_total > 0 then 0 else 1 end as is_empty

    from needs
    left join arrived
        on
            needs.source_system = arrived.source_system
            and needs.contract_table = arrived.contract_table

),

marts as (

    select
        mart_name,
        max(case when is_required then is_empty else 0 end) as lacks_required,
        max(is_empty) as lacks_any

    from compared

    group by mart_name

)

select
    compared.mart_name,
    compared.source_system,
    compared.contract_table,
    compared.is_required,
    {{ as_bigint('compared.rows_total') }} as rows_total,
    compared.first_load_date,
    compared.last_load_date,
    case when compared.is_empty = 1 then 'empty' else 'full' end as table_coverage,
    case
        when marts.lacks_required = 1 then 'empty'
        when marts.lacks_any = 1 then 'partial'
        else 'full'
    end as mart_coverage,
    case
        when compared.is_empty = 1 then compared.without_it
        else 'Covered.'
    end as sentence

from compared
inner join marts on compared.mart_name = marts.mart_name
