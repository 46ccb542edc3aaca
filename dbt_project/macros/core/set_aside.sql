{#
    What crosses batches: repeated events, keys and codes that nobody knows yet, numbers
    used again. `set_aside` writes it down, facts and dimensions read it. Everything is
    judged with what was known on the row's own load date, so that the order in which
    windows are built does not matter once the days after a changed one are built again.
    Which tables and columns that concerns follows from the contract: contract_tables.sql.
#}


{# The key of a row as one text, its parts joined by '|'. #}
{% macro key_text(columns, relation) -%}
    {%- set parts = [] -%}
    {%- for column in columns -%}
        {%- do parts.append("cast(" ~ relation ~ "." ~ column ~ " as " ~ dbt.type_string() ~ ")") -%}
        {%- if not loop.last -%}{%- do parts.append("'|'") -%}{%- endif -%}
    {%- endfor -%}
    {%- if parts | length == 1 -%}{{ parts[0] }}{%- else -%}{{ dbt.concat(parts) }}{%- endif -%}
{%- endmacro %}


{# Query with the codes that each reference knows, and the load date from which it does. #}
{% macro known_codes() -%}
{%- for reference, model, column, is_dated in knowing_models() %}
    select
        '{{ reference }}' as reference_name,
        {{ column }} as code,
        {% if is_dated %}min(load_date){% else %}cast('1900-01-01' as date){% endif %} as known_from

    from {{ ref(model) }}

    group by {{ column }}
    {%- if not loop.last %}

    union all
    {% endif %}
{%- endfor %}
{%- endmacro %}


{# Query with the codes that the window's rows name, one row per table, column and load date. #}
{% macro named_codes() -%}
{%- for table, staged, columns in naming_columns() %}
    {%- set last_table = loop.last %}
    {%- for column, reference in columns %}
    select
        '{{ table }}' as table_name,
        '{{ column }}' as column_name,
        '{{ reference }}' as reference_name,
        {{ column }} as code,
        load_date,
        min(event_date) as event_date,
        count(*) as row_cnt

    from {{ ref(staged) }}

    where {{ in_window() }} and {{ column }} <> 'UNKNOWN'

    group by {{ column }}, load_date
    {%- if not (last_table and loop.last) %}

    union all
    {% endif %}
    {%- endfor %}
{%- endfor %}
{%- endmacro %}


{#
    CTE `<name>`: rows of the window, and of the `look_back_days` before it, whose key came
    more than once in them, each with the load date of the delivery before. What came more
    than once is looked for first: most days nothing did.
#}
{% macro deliveries_of_repeated(name) -%}
{% for table, staged, key in repeatable_tables() -%}
{{ table }}_repeats as (

    select {{ key_text(key, 'staged') }} as key_text

    from {{ ref(staged) }} as staged

    where {{ in_window_and_before(var('look_back_days')) }}

    group by {{ key_text(key, 'staged') }}

    having count(*) > 1

),

{% endfor -%}
{{ name }} as (
    {% for table, staged, key in repeatable_tables() %}
    select
        '{{ table }}' as table_name,
        repeats.key_text,
        staged.event_date,
        staged.load_date,
        lag(staged.load_date) over (
            partition by repeats.key_text order by staged.load_date
        ) as load_date_before

    from {{ ref(staged) }} as staged
    inner join {{ table }}_repeats as repeats
        on {{ key_text(key, 'staged') }} = repeats.key_text

    where {{ in_window_and_before(var('look_back_days'), 'staged.load_date') }}
    {%- if not loop.last %}

    union all
    {% endif %}
    {%- endfor %}

)
{%- endmacro %}


{#
    Predicate that keeps the load dates of the window and some before it; what a model that is
    built from nothing takes, see `in_window`.
#}
{% macro in_window_and_before(days, load_date='load_date') -%}
    {%- if is_incremental() -%}
        {{ load_date }} >= {{ add_days(window_from(), -days) }}
        and {{ load_date }} < {{ window_to() }}
    {%- else -%}
        {{ in_window(load_date) }}
    {%- endif -%}
{%- endmacro %}


{#
    Query with the window's rows of a staging model, without those that had come before.

    Args:
        table: contract table, one of `repeatable_tables`.
#}
{% macro kept_rows(table) -%}
{%- for name, staged, key in repeatable_tables() if name == table %}
    select staged.*

    from {{ ref(staged) }} as staged
    left join {{ ref('set_aside') }} as aside
        on
            {{ key_text(key, 'staged') }} = aside.key_text
            and staged.load_date = aside.load_date
            and aside.table_name = '{{ table }}'
            and aside.reason_code = 'DUP_EARLIER'

    where aside.key_text is null and {{ in_window('staged.load_date') }}
{%- endfor %}
{%- endmacro %}


{#
    CTE `<name>`: keys that facts named and no master row has told of yet, with
    `known_from`, the load date that named them first.

    Args:
        name: name of the CTE.
        key: column that identifies an entity, the name under which `set_aside` has it.
        masters: CTE or relation with the master's rows.
        reason: reason under which `set_aside` has them.
#}
{% macro inferred_members(name, key, masters, reason='EARLY_FACT') -%}
{{ name }} as (

    select
        aside.key_text as {{ key }},
        min(aside.load_date) as known_from

    from {{ ref('set_aside') }} as aside
    left join {{ masters }} as masters on aside.key_text = masters.{{ key }}

    where
        aside.reason_code = '{{ reason }}'
        and aside.column_name = '{{ key }}'
        and masters.{{ key }} is null

    group by aside.key_text

)
{%- endmacro %}


{#
    CTE `<name>`: when a key was gone from its master, `gone_from` to `gone_to`
    (excluded). It is gone from the load date of the key list that lacks it, and back
    with the list that has it again or with a change recorded after the list that
    lacked it. Periods of a key may overlap.

    Args:
        name: name of the CTE.
        table: contract table of the master.
        key: column that identifies an entity.
        changes: CTE or relation with the master's changes: key, `updated_at`, `load_date`.
#}
{% macro gone_periods(name, table, key, changes) -%}
{{ name }}_listed as (

    select
        key_text as {{ key }},
        listed_at,
        change_code,
        load_date

    from {{ ref('key_change') }}

    where table_name = '{{ table }}'

),

{{ name }}_returns as (

    select
        {{ key }},
        listed_at as recorded_at,
        load_date

    from {{ name }}_listed

    where change_code = 'LISTED'

    union all

    select
        {{ key }},
        updated_at as recorded_at,
        load_date

    from {{ changes }}

),

{{ name }} as (

    select
        gone.{{ key }},
        gone.load_date as gone_from,
        coalesce(min(returns.load_date), {{ end_of_time() }}) as gone_to

    from {{ name }}_listed as gone
    left join {{ name }}_returns as returns
        on
            gone.{{ key }} = returns.{{ key }}
            and gone.load_date <= returns.load_date
            and gone.listed_at < returns.recorded_at

    where gone.change_code = 'GONE'

    group by gone.{{ key }}, gone.load_date

)
{%- endmacro %}


{#
    CTE `<name>`: the days on which something of an entity changed, `load_date`, and
    whether it was gone then, `is_gone`.

    Args:
        name: name of the CTE.
        changed: CTE with key and `load_date`, one row or more per day of a change.
        gone: CTE of `gone_periods`.
        key: column that identifies an entity.
#}
{% macro change_days_with_gaps(name, changed, gone, key) -%}
{{ name }}_all as (

    select
        {{ key }},
        load_date

    from {{ changed }}

    union distinct

    select
        {{ key }},
        gone_from as load_date

    from {{ gone }}

    union distinct

    select
        {{ key }},
        gone_to as load_date

    from {{ gone }}

    where gone_to < {{ end_of_time() }}

),

{{ name }}_gone as (

    select distinct
        days.{{ key }},
        days.load_date

    from {{ name }}_all as days
    inner join {{ gone }} as periods
        on
            days.{{ key }} = periods.{{ key }}
            and days.load_date >= periods.gone_from
            and days.load_date < periods.gone_to

),

{{ name }} as (

    select
        days.{{ key }},
        days.load_date,
        gone_days.load_date is not null as is_gone

    from {{ name }}_all as days
    left join {{ name }}_gone as gone_days
        on days.{{ key }} = gone_days.{{ key }} and days.load_date = gone_days.load_date

)
{%- endmacro %}
