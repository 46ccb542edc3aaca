-- Grain: one row per billing account and version. An account that is gone from the key lists has no
-- version while it is gone; one that only bills and payments name is inferred.

with

changes as (

    select * from {{ ref('stg_crm__billing_account') }}

),

{{ known_versions('accounts', 'changes', ['account_id']) }},

{{ gone_periods('gone', 'billing_account', 'account_id', 'changes') }},

{{ change_days_with_gaps('change_days', 'accounts', 'gone', 'account_id') }},

{{ inferred_members('inferred', 'account_id', 'changes') }},

known as (

    select
        accounts.account_id,
        accounts.customer_id,
        accounts.payment_type,
        accounts.credit_limit_fen,
        accounts.bill_cycle_day,
        accounts.auto_pay_flag,
        accounts.status,
        change_days.is_gone,
        change_days.load_date as known_from

    from change_days

    inner join accounts
        on
            change_days.account_id = accounts.account_id
            and change_days.load_date >= accounts.known_from
            and change_days.load_date < accounts.known_to

),

{{ scd2_versions('known', 'account_id', [
    'customer_id', 'payment_type', 'credit_limit_fen', 'bill_cycle_day', 'auto_pay_flag', 'status',
], gaps=true, inferred='inferred') }}

select
    version_key as account_key,
    account_id,
    customer_id,
    payment_type,
    credit_limit_fen,
    bill_cycle_day,
    auto_pay_flag,
    status,
    is_inferred,
    valid_from,
    valid_to,
    is_current

from versions
