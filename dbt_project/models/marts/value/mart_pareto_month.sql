-- Grain: one row per month, province and brand (level province_brand), and one for all of them
-- (level all, province and brand ALL). The levels count the same lines: never sum both.
-- Do 20 % of the subscriptions make 80 % of the revenue? Only months that have ended.

{{ config(**replace_rows('month_start', "month_start >= {{ first_pareto_month() }}")) }}

with

subscription_months as (

    select * from {{ ref('fct_subscription_month') }}

    where month_start >= {{ first_pareto_month() }}

),

months as (

    select * from {{ ref('int_month') }}

    where is_ended

),

thresholds as (

    select * from {{ ref('param_threshold') }}

    where scope = 'ALL'

),

limits as (

    select
        top_share.value as top_share,
        revenue_share.value as revenue_share,
        top_share.valid_from as top_from,
        top_share.valid_to as top_to,
        revenue_share.valid_from as revenue_from,
        revenue_share.valid_to as revenue_to

    from thresholds as top_share
    inner join thresholds as revenue_share
        on
            top_share.key = 'pareto_top_share'
            and revenue_share.key = 'pareto_revenue_share'

),

-- A credit above the charges makes a negative revenue; nobody makes less than nothing here.
revenues as (

    select
        subscription_months.month_start,
        subscription_months.subscription_id,
        coalesce(subscription_months.province_code, 'UNKNOWN') as province_code,
        coalesce(subscription_months.brand_code, 'UNKNOWN') as brand_code,
        greatest(subscription_months.own_revenue_fen, 0) as revenue_fen

    from subscription_months
    inner join months on subscription_months.month_start = months.month_start

    -- Who was only told as lost was not in service.
    where
        subscription_months.opening_flag
        or subscription_months.gross_add_flag
        or subscription_months.win_back_cnt > 0

),

cells as (

    select
        month_start,
        'province_brand' as level, -- noqa: RF04
        province_code,
        brand_code,
        subscription_id,
        revenue_fen

    from revenues

    union all

    select
        month_start,
        'all' as level, -- noqa: RF04
        'ALL' as province_code,
        'ALL' as brand_code,
        subscription_id,
        revenue_fen

    from revenues

),

ranked as (

    select
        month_start,
        level,
        province_code,
        brand_code,
        revenue_fen,
        row_number() over (
            partition by month_start, level, province_code, brand_code
            order by revenue_fen desc
        ) as revenue_rank,
        count(*) over (partition by month_start, level, province_code, brand_code)
            as subscriptions,
        sum(revenue_fen) over (partition by month_start, level, province_code, brand_code)
            as total_fen,
        sum(revenue_fen) over (
            partition by month_start, level, province_code, brand_code
            order by revenue_fen desc
            rows between unbounded preceding and current row
        ) as running_fen

    from cells

),

measured as (

    select
        ranked.month_start,
        ranked.level,
        ranked.province_code,
        ranked.brand_code,
        max(ranked.subscriptions) as subscriptions,
        max(ranked.total_fen) as total_fen,
        sum(
            case
                when ranked.revenue_rank <= ceil(limits.top_share * ranked.subscriptions)
                    then ranked.revenue_fen
                else 0
            end
        ) as top_fen,
        -- All who come before the share is reached, and the one who reaches it.
        sum(
            case
                when
                    ranked.running_fen - ranked.revenue_fen
                    < limits.revenue_share * ranked.total_fen
                    then 1
                else 0
            end
        ) as makers,
        -- Sum of (rank from below) x revenue, the numerator of Gini's coefficient.
        sum(
            (ranked.subscriptions + 1 - ranked.revenue_rank) * ranked.revenue_fen
        ) as ranked_fen

    from ranked
    inner join limits
        on
            ranked.month_start >= limits.top_from
            and ranked.month_start < limits.top_to
            and ranked.month_start >= limits.revenue_from
            and ranked.month_start < limits.revenue_to

    group by ranked.month_start, ranked.level, ranked.province_code, ranked.brand_code

)

select
    measured.month_start,
    measured.level,
    measured.province_code,
    measured.brand_code,
    {{ as_bigint('measured.subscriptions') }} as subscriptions,
    {{ as_bigint('measured.total_fen') }} as revenue_fen,
    {{ ratio('measured.top_fen', 'measured.total_fen') }} as revenue_share_top20,
    {{ ratio('case when measured.total_fen > 0 then measured.makers end',
        'measured.subscriptions') }}
        as share_of_subscriptions_making_80,
    {{ ratio(
        '2 * measured.ranked_fen - (measured.subscriptions + 1) * measured.total_fen',
        'measured.subscriptions * measured.total_fen'
    ) }} as gini,
    months.is_whole_month

from measured
inner join months on measured.month_start = months.month_start
