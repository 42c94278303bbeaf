-- A row a user, item and event: what the user did with the item in the thirty days up to and with it.
{{ feature_store.window_aggregates(
    relation=ref('user_item_events'),
    entities=['user_id', 'item_id'],
    timestamp='happened_at',
    aggregates=[
        {'name': 'item_views', 'function': 'count', 'where': "action = 'view'"},
        {'name': 'item_purchases', 'function': 'count', 'where': "action = 'purchase'"},
        {'name': 'loaded_at', 'function': 'max', 'expression': 'loaded_at'},
    ],
    windows=['30 days'],
    grain='event',
) }}
