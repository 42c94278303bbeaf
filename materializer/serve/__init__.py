"""Features over HTTP: the online reader behind FastAPI and uvicorn, and nothing but Redis behind it."""
