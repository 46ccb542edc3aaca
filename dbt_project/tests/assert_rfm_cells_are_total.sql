-- On every day from the first version on, each of the 125 combinations has one name.

with

cells as (

    select * from {{ ref('rfm_cell') }}

),

starts as (

    select distinct valid_from as first_day from cells

)

select
    starts.first_day,
    count(*) as cell_cnt

from starts
inner join cells on starts.first_day >= cells.valid_from and starts.first_day < cells.valid_to

group by starts.first_day

having count(*) <> 125 or count(distinct cells.cell) <> 125
