-- A row a user and moment at which something about her changed: her sign-up, then each purchase as it comes in and as it
-- falls out of a window.
with users as (

    select * from {{ ref('stg_users') }}

),

windows as (

    select * from {{ ref('user_purchase_windows') }}

),

moments as (

    select
        user_id,
        event_timestamp,
        purchase_count_7d,
        purchase_count_30d,
        order_value_30d as avg_order_value
    from windows

    union all

    -- She is known from sign-up on, before her first purchase.
    select user_id, signed_up_at, 0, 0, null
    from users

),

final as (

    select
        moments.user_id,
        moments.event_timestamp,
        users.age,
        users.gender,
        moments.purchase_count_7d,
        moments.purchase_count_30d,
        moments.avg_order_value,
        users.embedding as user_embedding
    from moments
    inner join users
        on users.user_id = moments.user_id

)

select * from final
