-- The labels: at one page view in twenty, did the user buy the item within a day?
-- Not the first thirty days: the windows of the features were not full yet. Nor the last day: the answer is not known yet.
with page_views as (

    select * from {{ ref('stg_page_views') }}

),

purchases as (

    select * from {{ ref('stg_purchases') }}

),

settled as (

    select user_id, item_id, viewed_at
    from page_views
    where
        view_id % 20 = 0
        and viewed_at >= (select min(viewed_at) from page_views) + interval '30 days'
        and viewed_at <= (select max(viewed_at) from page_views) - interval '1 day'

),

final as (

    select
        settled.user_id,
        settled.item_id,
        settled.viewed_at as event_timestamp,
        exists (
            select 1
            from purchases
            where
                purchases.user_id = settled.user_id
                and purchases.item_id = settled.item_id
                and purchases.purchased_at > settled.viewed_at
                and purchases.purchased_at <= settled.viewed_at + interval '1 day'
        ) as bought
    from settled

)

select * from final
