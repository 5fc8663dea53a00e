//! Installing what is missing: system packages, a Python environment, jars, npm packages, Go programs.
//!
//! Every step first looks whether there is anything to do, says so in one line when there is, and leaves a mark in the
//! cache folder with what it installed, so that a changed list of packages is noticed. One run at a time installs.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::checkout;

/// Package registries fail now and then; a step that uses one is tried this often.
const ATTEMPTS: u32 = 3;

/// Held while installing, so that two runs on one machine do not install into the same folder.
pub struct Lock {
    _file: File,
}

impl Lock {
    pub fn take(cache: &Path) -> Result<Lock, String> {
        let path = cache.join("install.lock");
        let file = File::create(&path).map_err(|error| format!("cannot create {}: {error}", path.display()))?;
        if file.try_lock().is_err() {
            progress("waiting for another run that is installing");
            file.lock().map_err(|error| format!("cannot lock {}: {error}", path.display()))?;
        }
        Ok(Lock { _file: file })
    }
}

/// One line on standard error about what is going on.
pub fn progress(line: &str) {
    eprintln!("[setup] {line}");
}

/// Installs Debian packages. `Err` says in one line what to install by hand.
pub fn system_packages(packages: &[&str]) -> Result<(), String> {
    let list = packages.join(" ");
    let by_hand = format!("install {list} with the package manager of this machine and try again");
    let Some(apt) = checkout::find_program(&["apt-get"]) else {
        return Err(format!("{list} missing, and no apt-get to install them: {by_hand}"));
    };
    let Some(rights) = rights() else {
        return Err(format!("{list} missing, and neither root nor password-less sudo: {by_hand}"));
    };
    let apt_get = |arguments: &[&str]| {
        let mut command = match rights {
            Rights::Root => Command::new(&apt),
            Rights::Sudo => {
                let mut command = Command::new("sudo");
                command.args(["-n", "DEBIAN_FRONTEND=noninteractive"]).arg(&apt);
                command
            }
        };
        command.env("DEBIAN_FRONTEND", "noninteractive").args(["-qq", "-o", "DPkg::Lock::Timeout=300"]).args(arguments);
        command
    };
    run(&format!("apt-get install {list}"), || {
        quiet(apt_get(&["update"]))?;
        let mut install = vec!["install", "-y", "--no-install-recommends"];
        install.extend(packages);
        quiet(apt_get(&install))
    })
    .map_err(|error| format!("{error}\n{by_hand}"))
}

#[derive(Clone, Copy)]
enum Rights {
    Root,
    Sudo,
}

fn rights() -> Option<Rights> {
    let answers = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).stderr(Stdio::null()).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    if answers("id", &["-u"]).as_deref() == Some("0") {
        Some(Rights::Root)
    } else {
        answers("sudo", &["-n", "true"]).map(|_| Rights::Sudo)
    }
}

/// A Python virtual environment in `folder` with exactly the packages of the requirements file. Answers its Python.
pub fn python_environment(folder: &Path, requirements: &Path) -> Result<PathBuf, String> {
    let wanted = format!("{}\n{}", version_of("python3")?, checkout::read(requirements)?);
    let (python, mark) = (folder.join("bin/python"), folder.join("installed.txt"));
    if is_marked(&mark, &wanted) && python.exists() {
        return Ok(python);
    }
    run(&format!("Python packages of {}", checkout::shown(requirements)), || {
        let _ = fs::remove_dir_all(folder);
        let mut make = Command::new("python3");
        make.args(["-m", "venv"]).arg(folder);
        quiet(make)
            .map_err(|error| format!("{error}\nOn Debian and Ubuntu this needs: apt-get install python3-venv"))?;
        let mut install = Command::new(&python);
        install.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"]).arg(requirements);
        quiet(install)
    })?;
    fs::write(&mark, wanted).map_err(|error| format!("cannot write {}: {error}", mark.display()))?;
    Ok(python)
}

