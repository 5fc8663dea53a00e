//! Prepares the pages that are embedded in the binary, in `OUT_DIR/pages`.
//!
//! The sources in `pages/` are copied into `OUT_DIR` first, so that the source tree stays untouched. With Node.js, npm
//! and a network the pinned packages are fetched and `build.mjs` puts them in their place; without, the plain sources
//! are embedded, which show tables instead of charts, and one warning says so.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let Some(out) = env::var_os("OUT_DIR").map(PathBuf::from) else {
        return Err(io::Error::other("OUT_DIR is not set: run by cargo only"));
    };
    let Some(manifest) = env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from) else {
        return Err(io::Error::other("CARGO_MANIFEST_DIR is not set: run by cargo only"));
    };
    let source = manifest.join("../../pages");
    let (work, pages) = (out.join("pages-source"), out.join("pages"));
    remake(&pages)?;
    println!("cargo:rerun-if-changed=build.rs");
    if !source.join("index.html").is_file() {
        // Cargo watches a missing path by running this again each time, so watch the folder above.
        println!("cargo:rerun-if-changed={}", manifest.join("../..").join("Cargo.toml").display());
        println!("cargo:warning=pages/index.html is missing: the binary will show a placeholder page");
        return fs::write(pages.join("index.html"), PLACEHOLDER);
    }
    watch(&source)?;
    refresh(&source, &work)?;
    if let Err(reason) = packages(&work).and_then(|()| build(&work, &pages)) {
        println!("cargo:warning=the pages are embedded without their packages and show tables, not charts: {reason}");
        remake(&pages)?;
        copy(&work.join("index.html"), &pages.join("index.html"))?;
        if work.join("assets").is_dir() {
            copy(&work.join("assets"), &pages.join("assets"))?;
        }
    }
    Ok(())
}

const PLACEHOLDER: &str = "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Rivermere</title>\
    <p>This binary was built without its pages. The data is there: <a href=\"v1/status\">status</a>, \
    <a href=\"v1/views\">views</a>.</p></html>";

/// Folders of the sources that are not part of the pages.
fn is_left_out(name: &str) -> bool {
    matches!(name, "node_modules" | "dist" | "test" | "tests") || name.starts_with('.')
}

fn watch(folder: &Path) -> io::Result<()> {
    // The folder itself tells of files that come and go.
    println!("cargo:rerun-if-changed={}", folder.display());
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if is_left_out(&entry.file_name().to_string_lossy()) {
            continue;
        }
        if entry.file_type()?.is_dir() {
            watch(&entry.path())?;
        } else {
            println!("cargo:rerun-if-changed={}", entry.path().display());
        }
    }
    Ok(())
}

/// Brings the copy up to date and keeps its fetched packages.
fn refresh(source: &Path, work: &Path) -> io::Result<()> {
    fs::create_dir_all(work)?;
    for entry in fs::read_dir(work)? {
        let entry = entry?;
        if entry.file_name() == "node_modules" || entry.file_name() == FETCHED {
            continue;
        }
        if entry.file_type()?.is_dir() { fs::remove_dir_all(entry.path())? } else { fs::remove_file(entry.path())? }
    }
    for entry in fs::read_dir(source)? {
        let entry = entry?;
        if !is_left_out(&entry.file_name().to_string_lossy()) {
            copy(&entry.path(), &work.join(entry.file_name()))?;
        }
    }
    Ok(())
}

/// Holds the lock file that `node_modules` was fetched with.
const FETCHED: &str = "fetched-lock.json";

fn packages(work: &Path) -> Result<(), String> {
    let lock = fs::read(work.join("package-lock.json")).map_err(|_| "pages/package-lock.json is missing".to_owned())?;
    if work.join("node_modules").is_dir() && fs::read(work.join(FETCHED)).is_ok_and(|fetched| fetched == lock) {
        return Ok(());
    }
    let mut npm = Command::new("npm");
    npm.args(["ci", "--omit=dev", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline"]);
    npm.args(["--fetch-retries=1", "--fetch-timeout=20000", "--loglevel=error"]);
    run(npm.current_dir(work), "npm ci")?;
    fs::write(work.join(FETCHED), lock).map_err(|error| error.to_string())
}

fn build(work: &Path, pages: &Path) -> Result<(), String> {
    run(Command::new("node").arg("build.mjs").arg(pages).current_dir(work), "node build.mjs")?;
    if pages.join("index.html").is_file() { Ok(()) } else { Err("build.mjs made no index.html".to_owned()) }
}

fn run(command: &mut Command, name: &str) -> Result<(), String> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("{name} did not start: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let last = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("it said nothing");
    Err(format!("{name} failed ({}): {last}", output.status))
}

fn remake(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::create_dir_all(folder)
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    if !from.is_dir() {
        return fs::copy(from, to).map(drop);
    }
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        copy(&entry.path(), &to.join(entry.file_name()))?;
    }
    Ok(())
}
