-- What a user bought in the last days, exact at every moment: a row when a purchase comes in and when one falls out.
-- A purchase that was loaded late counts only from then on, so training sees no more than serving did.
{{ feature_store.window_aggregates(
    relation=ref('stg_purchases'),
    entities='user_id',
    timestamp='purchased_at',
    aggregates=[
        {'name': 'purchase_count', 'function': 'count'},
        {'name': 'order_value', 'function': 'avg', 'expression': 'amount'},
    ],
    windows=['7 days', '30 days'],
    created_timestamp='loaded_at',
) }}
