-- Grain: one row per billing account and version.

with

changes as (

    select * from {{ ref('stg_crm__billing_account') }}

),

{{ known_versions('known', 'changes', ['account_id']) }},

{{ scd2_versions('known', 'account_id', [
    'customer_id', 'payment_type', 'credit_limit_fen', 'bill_cycle_day', 'auto_pay_flag', 'status',
]) }}

select
    version_key as account_key,
    account_id,
    customer_id,
    payment_type,
    credit_limit_fen,
    bill_cycle_day,
    auto_pay_flag,
    status,
    valid_from,
    valid_to,
    is_current

from versions
