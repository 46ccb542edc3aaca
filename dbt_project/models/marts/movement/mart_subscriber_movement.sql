-- Grain: one row per month, province, brand, payment type and activation channel.
-- opening + gross adds + win-backs + migration in - migration out - churn = closing, exactly.
-- A line that is in one cell at the start of the month and in another at its end migrates;
-- one that joins or leaves does so in the cell of its last day in the month.

{{ config(**replace_rows('month_start', "month_start >= {{ first_movement_month() }}")) }}

with

subscription_months as (

    select
        *,
        coalesce(activation_channel, 'UNKNOWN') as channel_code,
        coalesce(province_code, 'UNKNOWN') as closing_province,
        coalesce(brand_code, 'UNKNOWN') as closing_brand,
        coalesce(payment_type, 'UNKNOWN') as closing_payment,
        coalesce(opening_province_code, 'UNKNOWN') as opening_province,
        coalesce(opening_brand_code, 'UNKNOWN') as opening_brand,
        coalesce(opening_payment_type, 'UNKNOWN') as opening_payment

    from {{ ref('fct_subscription_month') }}

    where month_start >= {{ first_movement_month() }}

),

months as (

    select * from {{ ref('int_month') }}

),

definitions as (

    select * from {{ ref('param_churn_definition') }}

    where key = 'inactivity_days'

),

lateness as (

    select * from {{ ref('param_threshold') }}

    where key = 'late_bound_days' and scope = 'ALL'

),

-- A silence is seen only as far as activity was delivered.
activity as (

    select max(load_date) as last_date from {{ ref('fct_activity_daily') }}

),

placed as (

    select
        month_start,
        channel_code,
        closing_province,
        closing_brand,
        closing_payment,
        win_back_cnt,
        churn_cnt,
        churn_first_published_cnt,
        -- Who was not there at the opening has no cell of its own then.
        case when opening_flag then opening_province else closing_province end as opening_province,
        case when opening_flag then opening_brand else closing_brand end as opening_brand,
        case when opening_flag then opening_payment else closing_payment end as opening_payment,
        case when opening_flag then 1 else 0 end as is_opening,
        case when gross_add_flag then 1 else 0 end as is_gross_add,
        case when closing_flag then 1 else 0 end as is_closing

    from subscription_months

),

moves as (

    select
        month_start,
        opening_province as province_code,
        opening_brand as brand_code,
        opening_payment as payment_type,
        channel_code as activation_channel,
        is_opening as opening_cnt,
        0 as gross_add_cnt,
        0 as win_back_cnt,
        0 as migration_in_cnt,
        case
            when
                opening_province = closing_province
                and opening_brand = closing_brand
                and opening_payment = closing_payment
                then 0
            else is_opening
        end as migration_out_cnt,
        0 as churn_cnt,
        0 as churn_first_published_cnt,
        0 as closing_cnt

    from placed

    union all

    select
        month_start,
        closing_province as province_code,
        closing_brand as brand_code,
        closing_payment as payment_type,
        channel_code as activation_channel,
        0 as opening_cnt,
        is_gross_add as gross_add_cnt,
        win_back_cnt,
        case
            when
                opening_province = closing_province
                and opening_brand = closing_brand
                and opening_payment = closing_payment
                then 0
            else is_opening
        end as migration_in_cnt,
        0 as migration_out_cnt,
        churn_cnt,
        churn_first_published_cnt,
        is_closing as closing_cnt

    from placed

),

counted as (

    select
        month_start,
        province_code,
        brand_code,
        payment_type,
        activation_channel,
        {{ as_bigint('sum(opening_cnt)') }} as opening,
        {{ as_bigint('sum(gross_add_cnt)') }} as gross_adds,
        {{ as_bigint('sum(win_back_cnt)') }} as win_backs,
        {{ as_bigint('sum(migration_in_cnt)') }} as migration_in,
        {{ as_bigint('sum(migration_out_cnt)') }} as migration_out,
        {{ as_bigint('sum(churn_cnt)') }} as churn,
        {{ as_bigint('sum(churn_first_published_cnt)') }} as churn_first_published,
        {{ as_bigint('sum(closing_cnt)') }} as closing

    from moves

    group by month_start, province_code, brand_code, payment_type, activation_channel

)

select
    counted.month_start,
    counted.province_code,
    counted.brand_code,
    counted.payment_type,
    counted.activation_channel,
    counted.opening,
    counted.gross_adds,
    counted.win_backs,
    counted.migration_in,
    counted.migration_out,
    counted.churn,
    counted.churn_first_published,
    counted.closing,
    -- A silence that begins on the month's last day is a loss only after all of its days, and what
    -- shows it may arrive late.
    coalesce(
        {{ add_days('months.month_end',
            'coalesce(definitions.value, 0) + coalesce(lateness.value, 0)') }}
        <= case
            when definitions.value is not null and activity.last_date is null then null
            when definitions.value is not null then least(months.known_until, activity.last_date)
            else months.known_until
        end,
        false
    ) as is_settled,
    months.is_whole_month

from counted
inner join months on counted.month_start = months.month_start
cross join activity
left join definitions
    on
        counted.payment_type = definitions.scope
        and months.known_until >= definitions.valid_from
        and months.known_until < definitions.valid_to
left join lateness
    on
        months.known_until >= lateness.valid_from
        and months.known_until < lateness.valid_to
