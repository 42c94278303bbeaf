-- A row a user and moment at which something about her changed: her sign-up, then each purchase as it comes in and as it
-- falls out of a window.
with users as (

    select * from {{ ref('stg_users') }}

),

windows as (

    select * from {{ ref('user_purchase_windows') }}

),

signed_up as (

    -- She is known from sign-up on, before her first purchase.
    select
        user_id,
        signed_up_at as event_timestamp,
        0 as purchase_count_7d,
        0 as purchase_count_30d,
        cast(null as double) as avg_order_value
    from users

),

bought as (

    select
        user_id,
        event_timestamp,
        purchase_count_7d,
        purchase_count_30d,
        order_value_30d as avg_order_value
    from windows

),

moments as (

    select * from signed_up
    union all
    select * from bought

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
