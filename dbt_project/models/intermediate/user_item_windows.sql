-- What a user did with an item in the last thirty days, exact at every moment: a row when an event comes in and when one
-- falls out.
{{ feature_store.window_aggregates(
    relation=ref('user_item_events'),
    entities=['user_id', 'item_id'],
    timestamp='happened_at',
    aggregates=[
        {'name': 'item_views', 'function': 'count', 'where': "action = 'view'"},
        {'name': 'item_purchases', 'function': 'count', 'where': "action = 'purchase'"},
    ],
    windows=['30 days'],
    created_timestamp='loaded_at',
) }}
