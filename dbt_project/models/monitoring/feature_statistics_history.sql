-- What the item features looked like, day by day: a run makes the newest two days anew and leaves the others.
{{ config(
    materialized='incremental',
    incremental_strategy='microbatch',
    unique_key=['feature', 'period_start'],
    event_time='period_start',
    batch_size='day',
    begin=(run_started_at - modules.datetime.timedelta(days=7)).strftime('%Y-%m-%d')
) }}

{{ feature_store.feature_statistics('item_features') }}
