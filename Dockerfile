# keepline and its Airflow in one image; docker-compose.yml starts every part of it from here.
FROM python:3.11-slim-bookworm AS build
RUN python -m venv /opt/venv
COPY requirements.lock /tmp/requirements.lock
RUN /opt/venv/bin/pip install --no-cache-dir --no-deps --require-hashes -r /tmp/requirements.lock

FROM python:3.11-slim-bookworm
# LightGBM's one system library.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgomp1 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --create-home keepline \
    && install --directory --owner=keepline --group=keepline /var/lib/keepline /var/lib/airflow /var/lib/airflow/logs
COPY --from=build /opt/venv /opt/venv

WORKDIR /opt/keepline
COPY pyproject.toml requirements.in requirements.lock requirements-spark.lock ./
COPY keepline keepline
COPY models_ml models_ml
COPY expectations expectations
COPY operators operators
COPY dbt_project dbt_project
COPY dags dags
# Editable: the package finds dbt_project, operators and expectations beside itself.
RUN /opt/venv/bin/pip install --no-cache-dir --no-deps --no-build-isolation --editable .

ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    AIRFLOW_HOME=/var/lib/airflow \
    AIRFLOW__CORE__DAGS_FOLDER=/opt/keepline/dags \
    AIRFLOW__CORE__LOAD_EXAMPLES=False \
    KEEPLINE_HOME=/var/lib/keepline \
    DBT_SEND_ANONYMOUS_USAGE_STATS=False \
    DO_NOT_TRACK=1 \
    GX_ANALYTICS_ENABLED=False \
    SCARF_NO_ANALYTICS=true

USER keepline
CMD ["keepline", "--help"]
