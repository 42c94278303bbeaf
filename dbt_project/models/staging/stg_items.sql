with source as (

    select * from {{ source('raw', 'items') }}

),

final as (

    select
        item_id,
        category,
        price,
        {{ vector('embedding') }} as embedding,
        listed_at
    from source

)

select * from final
