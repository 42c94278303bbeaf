"""What compiled SQL says: read once a model, traced column by column, drawn."""
