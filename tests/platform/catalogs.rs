//! Tables of catalogs: Iceberg REST catalogs (our own, served by another platform, and Iceberg's reference server), and
//! metastores (AWS Glue, as moto emulates it, and the Hive Metastore).

use crate::harness::{PATIENCE, eventually, get, ok, produce, refused, sorted, sql, start, stop, write_project};
use crate::peer::{Peer, tool};
use crate::process::succeed;
use rivermere::Assembly;
use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

async fn holds(assembly: &Assembly, query: &str, rows: Value) {
    // A view's table is made with its first commit.
    eventually(query, || (sorted(&sql(assembly, query).ok()?) == sorted(&rows)).then_some(())).await;
}

const TOTALS: &str = "SELECT place, COUNT(*) AS rows, SUM(n) AS n FROM stock GROUP BY place";

/// One platform serves its tables; another reads them, changes them and follows them. Both change one row at the same time.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_of_another_platforms_catalog_is_read_changed_and_followed() {
    let folder = tempfile::tempdir().unwrap();
    let (server, client) = (folder.path().join("server"), folder.path().join("client"));
    std::fs::create_dir_all(&server).unwrap();
    std::fs::create_dir_all(&client).unwrap();
    write_project(
        &server,
        "CREATE EXTERNAL TABLE stock (item TEXT, n INT, place TEXT) STORED AS ICEBERG PARTITIONED BY (place)
         LOCATION 'lake/stock';",
    );
    let server = start(&server, &server.join("data")).await.unwrap_or_else(|problem| panic!("{problem}"));
    ok(&server, "INSERT INTO stock VALUES ('tea', 3, 'A'), ('salt', 5, 'A')");
    let place = format!("iceberg+{}/iceberg/public.stock", server.addresses().http.unwrap());
    write_project(
        &client,
        &format!(
            "CREATE EXTERNAL TABLE stock STORED AS ICEBERG LOCATION '{place}';
             CREATE MATERIALIZED VIEW totals AS {TOTALS};"
        ),
    );
    let client = start(&client, &client.join("data")).await.unwrap_or_else(|problem| panic!("{problem}"));
    holds(&client, "SELECT * FROM totals", json!([{"place": "A", "rows": 2, "n": 8}])).await;
    ok(&client, "INSERT INTO stock VALUES ('oil', 7, 'B')");
    ok(&client, "UPDATE stock SET n = n + 10 WHERE item = 'tea'");
    ok(&client, "DELETE FROM stock WHERE item = 'salt'");
    let rows = json!([{"item": "tea", "n": 13, "place": "A"}, {"item": "oil", "n": 7, "place": "B"}]);
    holds(&server, "SELECT item, n, place FROM stock", rows.clone()).await;
    holds(&client, "SELECT item, n, place FROM stock", rows).await;
    ok(&server, "ALTER TABLE stock ADD COLUMN note TEXT");
    ok(&server, "INSERT INTO stock VALUES ('rice', 1, 'B', 'new')");
    let totals = json!([{"place": "A", "rows": 1, "n": 13}, {"place": "B", "rows": 2, "n": 8}]);
    holds(&client, "SELECT * FROM totals", totals).await;
    holds(&client, "SELECT COUNT(*) AS n FROM stock VERSION AS OF 1", json!([{"n": 2}])).await;
    holds(&client, &format!("SELECT note FROM iceberg('{place}') WHERE item = 'rice'"), json!([{"note": "new"}])).await;
    // Whoever is slower does it again.
    std::thread::scope(|scope| {
        for assembly in [&server, &client] {
            scope.spawn(move || {
                for _ in 0..5 {
                    ok(assembly, "UPDATE stock SET n = n + 1 WHERE item = 'oil'");
                }
            });
        }
    });
    holds(&client, "SELECT n FROM stock WHERE item = 'oil'", json!([{"n": 17}])).await;
    ok(&client, "OPTIMIZE stock");
    holds(&server, "SELECT COUNT(*) AS n FROM stock", json!([{"n": 3}])).await;
    let base = place.trim_end_matches("public.stock");
    for (place, said) in [
        (format!("{base}public.nothing"), "RM-5014"),
        (format!("{base}stock"), "names no table in a namespace"),
        (place.replace("iceberg+http:", "iceberg+ftp:"), "http or https"),
    ] {
        let error = refused(&client, &format!("SELECT * FROM iceberg('{place}')"));
        assert!(error.contains(said), "{place}: {error}");
    }
    stop(client).await;
    stop(server).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "part of the full run"]
