-- Releases: which rows readers see. Run by `keepline migrate`; safe to run again.

create schema if not exists ctl;
create schema if not exists store;
create schema if not exists mart;
create schema if not exists star;

create table if not exists ctl.release (
    release_id integer generated always as identity primary key,
    status text not null check (status in ('staged', 'audited', 'rejected', 'published', 'retired')),
    from_date date not null,
    to_date date not null,
    code_version text not null,
    created_at timestamptz not null default now(),
    -- Later than created_at when a stage found that the release has its rows already.
    staged_at timestamptz not null default now(),
    audited_at timestamptz,
    published_at timestamptz
);

-- In which order releases were staged: a clock that is wrong would let an old one pass for the newest.
create sequence if not exists ctl.release_staging;
alter table ctl.release add column if not exists staging_no bigint;
update ctl.release as r
set staging_no = o.staging_no
from (
    select u.release_id, nextval('ctl.release_staging') as staging_no
    from (select release_id from ctl.release where staging_no is null order by release_id) as u
) as o
where o.release_id = r.release_id;
alter table ctl.release alter column staging_no set default nextval('ctl.release_staging');
alter table ctl.release alter column staging_no set not null;

-- The pointer: the one row that decides what every reader sees.
create table if not exists ctl.current_release (
    one boolean primary key default true check (one),
    release_id integer not null references ctl.release
);

-- Every move of the pointer, forwards and backwards.
create table if not exists ctl.release_move (
    release_move_id bigint generated always as identity primary key,
    from_release_id integer,
    to_release_id integer not null,
    moved_at timestamptz not null default now()
);

-- What the dbt contracts publish, as the last migration found them.
create table if not exists ctl.published_table (
    table_name text primary key,
    model text not null,
    relation text not null,
    reader_schema text not null,
    kind text not null check (kind in ('state', 'day', 'month')),
    period_column text,
    columns jsonb not null,
    policy text not null,
    definition text not null,
    -- No model publishes it any more; kept while a release that can still be shown has rows of it.
    is_withdrawn boolean not null default false
);

-- A part is a table's whole copy (kind state) or one period of it, written once and never changed.
create table if not exists ctl.part (
    part_id integer generated always as identity primary key,
    table_name text not null,
    period date,
    leaf text not null,
    rows bigint not null,
    content text not null,
    shape text not null,
    is_audited boolean not null default false
);

create table if not exists ctl.release_part (
    -- No reference: one transaction writes the release and its list, and a list has thousands of rows.
    release_id integer not null,
    table_name text not null,
    period date,
    part_id integer not null references ctl.part,
    primary key (release_id, table_name, part_id),
    unique nulls not distinct (release_id, table_name, period)
);

create index if not exists release_part_part_id on ctl.release_part (part_id);
