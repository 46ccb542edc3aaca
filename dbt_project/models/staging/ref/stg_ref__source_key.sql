-- Written by `keepline generate` from source_key.yml: do not edit.
-- All keys that a master table has at the end of a load date, if the operator can tell. A key that
-- the next list lacks is closed in its dimension on that load date; without lists nothing is ever
-- deleted.

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
