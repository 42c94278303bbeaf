"""Events become rows of a dbt source, each exactly once: from Kafka, or pushed by their producer.

What lands is data like any other. A model selects from the source, and takes `_landed_at` as its load time.
"""
