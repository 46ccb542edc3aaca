-- Grain: one row per business date that was built, whether or not a row landed on it. What says
-- that a day, and so a month, is over: an operator that bills monthly has days without a row.

{{ config(**replace_window()) }}

with

days as (

    select * from {{ ref('dim_date') }}

),

span as (

    {{ built_span() }}

)

select days.date_day as load_date

from days

inner join span on days.date_day >= span.first_date and days.date_day <= span.last_date

where {{ in_window('days.date_day') }}