/// The jars that a Maven project file asks for, and the jars that those ask for, in `folder`.
pub fn jars(folder: &Path, project: &Path, properties: &[(&str, &str)]) -> Result<(), String> {
    let wanted = format!("{properties:?}\n{}", checkout::read(project)?);
    let mark = folder.join("installed.txt");
    if is_marked(&mark, &wanted) {
        return Ok(());
    }
    if checkout::find_program(&["mvn"]).is_none() {
        system_packages(&["maven"])?;
    }
    let values: Vec<String> = properties.iter().map(|(name, value)| format!("-D{name}={value}")).collect();
    run(&format!("jars of {} {}", checkout::shown(project), values.join(" ")), || {
        let _ = fs::remove_dir_all(folder);
        let mut copy = Command::new("mvn");
        copy.args(["-B", "-q", "-ntp", "-f"])
            .arg(project)
            .args(&values)
            .arg("org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies")
            .arg("-DincludeScope=runtime")
            .arg(format!("-DoutputDirectory={}", folder.display()));
        quiet(copy)
    })?;
    fs::write(&mark, wanted).map_err(|error| format!("cannot write {}: {error}", mark.display()))
}

/// npm packages, exactly as the lock file says, beside that file.
pub fn node_packages(folder: &Path) -> Result<(), String> {
    let wanted = checkout::read(&folder.join("package-lock.json"))?;
    let mark = folder.join("node_modules/.installed.txt");
    if is_marked(&mark, &wanted) {
        return Ok(());
    }
    run(&format!("npm packages of {}", checkout::shown(folder)), || {
        let mut install = Command::new("npm");
        install.args(["ci", "--no-audit", "--no-fund", "--ignore-scripts", "--silent"]).current_dir(folder);
        quiet(install)
    })?;
    fs::write(&mark, wanted).map_err(|error| format!("cannot write {}: {error}", mark.display()))
}

/// The npm packages of `from`, exactly as its lock file says, in `folder`. Answers the folder of modules.
pub fn node_packages_elsewhere(folder: &Path, from: &Path) -> Result<PathBuf, String> {
    fs::create_dir_all(folder).map_err(|error| format!("cannot create {}: {error}", folder.display()))?;
    for name in ["package.json", "package-lock.json"] {
        fs::copy(from.join(name), folder.join(name))
            .map_err(|error| format!("cannot copy {name} to {}: {error}", folder.display()))?;
    }
    node_packages(folder)?;
    Ok(folder.join("node_modules"))
}

/// A program of a Go module, built in `folder`. Answers the program.
pub fn go_program(folder: &Path, package: &str, name: &str) -> Result<PathBuf, String> {
    let (program, mark) = (folder.join(name), folder.join("installed.txt"));
    if is_marked(&mark, package) && program.exists() {
        return Ok(program);
    }
    run(&format!("Go program {package}"), || {
        let mut build = Command::new("go");
        build.args(["install", package]).env("GOBIN", folder);
        quiet(build)
    })?;
    fs::write(&mark, package).map_err(|error| format!("cannot write {}: {error}", mark.display()))?;
    Ok(program)
}

/// The first line with which a program answers `--version`.
pub fn version_of(program: &str) -> Result<String, String> {
    let output = Command::new(program).arg("--version").output().map_err(|error| format!("{program}: {error}"))?;
    let text = if output.stdout.is_empty() { output.stderr } else { output.stdout };
    Ok(String::from_utf8_lossy(&text).lines().next().unwrap_or_default().trim().to_owned())
}

fn is_marked(mark: &Path, wanted: &str) -> bool {
    fs::read_to_string(mark).is_ok_and(|found| found == wanted)
}

/// Says what is being installed, tries it a few times, says how long it took.
fn run(what: &str, step: impl Fn() -> Result<(), String>) -> Result<(), String> {
    let start = Instant::now();
    progress(&format!("{what} ..."));
    let mut attempt = 1;
    loop {
        match step() {
            Ok(()) => {
                progress(&format!("{what}: {:.0} s", start.elapsed().as_secs_f64()));
                return Ok(());
            }
            Err(error) if attempt >= ATTEMPTS => return Err(format!("{what} failed:\n{error}")),
            Err(error) => {
                progress(&format!(
                    "attempt {attempt} of {ATTEMPTS} failed: {}",
                    error.lines().last().unwrap_or(&error)
                ));
                // Waiting is the point here: the registry on the other side gets time to recover.
                std::thread::sleep(Duration::from_secs(u64::from(attempt) * 5));
                attempt += 1;
            }
        }
    }
}

/// Runs a command without showing its output unless it fails.
fn quiet(mut command: Command) -> Result<(), String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("cannot start {program}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let lines: Vec<&str> = text.lines().collect();
    let tail = lines[lines.len().saturating_sub(20)..].join("\n");
    Err(format!("{tail}\n{program} ended with {}", output.status))
}
