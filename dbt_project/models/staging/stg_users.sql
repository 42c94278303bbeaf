with source as (

    select * from {{ source('raw', 'users') }}

),

final as (

    select
        user_id,
        age,
        gender,
        {{ vector('embedding') }} as embedding,
        signed_up_at
    from source

)

select * from final