async fn tables_of_icebergs_own_catalog_are_made_changed_followed_and_hold_views() {
    let Some(jars) = tool("RIVERMERE_ICEBERG_REST") else { return };
    let catalog = Peer::start("iceberg-rest", &jars);
    let uri = catalog.told("endpoint").to_owned();
    let folder = tempfile::tempdir().unwrap();
    let base = format!("iceberg+{uri}");
    let (assembly, _) = beside_python(folder.path(), &base, false, "", OPEN_REST, &[&uri]).await;
    let error = refused(&assembly, &format!("SELECT * FROM iceberg('{base}/sales.nothing')"));
    assert!(error.contains("RM-5014"), "{error}");
    stop(assembly).await;
}

/// `URI`
const OPEN_REST: &str = r#"
import os, sys
from pyiceberg.catalog.rest import RestCatalog

catalog = RestCatalog("reference", uri=sys.argv[1])
"#;

/// What Python does in the same catalog, before which stands what opens the `catalog`.
const IN_CATALOG: &str = r#"
import pyarrow as pa

stock = catalog.load_table("sales.stock")
print("ROWS", sorted((row["item"], row["n"]) for row in stock.scan().to_arrow().to_pylist()))
print("TOTALS", sorted((row["customer"], row["n"]) for row in catalog.load_table("sales.counts").scan().to_arrow().to_pylist()))
stock.append(pa.Table.from_pylist([{"item": "python", "n": 1, "place": "P"}], schema=stock.schema().as_arrow()))
stock.refresh()
stock.delete("item = 'tea'")
"#;

/// And what ends it.
const ENDS: &str = "
sys.stdout.flush()
os._exit(0)
";

/// What it does in a metastore beside that. What opens the `catalog` says there what the metastore has of a table: its parameters, its
/// folder, its columns, and how files are read.
const IN_METASTORE: &str = r#"
from deltalake import DeltaTable

parameters, folder, columns = entry("stock")
print("COLUMNS", columns)
print("BEFORE", "previous_metadata_location" in parameters)
parameters, folder, columns = entry("delta_counts")
print("PROVIDER", parameters["spark.sql.sources.provider"])
rows = DeltaTable(folder, storage_options=options).to_pyarrow_table().to_pylist()
print("DELTA", sorted((row["customer"], row["n"]) for row in rows))
enter("of_spark", {"spark.sql.sources.provider": "delta"}, folder + "-__PLACEHOLDER__", folder)
enter("text", {"classification": "csv"}, folder + "-text", None)
"#;

/// `ENDPOINT KEY SECRET`
const OPEN_GLUE: &str = r#"
import os, sys
import boto3
from pyiceberg.catalog.glue import GlueCatalog

endpoint, key, secret = sys.argv[1:4]
catalog = GlueCatalog("glue", **{
    "glue.endpoint": endpoint, "glue.region": "us-east-1", "glue.access-key-id": key, "glue.secret-access-key": secret,
    "s3.endpoint": endpoint, "s3.region": "us-east-1", "s3.access-key-id": key, "s3.secret-access-key": secret,
})
client = boto3.client(
    "glue", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id=key, aws_secret_access_key=secret
)
options = {
    "AWS_ENDPOINT_URL": endpoint, "AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret, "AWS_REGION": "us-east-1",
    "AWS_ALLOW_HTTP": "true",
}

