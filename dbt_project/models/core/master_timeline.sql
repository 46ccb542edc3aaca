-- Grain: one row per change of a master, in the order of the source's own clock. The dimensions say
-- what was known on a day; this says what was so at an instant, as known now: a change that arrived
-- late splits the interval that it falls into, and two changes of a day have an interval each. Of
-- several deliveries of one instant the last one counts.

{{ config(materialized='view') }}

with

changes as (

    select
        'customer' as table_name,
        customer_id as key_text,
        updated_at,
        load_date

    from {{ ref('stg_crm__customer') }}

    union all

    select
        'billing_account' as table_name,
        account_id as key_text,
        updated_at,
        load_date

    from {{ ref('stg_crm__billing_account') }}

    union all

    select
        'subscription' as table_name,
        subscription_id as key_text,
        updated_at,
        load_date

    from {{ ref('stg_bss__subscription') }}

),

instants as (

    select
        table_name,
        key_text,
        updated_at,
        max(load_date) as load_date

    from changes

    group by table_name, key_text, updated_at

)

select
    table_name,
    key_text,
    updated_at as recorded_from,
    load_date,
    lead(updated_at) over (
        partition by table_name, key_text order by updated_at
    ) as recorded_to

from instants
