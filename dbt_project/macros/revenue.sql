{#
    What a prepaid recharge leaves without its tax, fen: recharges are paid with the
    tax in them, bill lines are kept without it.

    Args:
        paid_fen: price paid, fen.
        tax_share: tax on the price before tax, for instance 0.06.
#}
{% macro without_tax(paid_fen, tax_share) -%}
    {{ whole_ratio(paid_fen, '1 + coalesce(' ~ tax_share ~ ', 0)') }}
{%- endmacro %}
