-- What the item features looked like, day by day: a run makes the newest two days anew and leaves the others.
{{ config(
    materialized='incremental',
    incremental_strategy='microbatch',
    event_time='period_start',
    unique_key=['feature', 'period_start'] if target.type == 'postgres' else none,
    batch_size='day',
    begin=(run_started_at - modules.datetime.timedelta(days=7)).strftime('%Y-%m-%d')
) }}

{{ feature_store.feature_statistics('item_features') }}
