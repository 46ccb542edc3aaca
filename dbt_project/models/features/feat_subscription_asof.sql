-- Grain: one row per subscription known on an as-of date, for each as-of date of the run.
-- Joins what the feat_*_asof models compute; a line without rows in one of them gets 0
-- where nothing happened and null where nothing can be said.

{{ config(**replace_dates('as_of_date', 'as_of_dates')) }}

with

dates as (

    select
        as_of_date,
        {{ days_between('m1_start', 'm1_end') }} as m1_days

    from {{ ref('feat_date_asof') }}

),

lines as (

    select * from {{ ref('feat_line_asof') }}

),

profiles as (

    select * from {{ ref('feat_profile_asof') }}

),

spends as (

    select * from {{ ref('feat_spend_asof') }}

),

usages as (

    select * from {{ ref('feat_usage_asof') }}

),

holdings as (

    select * from {{ ref('feat_holding_asof') }}

),

circles as (

    select * from {{ ref('feat_circle_asof') }}

),

recharges as (

    select * from {{ ref('feat_recharge_asof') }}

),

debts as (

    select * from {{ ref('feat_debt_asof') }}

),

suspensions as (

    select * from {{ ref('feat_suspension_asof') }}

),

contacts as (

    select * from {{ ref('feat_service_asof') }}

),

complaints as (

    select * from {{ ref('feat_complaint_asof') }}

),

ports as (

    select * from {{ ref('feat_port_asof') }}

),

plans as (

    select
        lines.subscription_id,
        lines.as_of_date,
        case
            when profiles.promo_months > 0
                then {{ add_months('holdings.plan_start_date', 'profiles.promo_months') }}
        end as promo_end_date,
        coalesce(holdings.contract_end_date, lines.contract_end_date) as contract_end_date

    from lines
    inner join profiles
        on
            lines.subscription_id = profiles.subscription_id
            and lines.as_of_date = profiles.as_of_date
    left join holdings
        on
            lines.subscription_id = holdings.subscription_id
            and lines.as_of_date = holdings.as_of_date

)

