//! The table as another implementation reads it: Python's `deltalake`, when `RIVERMERE_PYTHON` names an interpreter
//! that has it.

use crate::world::*;
use object_store::ObjectStore;
use object_store::local::LocalFileSystem;
use rivermere_base::Epoch;
use rivermere_table::TableSink;
use std::process::Command;
use std::sync::Arc;

const READ: &str = "
import sys, deltalake
table = deltalake.DeltaTable(sys.argv[1])
rows = table.to_pyarrow_table().to_pylist() if hasattr(table, 'to_pyarrow_table') else []
print(sorted(f\"{'null' if r['key'] is None else r['key']}={r['value']}\" for r in rows))
print(table.transaction_version(sys.argv[2]))
";

const APPEND: &str = "
import sys, deltalake, pyarrow
rows = pyarrow.table({'key': pyarrow.array([9], pyarrow.int64()), 'value': pyarrow.array(['python'])})
deltalake.write_deltalake(sys.argv[1], rows, mode='append')
deltalake.DeltaTable(sys.argv[1]).optimize.compact()
";

/// Arrow's threads of Python may abort the process while the interpreter takes itself down: the script is over then.
const LEAVE: &str = "
import os
sys.stdout.flush()
os._exit(0)
";

fn python(interpreter: &str, code: &str, arguments: &[&str]) -> String {
    let output = Command::new(interpreter).arg("-c").arg(format!("{code}{LEAVE}")).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn python_reads_our_rows_and_marker_and_we_read_its_rows() {
    let Ok(interpreter) = std::env::var("RIVERMERE_PYTHON") else {
        println!("skipped: RIVERMERE_PYTHON is not set");
        return;
    };
    for spec in [append(), merge()] {
        let folder = tempfile::tempdir().unwrap();
        let store: Arc<dyn ObjectStore> = Arc::new(LocalFileSystem::new_with_prefix(folder.path()).unwrap());
        let path = folder.path().join("lake/totals").to_str().unwrap().to_string();
        let sink = open(&store, spec).await.unwrap();
        sink.commit(vec![epoch(1, "+1=a +null=n")]).await.unwrap();
        sink.commit(vec![epoch(2, "+2=b"), epoch(3, "+3=c")]).await.unwrap();
        assert_eq!(python(&interpreter, READ, &[&path, OURS]), "['1=a', '2=b', '3=c', 'null=n']\n3\n");
        python(&interpreter, APPEND, &[&path]);
        assert_eq!(sink.committed().await.unwrap(), Some(Epoch(3)));
        sink.commit(vec![epoch(3, "+3=c"), epoch(4, "+4=d")]).await.unwrap();
        let expected = ["1=a", "2=b", "3=c", "4=d", "9=python", "null=n"];
        assert_eq!(rows(&store).await, expected);
        let quoted = expected.map(|row| format!("'{row}'")).join(", ");
        assert_eq!(python(&interpreter, READ, &[&path, OURS]), format!("[{quoted}]\n4\n"));
    }
}
