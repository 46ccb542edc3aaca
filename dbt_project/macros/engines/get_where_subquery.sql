{#
    What a data test looks at. A test with `config: {where: __window__}` looks at the
    load dates of the run's window only, so that testing a day costs a day; without a
    window it looks at everything. `__as_of_dates__` does the same for the as-of dates.
#}
{% macro default__get_where_subquery(relation) -%}
    {%- set where = config.get('where', '') -%}
    {%- if where == '__window__' -%}
        {%- if var('window_from') and var('window_to') -%}
            {%- set where -%}
                load_date >= {{ window_from() }} and load_date < {{ window_to() }}
            {%- endset -%}
            {{ return("(select * from " ~ relation ~ " where " ~ where ~ ") as in_window") }}
        {%- endif -%}
        {{ return(relation) }}
    {%- elif where == '__as_of_dates__' -%}
        {%- if var('as_of_dates') -%}
            {{ return(
                "(select * from " ~ relation ~ " where " ~ in_dates('as_of_date', 'as_of_dates')
                ~ ") as as_of"
            ) }}
        {%- endif -%}
        {{ return(relation) }}
    {%- elif where -%}
        {{ return("(select * from " ~ relation ~ " where " ~ where ~ ") as kept") }}
    {%- else -%}
        {{ return(relation) }}
    {%- endif -%}
{%- endmacro %}
