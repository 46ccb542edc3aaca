-- Every feature has words and all ten perspectives have features: the columns of
-- feat_subscription_asof are the catalogue and the columns that say whether a line may be scored.

{%- set keys = [
    'subscription_id', 'as_of_date', 'customer_id', 'known_flag', 'is_alive', 'tenure_days',
    'full_months_on_net', 'on_net_3_consecutive_months', 'days_since_activity',
] %}
{%- set columns = graph.nodes['model.keepline.feat_subscription_asof'].columns.keys()
    if execute else [] %}

with

catalogue as (

    select * from {{ ref('feature_catalog') }}

),

features as (

    {% for column in columns if column not in keys -%}
    select '{{ column }}' as feature
    {%- if not loop.last %}
    union all
    {% endif %}
    {%- else -%}
    select cast(null as {{ dbt.type_string() }}) as feature
    where 1 = 0
    {%- endfor %}

),

perspectives as (

    select
        count(distinct perspective) as perspective_cnt,
        count(*) as feature_cnt

    from catalogue

)

select coalesce(features.feature, catalogue.feature) as feature

from features
full join catalogue on features.feature = catalogue.feature

where features.feature is null or catalogue.feature is null

union all

select 'fewer than 60 features or 10 perspectives' as feature

from perspectives

where feature_cnt < 60 or perspective_cnt < 10
