from tests.support.postgres import (
    fresh_database,
    make_database,
    make_empty_database,
    module_database,
    postgres_server,
)

__all__ = [
    "fresh_database",
    "make_database",
    "make_empty_database",
    "module_database",
    "postgres_server",
]
