{# A call, message or session of the night: 23:00 to 06:59, local time; 1 or 0. #}
{% macro at_night(utc_timestamp) -%}
    case when {{ local_hour(utc_timestamp) }} in (23, 0, 1, 2, 3, 4, 5, 6) then 1 else 0 end
{%- endmacro %}
