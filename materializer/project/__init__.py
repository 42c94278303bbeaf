"""What dbt wrote down: the definitions of feature views, read from its manifest and settings."""
