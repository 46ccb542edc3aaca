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
-- Only where it is missing: a change of the table would wait for every reader, as each view reads it.
do $$
begin
    if not exists (
        select from pg_attribute
        where attrelid = 'ctl.release'::regclass and attname = 'staging_no' and attnotnull
    ) then
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
    end if;
end
$$;

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

-- Whose clock says how old a release is: the operator's.
create table if not exists ctl.operator (
    one boolean primary key default true check (one),
    timezone text not null,
    -- Its systems give no further days, as its file says; the demo's never do.
    has_ended boolean not null
);

-- How old what a reader sees may be, from the dated parameters of dbt_project/seeds/param_threshold.csv.
create table if not exists ctl.max_age (
    key text not null,
    days integer not null,
    valid_from date not null,
    valid_to date not null,
    primary key (key, valid_from)
);

create index if not exists reconciliation_load_date on ops.reconciliation (load_date);

-- The functions below run as the store's login, so that readers need no right on what they look up. None
-- takes what a reader could put in a statement's place, and none finds a table of the reader's.

-- The operator's local day, by the server's clock.
create or replace function ctl.today() returns date
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$ select (now() at time zone o.timezone)::date from ctl.operator as o $$;

-- The last business day that is over; of an operator whose data has ended the last one that landed.
create or replace function ctl.business_date() returns date
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
    select case
        when o.has_ended then coalesce(
            (select max(r.load_date) from ops.reconciliation as r),
            (
                select r.to_date - 1 from ctl.release as r
                inner join ctl.current_release as c on c.release_id = r.release_id
            )
        )
        else ctl.today() - 1
    end
    from ctl.operator as o
$$;

-- The oldest day that a reader with this limit is shown; null, which shows nothing, without a valid limit.
create or replace function ctl.oldest_shown(limit_key text) returns date
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
    select d.business_date - m.days
    from (select ctl.business_date() as business_date) as d
    inner join ctl.max_age as m
        on m.key = limit_key and m.valid_from <= d.business_date and d.business_date < m.valid_to
$$;
