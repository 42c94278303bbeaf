{{ "{{" }} config(materialized='table') {{ "}}" }}

-- One row a purchase: what was known of the user from that moment on.
select
    user_id,
    purchased_at as event_timestamp,
    count(*) over so_far as purchase_count,
    avg(amount) over so_far as avg_order_value
from {{ "{{" }} ref('purchases') {{ "}}" }}
window so_far as (partition by user_id order by purchased_at)
