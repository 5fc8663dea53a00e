import java.sql.Connection;
import java.sql.DatabaseMetaData;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.sql.Timestamp;
import java.sql.Types;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;

/**
 * Looks at a Rivermere that holds `departures` and the view `delays_by_airport` as BI tools do: through PostgreSQL's own
 * driver and its metadata. Prints a line per check, `ok WHAT` or `FAIL WHAT: WHY`.
 *
 * usage: java -cp JARS Jdbc.java HOST:PORT
 */
public class Jdbc {
    interface Check {
        void run() throws Exception;
    }

    private static int passed = 0;
    private static int failed = 0;

    public static void main(String[] arguments) throws Exception {
        String url = "jdbc:postgresql://" + arguments[0] + "/rivermere?user=rivermere&connectTimeout=30&socketTimeout=60";
        try (Connection connection = DriverManager.getConnection(url)) {
            DatabaseMetaData metadata = connection.getMetaData();
            check("the product is told", () -> equal("PostgreSQL", metadata.getDatabaseProductName()));
            check("schemas are listed", () -> contains(column(metadata.getSchemas(), "TABLE_SCHEM"), "public"));
            check("catalogs are listed", () -> contains(column(metadata.getCatalogs(), "TABLE_CAT"), "rivermere"));
            check("table types are listed", () -> contains(column(metadata.getTableTypes(), "TABLE_TYPE"), "VIEW"));
            check("tables and views are listed with their type", () -> {
                List<String> found = new ArrayList<>();
                try (ResultSet rows = metadata.getTables(null, "public", "%", new String[] {"TABLE", "VIEW"})) {
                    while (rows.next()) {
                        found.add(rows.getString("TABLE_NAME") + " " + rows.getString("TABLE_TYPE"));
                    }
                }
                equal(List.of("departures TABLE", "delays_by_airport VIEW"), found);
            });
            check("relations are listed whatever their schema and type", () ->
                contains(column(metadata.getTables(null, null, null, null), "TABLE_NAME"), "departures"));
            check("the columns of a view are listed with their types", () -> {
                List<String> found = new ArrayList<>();
                try (ResultSet rows = metadata.getColumns(null, "public", "delays_by_airport", "%")) {
                    while (rows.next()) {
                        found.add(rows.getString("COLUMN_NAME") + " " + rows.getString("TYPE_NAME") + " "
                            + rows.getInt("ORDINAL_POSITION"));
                    }
                }
                equal(List.of("origin text 1", "window_start timestamp 2", "departures int8 3", "avg_delay float8 4"), found);
            });
            check("functions can be asked for", () -> {
                column(metadata.getFunctions(null, "public", "%"), "FUNCTION_NAME");
                column(metadata.getProcedures(null, "public", "%"), "PROCEDURE_NAME");
            });
            check("types are listed", () -> {
                for (int turn = 0; turn < 4; turn++) {
                    List<String> types = column(metadata.getTypeInfo(), "TYPE_NAME");
                    contains(types, "int8");
                    contains(types, "text");
                }
            });
            check("there are no keys and no indexes", () -> {
                for (String relation : List.of("departures", "delays_by_airport")) {
                    equal(List.of(), column(metadata.getPrimaryKeys(null, "public", relation), "COLUMN_NAME"));
                    equal(List.of(), column(metadata.getImportedKeys(null, "public", relation), "FKCOLUMN_NAME"));
                    equal(List.of(), column(metadata.getExportedKeys(null, "public", relation), "FKCOLUMN_NAME"));
                    equal(List.of(), column(metadata.getIndexInfo(null, "public", relation, false, true), "INDEX_NAME"));
                    equal(List.of(), column(metadata.getBestRowIdentifier(null, "public", relation,
                        DatabaseMetaData.bestRowSession, true), "COLUMN_NAME"));
                }
            });
            check("grants can be asked for", () -> {
                column(metadata.getTablePrivileges(null, "public", "departures"), "PRIVILEGE");
                column(metadata.getColumnPrivileges(null, "public", "departures", "%"), "PRIVILEGE");
                column(metadata.getUDTs(null, "public", "%", null), "TYPE_NAME");
            });
            check("a prepared statement is run often enough to be kept by the driver", () -> {
                String query = "SELECT window_start, departures, avg_delay FROM delays_by_airport WHERE origin = ? AND departures >= ?";
                try (PreparedStatement statement = connection.prepareStatement(query)) {
                    for (int turn = 0; turn < 8; turn++) {
                        statement.setString(1, "EWR");
                        statement.setLong(2, 1);
                        try (ResultSet rows = statement.executeQuery()) {
                            equal(true, rows.next());
                            equal(Timestamp.valueOf("2013-01-01 05:00:00"), rows.getTimestamp(1));
                            equal(2L, rows.getLong(2));
                            equal(2.5, rows.getDouble(3));
                            equal(Types.DOUBLE, rows.getMetaData().getColumnType(3));
                            equal(false, rows.next());
                        }
                    }
                }
            });
            check("rows are fetched in parts inside a transaction", () -> {
                connection.setAutoCommit(false);
                try (Statement statement = connection.createStatement()) {
                    statement.setFetchSize(100);
                    try (ResultSet rows = statement.executeQuery("SELECT value FROM generate_series(1, 1000)")) {
                        int count = 0;
                        while (rows.next()) {
                            count++;
                        }
                        equal(1000, count);
                    }
                }
                connection.commit();
                connection.setAutoCommit(true);
            });
            check("an error has its state and leaves the connection usable", () -> {
                try (Statement statement = connection.createStatement()) {
                    try {
                        statement.executeQuery("SELECT orign FROM delays_by_airport");
                        throw new AssertionError("no error");
                    } catch (SQLException error) {
                        equal("42703", error.getSQLState());
                    }
                    equal(true, statement.execute("SELECT 1"));
                }
            });
            check("the connection is valid", () -> equal(true, connection.isValid(10)));
        }
        System.out.println(passed + " ok, " + failed + " failed");
        System.exit(failed == 0 ? 0 : 1);
    }

    private static void check(String what, Check check) {
        try {
            check.run();
            passed++;
            System.out.println("ok " + what);
        } catch (Exception | AssertionError error) {
            failed++;
            System.out.println("FAIL " + what + ": " + String.valueOf(error).replaceAll("\\s+", " "));
        }
    }

    private static List<String> column(ResultSet rows, String name) throws SQLException {
        List<String> found = new ArrayList<>();
        try (rows) {
            while (rows.next()) {
                found.add(rows.getString(name));
            }
        }
        return found;
    }

    private static void contains(List<String> found, String expected) {
        if (!found.contains(expected)) {
            throw new AssertionError("no " + expected + " in " + found);
        }
    }

    private static void equal(Object expected, Object actual) {
        if (!Objects.equals(expected, actual)) {
            throw new AssertionError("expected " + expected + ", got " + actual);
        }
    }
}
