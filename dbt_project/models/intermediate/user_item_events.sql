-- Page views and purchases as one stream of what a user did with an item.
with page_views as (

    select * from {{ ref('stg_page_views') }}

),

purchases as (

    select * from {{ ref('stg_purchases') }}

),

final as (

    select user_id, item_id, 'view' as action, viewed_at as happened_at, loaded_at
    from page_views

    union all

    select user_id, item_id, 'purchase' as action, purchased_at as happened_at, loaded_at
    from purchases

)

select * from final