def entry(name):
    table = client.get_table(DatabaseName="sales", Name=name)["Table"]
    descriptor = table["StorageDescriptor"]
    columns = [(column["Name"], column["Type"]) for column in descriptor["Columns"]]
    return table["Parameters"], descriptor["Location"], columns

def enter(name, parameters, folder, path):
    descriptor = {"Location": folder}
    if path:
        descriptor["SerdeInfo"] = {"Parameters": {"path": path}}
    table = {"Name": name, "Parameters": parameters, "StorageDescriptor": descriptor}
    client.create_table(DatabaseName="sales", TableInput=table)
"#;

/// `URI`
const OPEN_HIVE: &str = r#"
import os, sys
from hive_metastore.ttypes import FieldSchema, SerDeInfo, StorageDescriptor, Table
from pyiceberg.catalog.hive import HiveCatalog, _HiveClient

catalog = HiveCatalog("hive", uri=sys.argv[1])
options = {}

def entry(name):
    with _HiveClient(sys.argv[1]) as client:
        table = client.get_table("sales", name)
    return table.parameters, table.sd.location, [(column.name, column.type) for column in table.sd.cols]

def enter(name, parameters, folder, path):
    serde = SerDeInfo(serializationLib="org.apache.hadoop.hive.serde2.lazy.LazySimpleSerDe", parameters={})
    if path:
        serde.parameters["path"] = path
    descriptor = StorageDescriptor(
        cols=[FieldSchema("n", "int", "")], location=folder, serdeInfo=serde, parameters={}, bucketCols=[], sortCols=[],
        inputFormat="org.apache.hadoop.mapred.TextInputFormat",
        outputFormat="org.apache.hadoop.hive.ql.io.HiveIgnoreKeyTextOutputFormat",
    )
    table = Table(dbName="sales", tableName=name, sd=descriptor, parameters=parameters, partitionKeys=[], owner="x")
    with _HiveClient(sys.argv[1]) as client:
        client.create_table(table)
"#;

