-- Control tables of the pipeline. Run by `keepline migrate`; safe to run again.

create schema if not exists ops;
create schema if not exists vault;

create table if not exists ops.stage_run (
    stage_run_id bigint generated always as identity primary key,
    verb text not null,
    from_date date not null,
    to_date date not null,
    rows bigint not null,
    seconds numeric(12, 3) not null,
    status text not null,
    message text not null,
    recorded_at timestamptz not null default now()
);

create table if not exists ops.reconciliation (
    table_name text not null,
    load_date date not null,
    physical_rows bigint not null,
    loaded_rows bigint not null,
    quarantined_rows bigint not null,
    skipped_rows bigint not null,
    sums jsonb not null,
    balanced boolean not null,
    recorded_at timestamptz not null default now(),
    primary key (table_name, load_date)
);

create table if not exists ops.quarantine_count (
    table_name text not null,
    load_date date not null,
    reason_code text not null,
    rows bigint not null,
    primary key (table_name, load_date, reason_code)
);

create table if not exists ops.model_run (
    model text not null,
    layer text not null,
    from_date date not null,
    to_date date not null,
    seconds numeric(12, 3) not null,
    status text not null,
    rows bigint,
    recorded_at timestamptz not null default now(),
    primary key (model, from_date, to_date)
);

create table if not exists ops.gate_result (
    gate_result_id bigint generated always as identity primary key,
    gate text not null,
    suite text not null,
    table_name text not null,
    expectation text not null,
    column_name text not null,
    severity text not null,
    success boolean not null,
    observed text not null,
    release_id integer,
    from_date date not null,
    to_date date not null,
    recorded_at timestamptz not null default now()
);

-- Personal fields, encrypted by keepline (AES-256-GCM); the key is never in the database.
create table if not exists vault.personal_value (
    table_name text not null,
    key_text text not null,
    column_name text not null,
    load_date date not null,
    ciphertext bytea not null,
    key_version integer not null,
    primary key (table_name, key_text, column_name, load_date)
);
