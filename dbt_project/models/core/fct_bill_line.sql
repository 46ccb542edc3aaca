-- Grain: one row per bill line. The account and the period come from the bill.

{{ config(**replace_window()) }}

with

bill_lines as (
    {{ kept_rows('bill_line') }}

),

bills as (

    select * from {{ ref('stg_bil__bill') }}

),

-- A bill is known from its first version on; later ones change only what is left to pay.
ranked_bills as (

    select
        bill_lines.bill_id,
        bill_lines.line_no,
        bill_lines.load_date,
        bills.account_id,
        bills.period_start,
        row_number() over (
            partition by bill_lines.bill_id, bill_lines.line_no, bill_lines.load_date
            order by bills.updated_at, bills.load_date
        ) as version_rank

    from bill_lines

    inner join bills
        on bill_lines.bill_id = bills.bill_id and bill_lines.load_date >= bills.load_date

)

select
    {{ surrogate_key(['bill_lines.bill_id', 'bill_lines.line_no']) }} as bill_line_key,
    bill_lines.bill_id,
    bill_lines.line_no,
    ranked_bills.account_id,
    bill_lines.subscription_id,
    bill_lines.offering_id,
    bill_lines.charge_class,
    bill_lines.usage_type,
    bill_lines.third_party_flag,
    bill_lines.partner_id,
    bill_lines.tax_excl_fen,
    bill_lines.tax_fen,
    ranked_bills.period_start,
    bill_lines.billed_date,
    bill_lines.event_date,
    bill_lines.load_date

from bill_lines

left join ranked_bills
    on
        bill_lines.bill_id = ranked_bills.bill_id
        and bill_lines.line_no = ranked_bills.line_no
        and bill_lines.load_date = ranked_bills.load_date
        and ranked_bills.version_rank = 1

{{ in_time_order(['bill_lines.load_date']) }}
