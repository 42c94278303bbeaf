-- A row an item and day: what it is, and how popular it has been.
with items as (

    select * from {{ ref('stg_items') }}

),

windows as (

    select * from {{ ref('item_windows') }}

),

scored as (

    select
        item_id,
        event_timestamp,
        -- A purchase says more than a look, and the hundredth look less than the first.
        ln(1 + view_count_7d + 10 * purchase_count_7d) as score
    from windows

),

final as (

    select
        scored.item_id,
        scored.event_timestamp,
        items.category,
        items.price,
        -- 1 is the most popular item of the day.
        coalesce(
            scored.score / nullif(max(scored.score) over (partition by scored.event_timestamp), 0), 0
        ) as popularity_score,
        items.embedding as item_embedding
    from scored
    inner join items
        on items.item_id = scored.item_id

)

select * from final
