-- What the item features looked like, day by day: a run makes the newest two days anew and leaves the others.
-- Not on Spark, whose plain tables cannot replace single days: with a table format (Delta, Iceberg) they can.
{{ config(
    enabled=target.type != 'spark',
    materialized='incremental',
    incremental_strategy='microbatch',
    event_time='period_start',
    unique_key=['feature', 'period_start'] if target.type == 'postgres' else none,
    batch_size='day',
    begin=(run_started_at - modules.datetime.timedelta(days=7)).strftime('%Y-%m-%d')
) }}

{{ feature_store.feature_statistics('item_features') }}
