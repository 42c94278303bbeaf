-- A point-in-time join gives one row for each row of its spine, no more and no less.
select 'labels and training set differ in their number of rows' as problem, labels.row_count as label_rows, training.row_count as training_rows
from (select count(*) as row_count from {{ ref('bought_after_view') }}) as labels
cross join (select count(*) as row_count from {{ ref('training_set') }}) as training
where labels.row_count <> training.row_count
