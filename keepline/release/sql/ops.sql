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

-- The file that each load date of a table landed from; keepline/extract/registry.py.
create table if not exists ops.source_file (
    table_name text not null,
    load_date date not null,
    file_set text not null,
    name text not null,
    sha256 text not null,
    bytes bigint not null,
    rows bigint not null,
    ticket text not null default '',
    landed_at timestamptz not null default now(),
    primary key (table_name, load_date)
);

create index if not exists source_file_sha256 on ops.source_file (table_name, sha256);

-- What landed: the batch of each load date of a table, by the checksum of its manifest, which names that of
-- its file. None for a batch that was lost before this was kept.
create table if not exists ops.landed_batch (
    table_name text not null,
    load_date date not null,
    rows bigint not null,
    manifest_sha256 text,
    landed_at timestamptz not null default now(),
    primary key (table_name, load_date)
);

-- Decisions: under which ticket a file that had landed was replaced by other bytes.
create table if not exists ops.source_file_change (
    table_name text not null,
    load_date date not null,
    from_sha256 text not null,
    to_sha256 text not null,
    ticket text not null,
    decided_at timestamptz not null default now(),
    primary key (table_name, load_date, from_sha256, to_sha256)
);

-- What did not land at the last extraction of its day, and why; empty when all is well.
create table if not exists ops.held_delivery (
    table_name text not null,
    load_date date not null,
    code text not null,
    place text not null,
    detail text not null,
    since_at timestamptz not null default now(),
    primary key (table_name, load_date, code, place)
);

-- What people decided about rows that were set aside: who, why, when, and what came of it.
create table if not exists ops.quarantine_decision (
    decision_id bigint generated always as identity primary key,
    action text not null check (action in ('release', 'discard')),
    table_name text not null,
    load_date date not null,
    reason_code text not null,
    -- Hash of the rows that it left there: other rows of the same day and reason are undecided.
    content text not null,
    rows_before bigint not null,
    rows_after bigint not null,
    decided_by text not null,
    why text not null,
    decided_at timestamptz not null default now()
);
