-- Grain: one row per customer and version, with what is known of the person behind it.
-- A change of either the customer or the person makes a version. No personal value is here.
-- A customer that is gone from the key lists has no version while it is gone; one that only lines
-- and accounts name is inferred.

with

customer_changes as (

    select * from {{ ref('stg_crm__customer') }}

),

party_changes as (

    select * from {{ ref('stg_crm__party_individual') }}

),

{{ known_versions('customers', 'customer_changes', ['customer_id']) }},

{{ known_versions('parties', 'party_changes', ['party_id']) }},

changed as (

    select
        customer_id,
        load_date

    from customers

    union distinct

    select
        customers.customer_id,
        parties.load_date

    from customers

    inner join parties
        on
            customers.party_id = parties.party_id
            and customers.known_from <= parties.known_from
            and customers.known_to > parties.known_from

),

{{ gone_periods('gone', 'customer', 'customer_id', 'customer_changes') }},

{{ change_days_with_gaps('change_days', 'changed', 'gone', 'customer_id') }},

{{ inferred_members('inferred', 'customer_id', 'customer_changes') }},

known as (

    select
        customers.customer_id,
        customers.party_id,
        customers.customer_class,
        customers.customer_tier,
        customers.group_customer_id,
        customers.key_person_flag,
        customers.campus_flag,
        customers.since_date,
        customers.status,
        customers.province_code,
        parties.gender,
        parties.birth_date,
        parties.marital_status,
        parties.employment_status,
        parties.id_no_hash,
        change_days.is_gone,
        change_days.load_date as known_from

    from change_days

    inner join customers
        on
            change_days.customer_id = customers.customer_id
            and change_days.load_date >= customers.known_from
            and change_days.load_date < customers.known_to

    left join parties
        on
            customers.party_id = parties.party_id
            and change_days.load_date >= parties.known_from
            and change_days.load_date < parties.known_to

),

{{ scd2_versions('known', 'customer_id', [
    'party_id', 'customer_class', 'customer_tier', 'group_customer_id', 'key_person_flag',
    'campus_flag', 'since_date', 'status', 'province_code', 'gender', 'birth_date',
    'marital_status', 'employment_status', 'id_no_hash',
], 'since_date', gaps=true, inferred='inferred') }}

select
    version_key as customer_key,
    customer_id,
    party_id,
    customer_class,
    customer_tier,
    group_customer_id,
    key_person_flag,
    campus_flag,
    since_date,
    status,
    province_code,
    gender,
    birth_date,
    cast(extract(year from birth_date) as integer) as birth_year,
    marital_status,
    employment_status,
    id_no_hash,
    is_inferred,
    load_date,
    valid_from,
    valid_to,
    is_current

from versions
