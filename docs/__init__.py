"""The web site: its pages, and what puts them together. `make site` builds it."""