select
    lines.subscription_id,
    lines.as_of_date,
    lines.customer_id,
    lines.province_code,
    lines.brand_code,
    lines.payment_type,
    lines.known_flag,
    lines.is_alive,
    lines.tenure_days,
    lines.full_months_on_net,
    lines.on_net_3_consecutive_months,
    lines.days_since_activity,

    -- 1 identity and life cycle
    cast(floor(profiles.age_months / 12.0) as integer) as age_years,
    profiles.urban_rural_flag,
    lines.full_months_on_net as tenure_months,
    lines.activation_channel,
    profiles.dealer_type,
    lines.real_name_verified,
    cast({{ whole_ratio('profiles.profile_field_cnt * 100', '6') }} as integer)
        as profile_completeness_pct,
    lines.subscriptions_per_customer,
    profiles.group_customer_flag,
    profiles.campus_flag,
    lines.months_since_brand_change,

    -- 2 spend and value
    coalesce(spends.arpu_m1, 0) as arpu_m1,
    coalesce(spends.arpu_avg3m, 0) as arpu_avg3m,
    coalesce(spends.arpu_avg12m, 0) as arpu_avg12m,
    coalesce(spends.arpu_slope3m, 0) as arpu_slope3m,
    spends.arpu_m1_ratio,
    spends.arpu_cv3m,
    spends.recurring_share,
    spends.out_of_bundle_share,
    spends.voice_charge_share,
    spends.data_charge_share,
    spends.discount_share,
    spends.third_party_share,
    spends.bill_shock_ratio,
    coalesce(spends.adjustment_amt_90d, 0) as adjustment_amt_90d,

    -- 3 voice
    coalesce(usages.mou_out_avg3m, 0) as mou_out_avg3m,
    coalesce(usages.mou_in_avg3m, 0) as mou_in_avg3m,
    usages.mou_m1_ratio,
    coalesce(usages.mou_slope3m, 0) as mou_slope3m,
    coalesce(usages.calls_out_avg3m, 0) as calls_out_avg3m,
    usages.in_out_ratio,
    usages.avg_call_seconds,
    usages.long_distance_share,
    usages.roaming_mou_share,
    usages.night_share,
    usages.weekend_share,
    coalesce(usages.call_active_days_m1, 0) as call_active_days_m1,
    cast(dates.m1_days - coalesce(usages.call_active_days_m1, 0) as integer) as zero_call_days_m1,
    {{ ratio('coalesce(usages.voice_out_s_m1, 0)', '60 * profiles.voice_min') }}
        as voice_saturation,
    case
        when profiles.voice_min > 0
            then
                case when usages.voice_out_s_m1 > 60 * profiles.voice_min then 1 else 0 end
                + case when usages.voice_out_s_m2 > 60 * profiles.voice_min then 1 else 0 end
                + case when usages.voice_out_s_m3 > 60 * profiles.voice_min then 1 else 0 end
    end as voice_over_bundle_3m,
    usages.usage_drop_7d_vs_30d,

    -- 4 messaging
    coalesce(usages.sms_out_avg3m, 0) as sms_out_avg3m,
    coalesce(usages.sms_in_p2p_avg3m, 0) as sms_in_p2p_avg3m,
    usages.sms_m1_ratio,
    coalesce(usages.sms_slope3m, 0) as sms_slope3m,
    coalesce(usages.sms_active_days_m1, 0) as sms_active_days_m1,
    usages.sms_offnet_share,
    {{ ratio('coalesce(usages.sms_out_cnt_m1, 0)', 'profiles.sms_cnt') }} as sms_saturation,
    coalesce(usages.service_sms_received_m1, 0) as service_sms_received_m1,
    usages.days_since_last_sms,
    coalesce(ports.port_eligibility_sms_180d, 0) as port_eligibility_sms_180d,
    coalesce(ports.port_authorisation_sms_90d, 0) as port_authorisation_sms_90d,

    -- 5 data traffic
    coalesce(usages.data_mb_avg3m, 0) as data_mb_avg3m,
    usages.data_m1_ratio,
    coalesce(usages.data_slope3m, 0) as data_slope3m,
    coalesce(usages.data_active_days_m1, 0) as data_active_days_m1,
    cast(dates.m1_days - coalesce(usages.data_active_days_m1, 0) as integer) as data_zero_days_m1,
    {{ ratio('coalesce(usages.data_bytes_m1, 0)', '1048576 * profiles.data_mb') }}
        as data_saturation,
    case
        when profiles.data_mb > 0
            then
                case when usages.data_bytes_m1 > 1048576 * profiles.data_mb then 1 else 0 end
                + case when usages.data_bytes_m2 > 1048576 * profiles.data_mb then 1 else 0 end
                + case when usages.data_bytes_m3 > 1048576 * profiles.data_mb then 1 else 0 end
    end as data_over_bundle_3m,
    usages.data_night_share,
    usages.data_weekend_share,
    usages.data_roaming_share,
    usages.data_first10days_share,
    coalesce(usages.data_sessions_avg3m, 0) as data_sessions_avg3m,
    usages.days_since_last_data,
    {{ ratio('100 * coalesce(usages.data_bytes_3m, 0)', '1048576 * spends.revenue_3m_fen') }}
        as data_per_yuan,

    -- 6 value-added and new services
    coalesce(holdings.vas_active_cnt, 0) as vas_active_cnt,
    coalesce(holdings.vas_added_90d, 0) as vas_added_90d,
    coalesce(holdings.vas_cancelled_90d, 0) as vas_cancelled_90d,
    coalesce(spends.vas_spend_avg3m, 0) as vas_spend_avg3m,
    spends.vas_spend_ratio,
    holdings.days_since_new_service,
    coalesce(holdings.service_type_cnt, 0) as service_type_cnt,
    coalesce(holdings.broadband_flag, false) as broadband_flag,
    coalesce(holdings.iptv_flag, false) as iptv_flag,
    lines.secondary_card_cnt,
    profiles.network_gen = '5G' as plan_5g_flag,
    coalesce(holdings.bundle_depth, 0) as bundle_depth,
    contacts.self_service_share_90d,

    -- 7 calling circle and competition
    circles.onnet_contact_share,
    circles.offnet_contact_share,
    circles.offnet_mou_share,
    coalesce(circles.offnet_mou_slope3m, 0) as offnet_mou_slope3m,
    circles.competitor1_mou_share,
    circles.competitor2_mou_share,
    coalesce(circles.competitor_hotline_calls_30d, 0) as competitor_hotline_calls_30d,
    coalesce(circles.competitor_hotline_calls_90d, 0) as competitor_hotline_calls_90d,
    circles.days_since_competitor_hotline,

    -- 8 payment and credit
    coalesce(recharges.recharge_cnt_90d, 0) as recharge_cnt_90d,
    coalesce(recharges.recharge_amt_90d, 0) as recharge_amt_90d,
    recharges.recharge_avg_amt,
    recharges.days_since_recharge,
    recharges.recharge_interval_cv,
    recharges.recharge_overdue_ratio,
    coalesce(debts.arrears_amt, 0) as arrears_amt,
    coalesce(debts.arrears_days_max_180d, 0) as arrears_days_max_180d,
    coalesce(debts.late_payment_cnt_180d, 0) as late_payment_cnt_180d,
    coalesce(suspensions.suspended_days_180d, 0) as suspended_days_180d,
    profiles.auto_pay_flag,
    {{ ratio('coalesce(debts.unpaid_fen, 0)', 'profiles.credit_limit_fen') }}
        as credit_utilisation,

    -- 9 service, complaint, quality
    coalesce(contacts.inbound_calls_30d, 0) as inbound_calls_30d,
    coalesce(contacts.inbound_calls_90d, 0) as inbound_calls_90d,
    coalesce(contacts.port_enquiry_calls_90d, 0) as port_enquiry_calls_90d,
    coalesce(complaints.complaints_30d, 0) as complaints_30d,
    coalesce(complaints.complaints_90d, 0) as complaints_90d,
    coalesce(complaints.complaints_open, 0) as complaints_open,
    coalesce(complaints.complaints_reopened_90d, 0) as complaints_reopened_90d,
    complaints.complaint_hours_avg_90d,
    coalesce(complaints.billing_dispute_90d, 0) as billing_dispute_90d,
    coalesce(complaints.network_complaint_90d, 0) as network_complaint_90d,
    coalesce(complaints.attitude_complaint_90d, 0) as attitude_complaint_90d,
    contacts.csat_last,
    contacts.csat_avg_180d,
    contacts.days_since_survey,
    coalesce(contacts.shop_visits_90d, 0) as shop_visits_90d,
    usages.drop_rate_30d,

    -- 10 product, contract, campaign response
    case
        when plans.promo_end_date <= lines.as_of_date
            then coalesce(profiles.price_after_fen, profiles.monthly_fee_fen)
        else profiles.monthly_fee_fen
    end as plan_fee,
    coalesce(holdings.plan_changes_180d, 0) as plan_changes_180d,
    coalesce(holdings.plan_downgrade_90d, 0) as plan_downgrade_90d,
    holdings.months_since_plan_change,
    coalesce(plans.contract_end_date >= lines.as_of_date, false) as contract_flag,
    case
        when plans.contract_end_date >= lines.as_of_date
            then {{ full_months(
                add_days('lines.as_of_date', 1), add_days('plans.contract_end_date', 1)
            ) }}
    end as contract_months_left,
    case
        when plans.contract_end_date < lines.as_of_date
            then cast({{ days_between('plans.contract_end_date', 'lines.as_of_date') }} as integer)
    end as contract_expired_days,
    cast({{ days_between('lines.as_of_date', 'plans.promo_end_date') }} as integer)
        as promo_expiry_days,
    case
        when profiles.promo_months > 0
            then {{ ratio(
                '100 * (profiles.price_after_fen - profiles.monthly_fee_fen)',
                'profiles.monthly_fee_fen'
            ) }}
    end as price_step_up_pct,
    coalesce(holdings.minimum_commit_flag, false) as minimum_commit_flag,
    coalesce(holdings.device_subsidy_flag, false) as device_subsidy_flag,
    profiles.vip_tier,
    coalesce(contacts.contacts_7d, 0) as contacts_7d,
    coalesce(contacts.contacts_30d, 0) as contacts_30d