/// Tables of a catalog whose URL begins so, made, changed, followed, and as tables of views, beside Python, which sees what we do there and
/// we what it does; in one that has them also Delta tables. The platform, and what Python said.
async fn beside_python(
    folder: &Path,
    base: &str,
    has_delta: bool,
    settings: &str,
    python: &str,
    arguments: &[&str],
) -> (Assembly, String) {
    let counts = "SELECT customer, COUNT(*) AS n FROM orders GROUP BY customer";
    let (mut project, mut stored) = (String::new(), vec![format!("iceberg('{base}/sales.counts')")]);
    if has_delta {
        project = format!(
            "CREATE MATERIALIZED VIEW delta_counts STORED AS DELTA LOCATION '{base}/sales.delta_counts' AS {counts};"
        );
        stored.push(format!("delta('{base}/sales.delta_counts')"));
    }
    write_project(
        folder,
        &format!(
            "CREATE TABLE orders (customer TEXT NOT NULL, amount BIGINT);
             CREATE MATERIALIZED VIEW counts STORED AS ICEBERG LOCATION '{base}/sales.counts' AS {counts};
             {project}"
        ),
    );
    let settings = format!("name = 'test'\ncommit_interval_s = 0\nepoch_interval_ms = 50\n{settings}");
    std::fs::write(folder.join("rivermere.toml"), settings).unwrap();
    let data = folder.join("data");
    let order = |customer: &str| json!({ "customer": customer, "amount": 1 }).to_string();
    // Twice, so that the second start finds its marker.
    for round in 1..=2 {
        let assembly = start(folder, &data).await.unwrap_or_else(|problem| panic!("{problem}"));
        for _ in 0..5 {
            produce(&assembly, "orders", &[order("a"), order("b"), order("a")]).await;
        }
        let rows = json!([{"customer": "a", "n": 10 * round}, {"customer": "b", "n": 5 * round}]);
        for table in &stored {
            holds(&assembly, &format!("SELECT * FROM {table}"), rows.clone()).await;
        }
        stop(assembly).await;
    }
    let assembly = start(folder, &data).await.unwrap_or_else(|problem| panic!("{problem}"));
    for statement in [
        &*format!(
            "CREATE EXTERNAL TABLE stock (item TEXT, n INT, place TEXT) STORED AS ICEBERG PARTITIONED BY (place)
             LOCATION '{base}/sales.stock' TBLPROPERTIES ('write.delete.mode' = 'merge-on-read')"
        ),
        "INSERT INTO stock VALUES ('tea', 3, 'A'), ('salt', 5, 'A'), ('oil', 7, 'A'), ('rice', 1, 'B')",
        "UPDATE stock SET n = n + 10 WHERE place = 'B'",
        "DELETE FROM stock WHERE item = 'salt'",
        &*format!("CREATE MATERIALIZED VIEW totals AS {TOTALS}"),
    ] {
        ok(&assembly, statement);
    }
    let in_metastore = if has_delta { IN_METASTORE } else { "" };
    let program = format!("{python}{IN_CATALOG}{in_metastore}{ENDS}");
    let said = tokio::task::block_in_place(|| in_python(&program, arguments));
    for line in ["ROWS [('oil', 7), ('rice', 11), ('tea', 3)]", "TOTALS [('a', 20), ('b', 10)]"] {
        assert!(said.contains(line), "no {line:?} in {said}");
    }
    let totals = json!([
        {"place": "A", "rows": 1, "n": 7}, {"place": "B", "rows": 1, "n": 11}, {"place": "P", "rows": 1, "n": 1}
    ]);
    holds(&assembly, "SELECT * FROM totals", totals).await;
    ok(&assembly, "ALTER TABLE stock RENAME COLUMN n TO pieces");
    ok(&assembly, "OPTIMIZE stock");
    ok(&assembly, "VACUUM stock");
    holds(&assembly, "SELECT SUM(pieces) AS n FROM stock", json!([{"n": 19}])).await;
    (assembly, said)
}

/// The same in a metastore, and what only metastores have.
async fn tables_of_a_metastore(folder: &Path, base: &str, settings: &str, python: &str, arguments: &[&str]) {
    let (assembly, said) = beside_python(folder, base, true, settings, python, arguments).await;
    for line in [
        "COLUMNS [('item', 'string'), ('n', 'int'), ('place', 'string')]",
        "BEFORE True",
        "PROVIDER delta",
        "DELTA [('a', 20), ('b', 10)]",
    ] {
        assert!(said.contains(line), "no {line:?} in {said}");
    }
    // What a catalog has under a view's name may be anything: nothing is made in its folder.
    ok(
        &assembly,
        &format!(
            "CREATE MATERIALIZED VIEW elsewhere STORED AS DELTA LOCATION '{base}/sales.text' AS SELECT customer FROM orders"
        ),
    );
    eventually("the sink to say what is there", || {
        get(&assembly, "/v1/status").to_string().contains("which is no delta table").then_some(())
    })
    .await;
    ok(&assembly, "DROP MATERIALIZED VIEW elsewhere");
    // Names of metadata that are long outdated go, the newest stays.
    ok(&assembly, "ALTER TABLE stock SET TBLPROPERTIES ('write.metadata.previous-versions-max' = '2')");
    for n in 0..4 {
        ok(&assembly, &format!("INSERT INTO stock VALUES ('more', {n}, 'M')"));
    }
    ok(&assembly, "VACUUM stock");
    holds(&assembly, "SELECT COUNT(*) AS n FROM stock WHERE place = 'M'", json!([{"n": 4}])).await;
    // A table of Spark's: the folder that the metastore names is a placeholder.
    let of_spark = format!("SELECT SUM(n) AS n FROM delta('{base}/sales.of_spark')");
    holds(&assembly, &of_spark, json!([{"n": 30}])).await;
    for (query, said) in [
        ("SELECT * FROM iceberg('BASE/sales.nothing')", &["RM-5014"][..]),
        ("SELECT * FROM iceberg('BASE/nothing.stock')", &["RM-5014"]),
        ("SELECT * FROM iceberg('BASE/sales.delta_counts')", &["RM-5020", "one of delta"]),
        ("SELECT * FROM delta('BASE/sales.stock')", &["RM-5020", "one of iceberg"]),
        ("SELECT * FROM iceberg('BASE/sales.text')", &["no Iceberg table"]),
        ("SELECT * FROM iceberg('BASE/stock')", &["RM-1111", "/database.table"]),
        ("CREATE EXTERNAL TABLE b (n INT) STORED AS ICEBERG LOCATION 'BASE/sales.stock'", &["RM-7028"]),
        ("CREATE EXTERNAL TABLE b (n INT) STORED AS HUDI LOCATION 'BASE/sales.stock'", &["RM-5020"]),
    ] {
        let error = refused(&assembly, &query.replace("BASE", base));
        for part in said {
            assert!(error.contains(part), "{query}: no {part:?} in {error}");
        }
    }
    stop(assembly).await;
}

