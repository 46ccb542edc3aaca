{#
    How a table is written on Spark. A folder of Parquet is never changed: each run writes
    into a folder of its own, and a table is the list of the folders of its periods. So a
    run that is killed has changed nothing (keepline/compute/spark_warehouse.py).
#}


{# Folder that this run writes a model into. #}
{% macro spark_folder(relation) -%}
    {{ env_var('KEEPLINE_HOME') }}/{{ env_var('KEEPLINE_OPERATOR') }}/spark/tables/
    {{- relation.schema }}/{{ relation.identifier }}/{{ invocation_id }}
{%- endmacro %}

{% macro spark__location_clause() %}
    location '{{ spark_folder(this) }}'
{%- endmacro %}

{% macro spark__file_format_clause() %}
    using parquet
{%- endmacro %}


{#
    Write the model's rows into a new folder, then let the table's periods be there: those
    that the model replaces (`replace_rows`) are taken out of the list, those that have
    rows now are put in.
#}
{% materialization incremental, adapter='spark' %}
    {%- set existing = load_relation(this) -%}
    {%- set target = this.incorporate(type='table') -%}

    {{ run_hooks(pre_hooks) }}

    {% if existing is none or existing.is_view or should_full_refresh() %}
        {% if existing is not none %}
            {% do adapter.drop_relation(existing) %}
        {% endif %}
        {% call statement('main') %}
            {{ create_table_as(false, target, spark_period_by_period(compiled_code)) }}
        {% endcall %}
    {% else %}
        {%- set column = config.get('partition_by') -%}
        {%- set replaced = spark_replaced_periods(column) -%}
        {%- set written = target.incorporate(
            path={'identifier': this.identifier ~ '__written'}
        ) -%}
        {% call statement('drop_written') %}
            drop table if exists {{ written }}
        {% endcall %}
        {% call statement('main') %}
            {{ create_table_as(false, written, spark_period_by_period(compiled_code)) }}
        {% endcall %}
        {% do process_schema_changes(config.get('on_schema_change'), written, existing) %}
        {%- set periods = spark_periods(written) -%}
        {% if replaced %}
            {% call statement('drop_replaced') %}
                alter table {{ target }} drop if exists
                {% for period in replaced -%}
                    partition ({{ column }} = '{{ period }}'){{ "," if not loop.last }}
                {% endfor %}
            {% endcall %}
        {% endif %}
        {% if periods %}
            {% call statement('add_written') %}
                alter table {{ target }} add
                {% for period in periods -%}
                    partition ({{ column }} = '{{ period }}')
                    location '{{ spark_folder(this) }}/{{ column }}={{ period }}'
                {% endfor %}
            {% endcall %}
        {% endif %}
        {% call statement('forget_written') %}
            drop table {{ written }}
        {% endcall %}
    {% endif %}

    {{ run_hooks(post_hooks) }}

    {{ return({'relations': [target]}) }}
{% endmaterialization %}


{# One file per period, as far as its size allows: a task writes whole periods. #}
{% macro spark_period_by_period(compiled_code) -%}
    select /*+ rebalance({{ config.get('partition_by') }}) */ *
    from ({{ compiled_code }}) as model_rows
{%- endmacro %}


{# The periods of a table, as ISO days. #}
{% macro spark_periods(relation) -%}
    {%- set periods = [] -%}
    {%- for row in run_query('show partitions ' ~ relation).rows -%}
        {%- do periods.append(row[0].split('=')[1]) -%}
    {%- endfor -%}
    {{ return(periods) }}
{%- endmacro %}


{# The periods of this model that the run replaces, whether they will have rows or not. #}
{% macro spark_replaced_periods(column) -%}
    {%- set periods = spark_periods(this) -%}
    {%- if not periods -%}{{ return([]) }}{%- endif -%}
    {%- set asked -%}
        select {{ column }}
        from values
        {% for period in periods -%}
            (date '{{ period }}'){{ ", " if not loop.last }}
        {%- endfor %} as periods ({{ column }})
        where {{ render(config.get('meta')['replaced']) }}
    {%- endset -%}
    {%- set replaced = [] -%}
    {%- for row in run_query(asked).rows -%}
        {%- do replaced.append(row[0] | string) -%}
    {%- endfor -%}
    {{ return(replaced) }}
{%- endmacro %}


{# A seed is written by one query: no row is bound to a parameter, and nothing is inserted. #}
{% macro spark__create_csv_table(model, agate_table) %}
    {%- set types = model['config'].get('column_types', {}) -%}
    {%- set names = agate_table.column_names -%}
    {% call statement('_') %}
        create table {{ this }}
        {{ file_format_clause() }}
        {{ location_clause() }}
        as
        select
            {% for name in names -%}
                {{ dbt.cast(name, types.get(name, adapter.convert_type(agate_table, loop.index0))) }}
                    as {{ name }}{{ "," if not loop.last }}
            {% endfor %}
        from values
        {% for row in agate_table.rows -%}
            (
            {%- for value in row -%}
                {{ spark_text(value) }}{{ ", " if not loop.last }}
            {%- endfor -%}
            ){{ "," if not loop.last }}
        {% endfor %}
        as seed_rows ({{ names | join(', ') }})
    {% endcall %}
    {{ return('') }}
{% endmacro %}

{% macro spark__load_csv_rows(model, agate_table) %}
    {{ return('') }}
{% endmacro %}

{# A value as a text literal. #}
{% macro spark_text(value) -%}
    {%- if value is none -%}
        cast(null as string)
    {%- else -%}
        '{{ value | string | replace("\\", "\\\\") | replace("'", "\\'") }}'
    {%- endif -%}
{%- endmacro %}


{# Types as the models' YAML writes them, in Spark's words. #}
{% macro spark__cast(field, type) %}
    cast({{ field }} as {{ spark_type(type) }})
{%- endmacro %}

{% macro spark__safe_cast(field, type) %}
    cast({{ field }} as {{ spark_type(type) }})
{%- endmacro %}

{% macro spark_type(type) -%}
    {%- set words = {'varchar': 'string', 'text': 'string', 'timestamp': 'timestamp_ntz'} -%}
    {{ words.get(type | lower, type) }}
{%- endmacro %}


{# Parquet holds no constraints; each of them is a data test, too. #}
{% macro spark__persist_constraints(relation, model) %}
{% endmacro %}
