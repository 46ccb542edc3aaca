{# Written by `keepline generate` from the contracts: do not edit. #}


{# The tables whose arrival is told by `mart_coverage`: system, contract table, staging model. #}
{% macro covered_tables() -%}
    {{ return([
        ('bil', 'bill', 'stg_bil__bill'),
        ('bil', 'bill_line', 'stg_bil__bill_line'),
        ('bil', 'payment', 'stg_bil__payment'),
        ('bss', 'product_offering', 'stg_bss__product_offering'),
        ('bss', 'subscription', 'stg_bss__subscription'),
        ('bss', 'subscription_offering', 'stg_bss__subscription_offering'),
        ('bss', 'subscription_status_event', 'stg_bss__subscription_status_event'),
        ('cc', 'interaction', 'stg_cc__interaction'),
        ('cc', 'trouble_ticket', 'stg_cc__trouble_ticket'),
        ('chn', 'dealer', 'stg_chn__dealer'),
        ('crm', 'billing_account', 'stg_crm__billing_account'),
        ('crm', 'customer', 'stg_crm__customer'),
        ('crm', 'party_individual', 'stg_crm__party_individual'),
        ('med', 'cdr_data', 'stg_med__cdr_data'),
        ('med', 'cdr_sms', 'stg_med__cdr_sms'),
        ('med', 'cdr_voice', 'stg_med__cdr_voice'),
        ('npd', 'np_port', 'stg_npd__np_port'),
        ('ocs', 'recharge', 'stg_ocs__recharge'),
        ('ref', 'brand', 'stg_ref__brand'),
        ('ref', 'competitor_hotline', 'stg_ref__competitor_hotline'),
        ('ref', 'geography', 'stg_ref__geography'),
        ('ref', 'holiday', 'stg_ref__holiday'),
        ('ref', 'number_range', 'stg_ref__number_range'),
        ('ref', 'operator', 'stg_ref__operator'),
    ]) }}
{%- endmacro %}


{#
    The tables whose rows become rows of a fact: contract table, staging model, and the
    columns that say that two rows tell of the same thing.
#}
{% macro repeatable_tables() -%}
    {{ return([
        ('bill', 'stg_bil__bill', ['bill_id', 'updated_at']),
        ('bill_line', 'stg_bil__bill_line', ['bill_id', 'line_no']),
        ('payment', 'stg_bil__payment', ['payment_id']),
        ('subscription_offering', 'stg_bss__subscription_offering', [
            'subscription_id',
            'offering_id',
            'start_at',
            'updated_at',
        ]),
        ('subscription_status_event', 'stg_bss__subscription_status_event', ['event_id']),
        ('interaction', 'stg_cc__interaction', ['interaction_id']),
        ('trouble_ticket', 'stg_cc__trouble_ticket', ['ticket_id', 'updated_at']),
        ('cdr_data', 'stg_med__cdr_data', ['usage_id']),
        ('cdr_sms', 'stg_med__cdr_sms', ['usage_id']),
        ('cdr_voice', 'stg_med__cdr_voice', ['usage_id']),
        ('np_port', 'stg_npd__np_port', ['port_id', 'updated_at']),
        ('recharge', 'stg_ocs__recharge', ['recharge_id']),
    ]) }}
{%- endmacro %}


{#
    The columns of contract tables that name something which a master or a reference table
    has to know: contract table, staging model, and (column, reference).
#}
{% macro naming_columns() -%}
    {{ return([
        ('bill', 'stg_bil__bill', [('account_id', 'crm.billing_account.account_id')]),
        ('bill_line', 'stg_bil__bill_line', [
            ('subscription_id', 'bss.subscription.subscription_id'),
            ('offering_id', 'bss.product_offering.offering_id'),
        ]),
        ('payment', 'stg_bil__payment', [
            ('account_id', 'crm.billing_account.account_id'),
            ('channel_code', 'seeds.channel.channel_code'),
        ]),
        ('subscription', 'stg_bss__subscription', [
            ('customer_id', 'crm.customer.customer_id'),
            ('account_id', 'crm.billing_account.account_id'),
            ('brand_code', 'ref.brand.brand_code'),
            ('offering_id', 'bss.product_offering.offering_id'),
            ('dealer_id', 'chn.dealer.dealer_id'),
            ('activation_channel', 'seeds.channel.channel_code'),
            ('termination_reason_code', 'seeds.churn_reason.reason_code'),
            ('province_code', 'ref.geography.province_code'),
        ]),
        ('subscription_offering', 'stg_bss__subscription_offering', [
            ('subscription_id', 'bss.subscription.subscription_id'),
            ('offering_id', 'bss.product_offering.offering_id'),
        ]),
        ('subscription_status_event', 'stg_bss__subscription_status_event', [
            ('subscription_id', 'bss.subscription.subscription_id'),
        ]),
        ('interaction', 'stg_cc__interaction', [
            ('subscription_id', 'bss.subscription.subscription_id'),
            ('channel_code', 'seeds.channel.channel_code'),
            ('served_province', 'ref.geography.province_code'),
        ]),
        ('trouble_ticket', 'stg_cc__trouble_ticket', [
            ('subscription_id', 'bss.subscription.subscription_id'),
        ]),
        ('billing_account', 'stg_crm__billing_account', [
            ('customer_id', 'crm.customer.customer_id'),
        ]),
        ('customer', 'stg_crm__customer', [('province_code', 'ref.geography.province_code')]),
        ('cdr_data', 'stg_med__cdr_data', [
            ('subscription_id', 'bss.subscription.subscription_id'),
        ]),
        ('cdr_sms', 'stg_med__cdr_sms', [
            ('subscription_id', 'bss.subscription.subscription_id'),
        ]),
        ('cdr_voice', 'stg_med__cdr_voice', [
            ('subscription_id', 'bss.subscription.subscription_id'),
        ]),
        ('np_port', 'stg_npd__np_port', [
            ('subscription_id', 'bss.subscription.subscription_id'),
        ]),
        ('recharge', 'stg_ocs__recharge', [
            ('subscription_id', 'bss.subscription.subscription_id'),
            ('channel_code', 'seeds.channel.channel_code'),
        ]),
    ]) }}
{%- endmacro %}


{# Who knows what: reference, model, its column, and whether the model is a dated feed. #}
{% macro knowing_models() -%}
    {{ return([
        ('bss.product_offering.offering_id', 'stg_bss__product_offering', 'offering_id', true),
        ('bss.subscription.subscription_id', 'stg_bss__subscription', 'subscription_id', true),
        ('chn.dealer.dealer_id', 'stg_chn__dealer', 'dealer_id', true),
        ('crm.billing_account.account_id', 'stg_crm__billing_account', 'account_id', true),
        ('crm.customer.customer_id', 'stg_crm__customer', 'customer_id', true),
        ('ref.brand.brand_code', 'stg_ref__brand', 'brand_code', true),
        ('ref.geography.province_code', 'stg_ref__geography', 'province_code', true),
        ('seeds.channel.channel_code', 'channel', 'channel_code', false),
        ('seeds.churn_reason.reason_code', 'churn_reason', 'reason_code', false),
    ]) }}
{%- endmacro %}


{# The references whose unknown values are noted as EARLY_FACT: the master may yet arrive. #}
{% macro early_fact_references() -%}
    {{ return([
        'bss.subscription.subscription_id',
        'crm.billing_account.account_id',
        'crm.customer.customer_id',
    ]) }}
{%- endmacro %}


{# The masters that key lists are of: contract table, staging model, and its key. #}
{% macro listed_masters() -%}
    {{ return([
        ('customer', 'stg_crm__customer', 'customer_id'),
        ('billing_account', 'stg_crm__billing_account', 'account_id'),
        ('subscription', 'stg_bss__subscription', 'subscription_id'),
    ]) }}
{%- endmacro %}
