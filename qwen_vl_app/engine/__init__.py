"""The model: what it is (`base`, `families`), how it runs (`local/`), and a scripted one for tests (`fake`)."""
