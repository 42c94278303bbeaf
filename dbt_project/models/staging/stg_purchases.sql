with source as (

    select * from {{ source('raw', 'purchases') }}

),

final as (

    select
        purchase_id,
        user_id,
        item_id,
        quantity,
        amount,
        purchased_at,
        loaded_at
    from source

)

select * from final
