{{ feature_store.window_aggregates(
    ref('last_word'),
    entities='user_id',
    timestamp='purchased_at',
    aggregates=[
        {'name': 'purchases', 'function': 'count'},
        {'name': 'amount', 'function': 'sum', 'expression': 'amount'},
    ],
    windows=['10 seconds', '1 hour'],
    created_timestamp='_landed_at',
) }}
