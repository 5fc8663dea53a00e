"""What SQLAlchemy, and so Superset and pandas, ask a Rivermere that holds `departures` and `delays_by_airport`.

usage: reflection.py HOST:PORT
"""

import datetime

import sqlalchemy
from checks import broker as address
from checks import check, equal, finish

engine = sqlalchemy.create_engine(f"postgresql+psycopg://rivermere@{address()}/rivermere?connect_timeout=30")


def columns():
    found = {column["name"]: str(column["type"]) for column in sqlalchemy.inspect(engine).get_columns("delays_by_airport")}
    equal(found, {"origin": "TEXT", "window_start": "TIMESTAMP", "departures": "BIGINT", "avg_delay": "DOUBLE PRECISION"})


def reads_reflected():
    view = sqlalchemy.Table("delays_by_airport", sqlalchemy.MetaData(), autoload_with=engine)
    query = sqlalchemy.select(view).where(view.c.origin == "EWR", view.c.departures > 1)
    with engine.connect() as connection:
        equal(connection.execute(query).one()._tuple(), ("EWR", datetime.datetime(2013, 1, 1, 5), 2, 2.5))


def constraints():
    inspector = sqlalchemy.inspect(engine)
    equal(inspector.get_pk_constraint("departures")["constrained_columns"], [])
    equal((inspector.get_foreign_keys("departures"), inspector.get_indexes("departures")), ([], []))


def inspected(what, expected):
    check(f"{what} are listed", lambda: equal(getattr(sqlalchemy.inspect(engine), what)(), expected))


inspected("get_table_names", ["departures"])
inspected("get_view_names", ["delays_by_airport"])
check("schemas are listed", lambda: equal("public" in sqlalchemy.inspect(engine).get_schema_names(), True))
check("a view is known to be there", lambda: equal(sqlalchemy.inspect(engine).has_table("delays_by_airport"), True))
check("a missing one is known to be missing", lambda: equal(sqlalchemy.inspect(engine).has_table("nothing"), False))
check("the columns of a view have their types", columns)
check("keys and indexes are none", constraints)
check("a reflected view is read", reads_reflected)
check("the text of a view is told", lambda: equal("TUMBLE" in sqlalchemy.inspect(engine).get_view_definition("delays_by_airport"), True))
finish()
