with said as (

    select * from {{ source('shop', 'purchases') }}
    qualify row_number() over (partition by purchase_id order by _offset desc) = 1

)

select *
from said
where cancelled is distinct from true
