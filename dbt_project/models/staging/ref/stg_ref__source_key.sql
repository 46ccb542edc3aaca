-- A key that a master table has at the end of a load date.

with

source as (

    select * from {{ source('ref', 'source_key') }}

)

select
    table_name,
    key_text,
    listed_at,
    event_date,
    load_date

from source
