-- Grain: one row per load date, master table and key that a key list lacks or has anew.
-- A list is compared with the one before it, which may be `key_list_days` older and no more; a key
-- that a change brought in between is expected in the list, too.

{{ config(**replace_window()) }}

with

listed_keys as (

    select
        table_name,
        key_text,
        listed_at,
        load_date

    from {{ ref('stg_ref__source_key') }}

    where {{ in_window_and_before(var('key_list_days')) }}

),

lists as (

    select
        table_name,
        load_date,
        max(listed_at) as listed_at

    from listed_keys

    group by table_name, load_date

),

lists_in_order as (

    select
        table_name,
        load_date,
        listed_at,
        lag(load_date) over (partition by table_name order by load_date) as load_date_before,
        lag(listed_at) over (partition by table_name order by load_date) as listed_at_before

    from lists

),

compared as (

    select
        table_name,
        load_date,
        listed_at,
        load_date_before,
        listed_at_before

    from lists_in_order

    where
        load_date_before >= {{ add_days('load_date', -var('key_list_days')) }}
        and {{ in_window() }}

),

now_listed as (

    select
        compared.table_name,
        compared.load_date,
        compared.listed_at,
        listed_keys.key_text

    from compared
    inner join listed_keys
        on
            compared.table_name = listed_keys.table_name
            and compared.load_date = listed_keys.load_date

),

before_listed as (

    select
        compared.table_name,
        compared.load_date,
        compared.listed_at,
        listed_keys.key_text

    from compared
    inner join listed_keys
        on
            compared.table_name = listed_keys.table_name
            and compared.load_date_before = listed_keys.load_date

),

changes as (

    {% for table, staged, key in listed_masters() %}
        select
            '{{ table }}' as table_name,
            {{ key }} as key_text,
            updated_at,
            load_date

        from {{ ref(staged) }}

        where {{ in_window_and_before(var('key_list_days')) }}

        {% if not loop.last %}union all{% endif %}
    {% endfor %}

),

expected as (

    select
        table_name,
        load_date,
        listed_at,
        key_text

    from before_listed

    union distinct

    select
        compared.table_name,
        compared.load_date,
        compared.listed_at,
        changes.key_text

    from compared
    inner join changes
        on
            compared.table_name = changes.table_name
            and compared.load_date >= changes.load_date
            -- What was recorded after a list was written is not in it, but in the next one.
            and compared.listed_at >= changes.updated_at
            and (
                compared.load_date_before < changes.load_date
                or compared.listed_at_before < changes.updated_at
            )

)

select
    expected.table_name,
    expected.key_text,
    'GONE' as change_code,
    expected.listed_at,
    expected.load_date

from expected
left join now_listed
    on
        expected.table_name = now_listed.table_name
        and expected.load_date = now_listed.load_date
        and expected.key_text = now_listed.key_text

where now_listed.key_text is null

union all

select
    now_listed.table_name,
    now_listed.key_text,
    'LISTED' as change_code,
    now_listed.listed_at,
    now_listed.load_date

from now_listed
left join before_listed
    on
        now_listed.table_name = before_listed.table_name
        and now_listed.load_date = before_listed.load_date
        and now_listed.key_text = before_listed.key_text

where before_listed.key_text is null
