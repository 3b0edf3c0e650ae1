"""The ticket shop of `examples.shop` behind FastAPI, with a page that is up to date."""
