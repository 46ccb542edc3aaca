-- Written by `keepline generate` from party_individual.yml: do not edit.
-- A person as the CRM knows one; one row per change.

with

source as (

    select * from {{ source('crm', 'party_individual') }}

)

select
    party_id,
    gender,
    birth_date,
    id_type,
    id_no_hash,
    marital_status,
    employment_status,
    hobby,
    info_source_code,
    updated_at,
    event_date,
    load_date

from source
