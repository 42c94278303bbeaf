with source as (

    select * from {{ source('raw', 'page_views') }}

),

final as (

    select
        view_id,
        user_id,
        item_id,
        viewed_at,
        loaded_at
    from source

)

select * from final
