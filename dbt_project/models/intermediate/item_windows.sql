-- A row an item and day: looks and purchases in the seven days that ended with it.
{{ feature_store.window_aggregates(
    relation=ref('item_days'),
    entities='item_id',
    timestamp='day_end',
    aggregates=[
        {'name': 'view_count', 'function': 'sum', 'expression': 'view_count'},
        {'name': 'purchase_count', 'function': 'sum', 'expression': 'purchase_count'},
    ],
    windows=['7 days'],
    grain='event',
) }}
