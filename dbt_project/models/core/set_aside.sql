-- Grain: one row per load date, table, column, reason and key: what was noticed about rows of the
-- load date that only the rows of other load dates could tell, and how many rows that were.
--
-- DUP_EARLIER is left out of the facts: the same thing had come in one of the load dates before,
-- at most `look_back_days` back. Everything else is kept and only noted: EARLY_FACT (a key that no
-- master has told of), UNKNOWN_CODE (a code that no reference table has), SUSPECT_REUSE (a line
-- with a number that somebody else held less than `reuse_days` before its activation).
-- Each row is judged with what was known on its load date. A reference that has not told anything
-- by then judges nobody.

{{ config(**replace_window()) }}

with

-- What came more than once in the window and the load dates before it.
{{ deliveries_of_repeated('repeated') }},

duplicates as (

    select
        table_name,
        key_text,
        load_date,
        'key' as column_name,
        'DUP_EARLIER' as reason_code,
        min(event_date) as event_date,
        min(load_date_before) as first_load_date,
        count(*) as row_cnt

    from repeated

    where
        load_date_before < load_date
        and load_date_before >= {{ add_days('load_date', -var('look_back_days')) }}
        and {{ in_window() }}

    group by table_name, key_text, load_date

),

-- Keys and codes by the reference that has to know them, with the load date from which it does.
known_codes as (

    {{ known_codes() }}

),

references_since as (

    select
        reference_name,
        min(known_from) as known_from

    from known_codes

    group by reference_name

),

named as (

    {{ named_codes() }}

),

not_known as (

    select
        named.table_name,
        named.column_name,
        named.code as key_text,
        named.event_date,
        named.load_date,
        named.row_cnt,
        case
            when
                named.reference_name in (
                    {% for reference in early_fact_references() %}
                        '{{ reference }}'{% if not loop.last %},{% endif %}
                    {% endfor %}
                )
                then 'EARLY_FACT'
            else 'UNKNOWN_CODE'
        end as reason_code

    from named
    inner join references_since
        on
            named.reference_name = references_since.reference_name
            and named.load_date >= references_since.known_from
    left join known_codes
        on
            named.reference_name = known_codes.reference_name
            and named.code = known_codes.code
            and named.load_date >= known_codes.known_from

    where known_codes.code is null

),

lines as (

    select
        subscription_id,
        customer_id,
        msisdn_hash,
        activated_at,
        {{ local_date('activated_at') }} as activated_date,
        {{ local_date('terminated_at') }} as terminated_date,
        status_code,
        updated_at,
        event_date,
        load_date

    from {{ ref('stg_bss__subscription') }}

),

-- Lines beside the others that had their number, as each was last known with it on the load date.
number_holders as (

    select
        lines.subscription_id,
        lines.event_date,
        lines.load_date,
        lines.activated_date,
        earlier.subscription_id as other_id,
        earlier.terminated_date,
        earlier.updated_at,
        row_number() over (
            partition by
                lines.subscription_id, lines.updated_at, lines.load_date, earlier.subscription_id
            order by earlier.updated_at desc, earlier.load_date desc
        ) as version_rank

    from lines
    inner join lines as earlier
        on
            lines.msisdn_hash = earlier.msisdn_hash
            and lines.subscription_id <> earlier.subscription_id
            and lines.load_date >= earlier.load_date
            -- Who has come back to the number is no stranger to it.
            and coalesce(lines.customer_id, '') <> coalesce(earlier.customer_id, 'nobody')
            -- Of two lines that were activated in one instant each is suspected.
            and lines.activated_at >= earlier.activated_at

    where lines.status_code <> 'terminated' and {{ in_window('lines.load_date') }}

),

-- A line can give a number up without its end: it takes another one.
number_ends as (

    select
        number_holders.subscription_id,
        number_holders.event_date,
        number_holders.load_date,
        number_holders.activated_date,
        number_holders.other_id,
        coalesce(
            number_holders.terminated_date,
            min({{ local_date('later.updated_at') }}),
            {{ end_of_time() }}
        ) as ended_date

    from number_holders
    left join lines as later
        on
            number_holders.other_id = later.subscription_id
            and number_holders.updated_at < later.updated_at
            and number_holders.load_date >= later.load_date

    where number_holders.version_rank = 1

    group by
        number_holders.subscription_id, number_holders.event_date, number_holders.load_date,
        number_holders.activated_date, number_holders.other_id, number_holders.terminated_date

),

reused as (

    select
        subscription_id as key_text,
        load_date,
        min(event_date) as event_date

    from number_ends

    where ended_date > {{ add_days('activated_date', -var('reuse_days')) }}

    group by subscription_id, load_date

)

select
    table_name,
    column_name,
    reason_code,
    key_text,
    {{ as_bigint('row_cnt') }} as row_cnt,
    event_date,
    first_load_date,
    load_date

from duplicates

union all

select
    table_name,
    column_name,
    reason_code,
    key_text,
    {{ as_bigint('row_cnt') }} as row_cnt,
    event_date,
    cast(null as date) as first_load_date,
    load_date

from not_known

union all

select
    'subscription' as table_name,
    'msisdn_hash' as column_name,
    'SUSPECT_REUSE' as reason_code,
    key_text,
    {{ as_bigint('1') }} as row_cnt,
    event_date,
    cast(null as date) as first_load_date,
    load_date

from reused
