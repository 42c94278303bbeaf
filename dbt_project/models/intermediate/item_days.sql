-- A row an item and day, also where nothing happened: how often it was looked at and bought.
-- Days are UTC days, and a day's row carries the moment the day was over.
with events as (

    select * from {{ ref('user_item_events') }}

),

items as (

    select * from {{ ref('stg_items') }}

),

counted as (

    select
        item_id,
        date_trunc('day', {{ utc('happened_at') }}) + interval '1 day' as day_end,
        count(*) filter (where action = 'view') as view_count,
        count(*) filter (where action = 'purchase') as purchase_count
    from events
    group by item_id, day_end

),

days as (

    select distinct day_end from counted

),

final as (

    select
        items.item_id,
        days.day_end,
        coalesce(counted.view_count, 0) as view_count,
        coalesce(counted.purchase_count, 0) as purchase_count
    from items
    inner join days
        on days.day_end > {{ utc('items.listed_at') }}
    left join counted
        on counted.item_id = items.item_id
        and counted.day_end = days.day_end

)

select * from final
