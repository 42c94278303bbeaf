-- A row a user and purchase: what she bought in the days up to and with it.
-- `loaded_at_30d` is when the last of those purchases became known, and with it the row.
{{ feature_store.window_aggregates(
    relation=ref('stg_purchases'),
    entities='user_id',
    timestamp='purchased_at',
    aggregates=[
        {'name': 'purchase_count', 'function': 'count'},
        {'name': 'order_value', 'function': 'avg', 'expression': 'amount'},
        {'name': 'loaded_at', 'function': 'max', 'expression': 'loaded_at'},
    ],
    windows=['7 days', '30 days'],
    grain='event',
) }}
