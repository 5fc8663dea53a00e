//! Texts beside the tests. `RIVERMERE_WRITE_SNAPSHOTS=1 cargo test -p rivermere --test cli` writes them anew; the
//! difference is reviewed like code.

use std::path::Path;

/// Compares a text with `snapshots/<name>.txt`.
#[track_caller]
pub fn check(name: &str, found: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli/snapshots").join(format!("{name}.txt"));
    if std::env::var_os("RIVERMERE_WRITE_SNAPSHOTS").is_some() {
        std::fs::write(&path, found).expect("the snapshot can be written");
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(expected == found, "{} differs\n--- expected\n{expected}\n--- found\n{found}", path.display());
}
