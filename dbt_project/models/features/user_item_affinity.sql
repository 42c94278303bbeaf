-- How much a user has lately had to do with an item, exact at every moment.
with windows as (

    select * from {{ ref('user_item_windows') }}

),

final as (

    select
        user_id,
        item_id,
        event_timestamp,
        item_views_30d,
        item_purchases_30d,
        ln(1 + item_views_30d + 5 * item_purchases_30d) as affinity_score
    from windows

)

select * from final
