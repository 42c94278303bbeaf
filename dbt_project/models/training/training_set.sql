-- Each label with the features as they were known at its moment.
{{ feature_store.point_in_time_join(
    spine=ref('bought_after_view'),
    features=[
        'user_features:age',
        'user_features:gender',
        'user_features:purchase_count_7d',
        'user_features:purchase_count_30d',
        'user_features:avg_order_value',
        'item_features:category',
        'item_features:price',
        'item_features:popularity_score',
        'user_item_affinity:item_views_30d',
        'user_item_affinity:affinity_score',
    ],
) }}