from lines
inner join dates on lines.as_of_date = dates.as_of_date
inner join profiles
    on
        lines.subscription_id = profiles.subscription_id
        and lines.as_of_date = profiles.as_of_date
inner join plans
    on
        lines.subscription_id = plans.subscription_id
        and lines.as_of_date = plans.as_of_date
left join spends
    on
        lines.subscription_id = spends.subscription_id
        and lines.as_of_date = spends.as_of_date
left join usages
    on
        lines.subscription_id = usages.subscription_id
        and lines.as_of_date = usages.as_of_date
left join holdings
    on
        lines.subscription_id = holdings.subscription_id
        and lines.as_of_date = holdings.as_of_date
left join circles
    on
        lines.subscription_id = circles.subscription_id
        and lines.as_of_date = circles.as_of_date
left join recharges
    on
        lines.subscription_id = recharges.subscription_id
        and lines.as_of_date = recharges.as_of_date
left join debts
    on
        lines.account_id = debts.account_id
        and lines.as_of_date = debts.as_of_date
left join suspensions
    on
        lines.subscription_id = suspensions.subscription_id
        and lines.as_of_date = suspensions.as_of_date
left join contacts
    on
        lines.subscription_id = contacts.subscription_id
        and lines.as_of_date = contacts.as_of_date
left join complaints
    on
        lines.subscription_id = complaints.subscription_id
        and lines.as_of_date = complaints.as_of_date
left join ports
    on
        lines.subscription_id = ports.subscription_id
        and lines.as_of_date = ports.as_of_date