/// Blocks.
fn in_python(program: &str, arguments: &[&str]) -> String {
    let python = tool("RIVERMERE_PYTHON").expect("it is set up with the others");
    let mut command = Command::new(python);
    command.args(["-c", program]).args(arguments);
    succeed(&mut command, PATIENCE)
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_of_aws_glue_are_made_changed_followed_and_hold_views() {
    let Some(moto) = tool("RIVERMERE_GLUE") else { return };
    let glue = Peer::start("moto", &moto);
    let (endpoint, key, secret) = (glue.told("endpoint"), glue.told("access_key_id"), glue.told("secret_access_key"));
    let folder = tempfile::tempdir().unwrap();
    let access = format!("endpoint = '{endpoint}'\naccess_key_id = '{key}'\nsecret_access_key = '{secret}'\n");
    let settings = format!(
        "[storages.'s3://lake']\n{access}[storages.'glue://us-east-1']\nwarehouse = 's3://lake/warehouse'\n{access}"
    );
    let arguments = [endpoint, key, secret];
    tables_of_a_metastore(folder.path(), "glue://us-east-1", &settings, OPEN_GLUE, &arguments).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_of_a_hive_metastore_are_made_changed_followed_and_hold_views() {
    let Some(jars) = tool("RIVERMERE_HIVE") else { return };
    let hive = Peer::start("hive-metastore", &jars);
    let uri = hive.told("endpoint").to_owned();
    let base = uri.replace("thrift://", "hive://");
    let folder = tempfile::tempdir().unwrap();
    let warehouse = folder.path().join("warehouse");
    let settings = format!("[storages.'{base}']\nwarehouse = 'file://{}'\n", warehouse.display());
    tables_of_a_metastore(folder.path(), &base, &settings, OPEN_HIVE, &[&uri]).await;
    let files = std::fs::read_dir(warehouse.join("sales.db/stock/metadata")).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    let metadata: Vec<_> = names.filter(|name| name.ends_with(".metadata.json")).collect();
    assert!((1..=4).contains(&metadata.len()), "{metadata:?}");
}

/// `URI`: five rows, each a commit of its own.
const APPEND_IN_HIVE: &str = r#"
import os, sys
import pyarrow as pa
from pyiceberg.catalog.hive import HiveCatalog
from pyiceberg.exceptions import CommitFailedException, WaitingForLockException

catalog = HiveCatalog("hive", uri=sys.argv[1])
for n in range(5):
    while True:
        stock = catalog.load_table("sales.stock")
        try:
            stock.append(pa.Table.from_pylist([{"item": "python", "n": n}], schema=stock.schema().as_arrow()))
            break
        except (CommitFailedException, WaitingForLockException):
            pass
print("DONE")
sys.stdout.flush()
os._exit(0)
"#;

/// Python and two statements of ours at a time commit to one table of a Hive Metastore, each as often as it can.
#[tokio::test(flavor = "multi_thread")]
async fn beside_python_no_commit_to_a_table_of_a_hive_metastore_is_lost() {
    let Some(jars) = tool("RIVERMERE_HIVE") else { return };
    let hive = Peer::start("hive-metastore", &jars);
    let uri = hive.told("endpoint").to_owned();
    let base = uri.replace("thrift://", "hive://");
    let folder = tempfile::tempdir().unwrap();
    write_project(folder.path(), "CREATE TABLE orders (id INT);");
    let warehouse = folder.path().join("warehouse");
    std::fs::write(
        folder.path().join("rivermere.toml"),
        format!("name = 'test'\n[storages.'{base}']\nwarehouse = 'file://{}'\n", warehouse.display()),
    )
    .unwrap();
    let assembly =
        start(folder.path(), &folder.path().join("data")).await.unwrap_or_else(|problem| panic!("{problem}"));
    ok(
        &assembly,
        &format!("CREATE EXTERNAL TABLE stock (item TEXT, n INT) STORED AS ICEBERG LOCATION '{base}/sales.stock'"),
    );
    ok(&assembly, "INSERT INTO stock VALUES ('tea', 0), ('oil', 0)");
    let said = tokio::task::block_in_place(|| {
        std::thread::scope(|scope| {
            let python = scope.spawn(|| in_python(APPEND_IN_HIVE, &[&uri]));
            for item in ["tea", "oil"] {
                let assembly = &assembly;
                scope.spawn(move || {
                    for _ in 0..5 {
                        let update = format!("UPDATE stock SET n = n + 1 WHERE item = '{item}'");
                        // Beside a writer that never pauses a statement may give up, and say so.
                        while let Err(error) = sql(assembly, &update) {
                            assert!(error.to_string().contains("RM-5008"), "{error}");
                        }
                    }
                });
            }
            python.join().unwrap()
        })
    });
    assert!(said.ends_with("DONE\n"), "{said}");
    let rows = json!([{"item": "oil", "rows": 1, "n": 5}, {"item": "python", "rows": 5, "n": 10}, {"item": "tea", "rows": 1, "n": 5}]);
    holds(&assembly, "SELECT item, COUNT(*) AS rows, SUM(n) AS n FROM stock GROUP BY item", rows).await;
    stop(assembly).await;
}

/// Answers as Unity Catalog's published API does: there is no server of it to be had here. Prints its port.
const UNITY: &str = r#"
import json
from http.server import BaseHTTPRequestHandler, HTTPServer

tables = {}

class Catalog(BaseHTTPRequestHandler):
    def answer(self, status, body):
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def allowed(self):
        if self.headers["authorization"] == "Bearer hunter2":
            return True
        self.answer(401, {"error_code": "UNAUTHENTICATED", "message": "no such token"})

    def do_GET(self):
        name = self.path.removeprefix("/api/2.1/unity-catalog/tables/")
        if self.allowed():
            missing = {"error_code": "TABLE_NOT_FOUND", "message": f"Table not found: {name}"}
            self.answer(*((200, tables[name]) if name in tables else (404, missing)))

    def do_POST(self):
        table = json.loads(self.rfile.read(int(self.headers["content-length"])))
        name = ".".join(table[part] for part in ("catalog_name", "schema_name", "name"))
        wrong = self.path != "/api/2.1/unity-catalog/tables" or table["table_type"] != "EXTERNAL" or not table["columns"]
        wrong = wrong or table["columns"][-1]["type_name"] != "DECIMAL" or table["columns"][-1]["type_precision"] != 10
        if self.allowed():
            if wrong:
                return self.answer(400, {"error_code": "INVALID_ARGUMENT", "message": json.dumps(table)})
            if name in tables:
                return self.answer(409, {"error_code": "TABLE_ALREADY_EXISTS", "message": name})
            tables[name] = table
            self.answer(200, table)

    def log_message(self, *words):
        pass

server = HTTPServer(("127.0.0.1", 0), Catalog)
print(server.server_port, flush=True)
server.serve_forever()
"#;

#[tokio::test(flavor = "multi_thread")]
async fn delta_tables_of_unity_catalog_are_made_changed_and_followed() {
    let Some(python) = tool("RIVERMERE_PYTHON") else { return };
    let (_server, port) = Ended::start(&python, UNITY, &[]);
    let base = format!("unity+http://127.0.0.1:{port}");
    let folder = tempfile::tempdir().unwrap();
    write_project(folder.path(), "CREATE TABLE orders (id INT);");
    let settings = |token: &str| {
        let warehouse = folder.path().join("warehouse");
        let settings = format!(
            "name = 'test'\n[storages.'{base}']\ntoken = '{token}'\nwarehouse = 'file://{}'\n",
            warehouse.display()
        );
        std::fs::write(folder.path().join("rivermere.toml"), settings).unwrap();
    };
    settings("hunter2");
    let data = folder.path().join("data");
    let assembly = start(folder.path(), &data).await.unwrap_or_else(|problem| panic!("{problem}"));
    let place = format!("{base}/main.shop.stock");
    ok(
        &assembly,
        &format!("CREATE EXTERNAL TABLE stock (item TEXT, price DECIMAL(10, 2)) STORED AS DELTA LOCATION '{place}'"),
    );
    ok(&assembly, "CREATE MATERIALIZED VIEW dearest AS SELECT MAX(price) AS price FROM stock");
    ok(&assembly, "INSERT INTO stock VALUES ('tea', 3.5), ('oil', 7.25)");
    ok(&assembly, "UPDATE stock SET price = price * 2 WHERE item = 'tea'");
    holds(&assembly, "SELECT CAST(price AS TEXT) AS price FROM dearest", json!([{"price": "7.25"}])).await;
    holds(&assembly, &format!("SELECT COUNT(*) AS n FROM delta('{place}')"), json!([{"n": 2}])).await;
    for (place, said) in [
        (format!("{base}/main.shop.nothing"), "RM-5014"),
        (format!("{base}/shop.stock"), "unity+https://host/catalog.schema.table"),
    ] {
        let error = refused(&assembly, &format!("SELECT * FROM delta('{place}')"));
        assert!(error.contains(said), "{place}: {error}");
    }
    let iceberg = format!("CREATE EXTERNAL TABLE other (n INT) STORED AS ICEBERG LOCATION '{base}/main.shop.other'");
    let error = refused(&assembly, &iceberg);
    assert!(error.contains("RM-5016") && error.contains("iceberg+https://"), "{error}");
    stop(assembly).await;
    settings("hunter3");
    // Its views wait for it; everything else goes on.
    let assembly = start(folder.path(), &data).await.unwrap_or_else(|problem| panic!("{problem}"));
    let error = refused(&assembly, &format!("SELECT * FROM delta('{place}')"));
    assert!(error.contains("UNAUTHENTICATED") && !error.contains("hunter"), "{error}");
    stop(assembly).await;
}

/// A process that ends with the test.
struct Ended(std::process::Child);

impl Ended {
    /// A server of Python's that prints its port first; the process, and the port.
    fn start(python: &Path, program: &str, arguments: &[&str]) -> (Self, String) {
        let mut command = Command::new(python);
        command.args(["-c", program]).args(arguments).stdout(Stdio::piped());
        let mut process = Self(command.spawn().unwrap());
        let mut port = String::new();
        BufReader::new(process.0.stdout.take().unwrap()).read_line(&mut port).unwrap();
        (process, port.trim().to_owned())
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Stands before an emulated Glue, and does what that does not: an update over another version than the newest is refused. Of each six updates
/// one is made and its answer is lost, and one is lost itself. `ENDPOINT`; prints its port.
const FAILING_GLUE: &str = r#"
import json, sys, threading, urllib.error, urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

one_at_a_time = threading.Lock()
updates = 0

def asked(headers, body):
    request = urllib.request.Request(sys.argv[1], data=body, headers=headers)
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()

class Glue(BaseHTTPRequestHandler):
    def do_POST(self):
        global updates
        body = self.rfile.read(int(self.headers["content-length"]))
        headers = {name: self.headers[name] for name in ("content-type", "x-amz-target", "authorization")}
        if headers["x-amz-target"] != "AWSGlue.UpdateTable":
            return self.answer(*asked(headers, body))
        with one_at_a_time:
            updates += 1
            wanted = json.loads(body)
            table = {"DatabaseName": wanted["DatabaseName"], "Name": wanted["TableInput"]["Name"]}
            get = {**headers, "x-amz-target": "AWSGlue.GetTable"}
            newest = json.loads(asked(get, json.dumps(table).encode())[1])["Table"]["VersionId"]
            if wanted["VersionId"] != newest:
                return self.answer(400, json.dumps({"__type": "ConcurrentModificationException"}).encode())
            if updates % 6 == 5:
                return self.close()
            answer = asked(headers, body)
            if updates % 6 == 2:
                return self.close()
        self.answer(*answer)

    def close(self):
        self.close_connection = True
        self.connection.close()

    def answer(self, status, body):
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words):
        pass

server = ThreadingHTTPServer(("127.0.0.1", 0), Glue)
print(server.server_port, flush=True)
server.serve_forever()
"#;

/// Two statements at a time change one table of a Glue that loses answers and requests.
#[tokio::test(flavor = "multi_thread")]
async fn no_commit_to_a_table_of_a_glue_that_loses_answers_is_lost_or_made_twice() {
    let (Some(moto), Some(python)) = (tool("RIVERMERE_GLUE"), tool("RIVERMERE_PYTHON")) else { return };
    let glue = Peer::start("moto", &moto);
    let (endpoint, key, secret) = (glue.told("endpoint"), glue.told("access_key_id"), glue.told("secret_access_key"));
    let (_server, failing) = Ended::start(&python, FAILING_GLUE, &[endpoint]);
    let folder = tempfile::tempdir().unwrap();
    write_project(folder.path(), "CREATE TABLE orders (id INT);");
    let access = format!("access_key_id = '{key}'\nsecret_access_key = '{secret}'\n");
    std::fs::write(
        folder.path().join("rivermere.toml"),
        format!(
            "name = 'test'\n[storages.'s3://lake']\nendpoint = '{endpoint}'\n{access}[storages.'glue://us-east-1']\n\
             warehouse = 's3://lake/warehouse'\nendpoint = 'http://127.0.0.1:{failing}'\n{access}"
        ),
    )
    .unwrap();
    let assembly =
        start(folder.path(), &folder.path().join("data")).await.unwrap_or_else(|problem| panic!("{problem}"));
    ok(
        &assembly,
        "CREATE EXTERNAL TABLE stock (item TEXT, n INT) STORED AS ICEBERG LOCATION 'glue://us-east-1/sales.stock'",
    );
    // One that was lost is told, and not made.
    let until_done = |statement: &str| {
        while let Err(error) = sql(&assembly, statement) {
            let error = error.to_string();
            assert!(error.contains("RM-5008") || error.contains("has given no answer to a commit"), "{error}");
        }
    };
    until_done("INSERT INTO stock VALUES ('tea', 0), ('oil', 0)");
    tokio::task::block_in_place(|| {
        std::thread::scope(|scope| {
            for item in ["tea", "oil"] {
                let until_done = &until_done;
                scope.spawn(move || {
                    for _ in 0..8 {
                        until_done(&format!("UPDATE stock SET n = n + 1 WHERE item = '{item}'"));
                    }
                });
            }
        });
    });
    holds(&assembly, "SELECT * FROM stock", json!([{"item": "tea", "n": 8}, {"item": "oil", "n": 8}])).await;
    stop(assembly).await;
}
