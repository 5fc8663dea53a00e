//! A disk in memory that knows what a power loss would leave of it.
//!
//! File contents are durable after `sync_data`, names after `sync_dir` of their folder, folders when `create_dir_all`
//! returns. After a crash every operation on the disk and its open files fails; [`SimDisk::reboot`] gives the disk that
//! the next process finds. Paths are absolute; a relative one starts at the root, and `..` is refused.

mod content;
mod names;

use crate::SimClock;
use content::Content;
use names::{Folder, Journal, Node};
use parking_lot::{Mutex, MutexGuard};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use rivermere_base::{Clock, CrashPoint, Disk, DiskFile, DiskMetadata, OpenMode};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

/// The simulated disk. Clones are the same disk.
#[derive(Clone, Debug)]
pub struct SimDisk(Arc<Machine>);

#[derive(Debug)]
struct Machine {
    clock: SimClock,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    root: Arc<Folder>,
    journal: Journal,
    rng: SmallRng,
    /// Why nothing works any more.
    crashed: Option<String>,
    armed: Option<(CrashPoint, u64)>,
    crash_at: Option<u64>,
    fault: Option<Fault>,
    hits: BTreeMap<CrashPoint, u64>,
    operations: Operations,
    last_created_ms: i64,
}

/// How many operations a disk has seen, failed ones included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Operations {
    /// `open`, `read_exact_at`, `len`, `metadata`, `read_dir`; nothing that changes the disk.
    pub reads: u64,
    /// Everything that changes the disk or makes a change durable: `write_all_at`, `set_len`, `sync_data`, `sync_dir`,
    /// an `open` that may create, `create_dir_all`, renames and removals.
    pub mutations: u64,
    /// Those mutations that are `sync_data` or `sync_dir`.
    pub syncs: u64,
    /// Bytes given to `write_all_at`.
    pub bytes_written: u64,
}

#[derive(Clone, Copy, Debug)]
struct Fault {
    /// Fires at this count of mutations.
    at: u64,
    kind: io::ErrorKind,
    sticky: bool,
}

impl SimDisk {
    /// An empty disk; `seed` decides what survives crashes.
    pub fn new(seed: u64) -> Self {
        Self::with_clock(seed, SimClock::new())
    }

    /// An empty disk that stamps its files by `clock`; no two files are created in the same millisecond, so that a file
    /// that replaced another one can be told from it while the clock stands still.
    pub fn with_clock(seed: u64, clock: SimClock) -> Self {
        Self::holding(Arc::default(), SmallRng::seed_from_u64(seed), clock, i64::MIN)
    }

    fn holding(root: Arc<Folder>, rng: SmallRng, clock: SimClock, last_created_ms: i64) -> Self {
        let state = State {
            root,
            journal: Journal::default(),
            rng,
            crashed: None,
            armed: None,
            crash_at: None,
            fault: None,
            hits: BTreeMap::new(),
            operations: Operations::default(),
            last_created_ms,
        };
        Self(Arc::new(Machine { clock, state: Mutex::new(state) }))
    }

    /// Crashes at the `nth` hit of `point` from now on (1 is the next). A later call replaces an earlier one.
    pub fn arm(&self, point: CrashPoint, nth: u64) {
        self.0.state.lock().armed = Some((point, nth.max(1)));
    }

    /// Crashes before the `nth` mutation from now on (1 is the next) takes effect: walking `nth` crashes everywhere.
    pub fn crash_at_mutation(&self, nth: u64) {
        let mut state = self.0.state.lock();
        state.crash_at = Some(state.operations.mutations.saturating_add(nth.max(1)));
    }

    /// Fails the `nth` mutation from now on (1 is the next) with `kind`, and every later one when `sticky`. The
    /// operation has no effect, except that a failing write leaves some first part of its bytes and a failing sync drops
    /// what it should have synced. `StorageFull` is a full disk. A later call replaces an earlier one.
    pub fn fail_write_at(&self, nth: u64, kind: io::ErrorKind, sticky: bool) {
        let mut state = self.0.state.lock();
        let at = state.operations.mutations.saturating_add(nth.max(1));
        state.fault = Some(Fault { at, kind, sticky });
    }

    /// The disk works again, if it has not crashed.
    pub fn clear_faults(&self) {
        self.0.state.lock().fault = None;
    }

    /// Pulls the plug.
    pub fn crash_now(&self) {
        self.0.state.lock().crash("the plug was pulled");
    }

    pub fn is_crashed(&self) -> bool {
        self.0.state.lock().crashed.is_some()
    }

    /// How often each point was reached, on this disk (a rebooted one starts at none).
    pub fn hits(&self) -> BTreeMap<CrashPoint, u64> {
        self.0.state.lock().hits.clone()
    }

    pub fn operations(&self) -> Operations {
        self.0.state.lock().operations
    }

    /// The disk after a power loss now, or at the crash if there was one: un-synced sectors and names survive or not,
    /// by the seed. Another call draws another outcome only for what an earlier one did not decide (names).
    #[must_use]
    pub fn reboot(&self) -> Self {
        let mut state = self.0.state.lock();
        state.crash("rebooted");
        let State { journal, rng, root, .. } = &mut *state;
        journal.lose(Some(rng));
        let root = names::durable_copy(root, &mut |content| content.survivor(rng));
        let rng = SmallRng::from_rng(rng);
        Self::holding(root, rng, self.0.clock.clone(), state.last_created_ms)
    }

    /// The disk after a power loss that took everything un-synced.
    #[must_use]
    pub fn reboot_strict(&self) -> Self {
        let mut state = self.0.state.lock();
        state.crash("rebooted");
        let State { journal, rng, root, .. } = &mut *state;
        journal.lose(None);
        let root = names::durable_copy(root, &mut Content::durable);
        let rng = SmallRng::from_rng(rng);
        Self::holding(root, rng, self.0.clock.clone(), state.last_created_ms)
    }
}

impl State {
    fn crash(&mut self, why: &str) {
        self.crashed.get_or_insert_with(|| why.to_owned());
    }

    fn alive(&self) -> io::Result<()> {
        match &self.crashed {
            Some(why) => Err(io::Error::other(format!("the simulated disk has crashed: {why}"))),
            None => Ok(()),
        }
    }

    /// Counts a mutation and says whether it may happen.
    fn mutate(&mut self) -> io::Result<()> {
        self.alive()?;
        self.operations.mutations += 1;
        let count = self.operations.mutations;
        if self.crash_at == Some(count) {
            self.crash(&format!("at mutation {count}"));
        }
        self.alive()?;
        match self.fault {
            Some(fault) if count == fault.at || (fault.sticky && count > fault.at) => {
                Err(io::Error::new(fault.kind, format!("simulated fault at mutation {count}: {}", fault.kind)))
            }
            _ => Ok(()),
        }
    }

    fn folder(&self, names: &[OsString]) -> io::Result<Arc<Folder>> {
        let mut folder = self.root.clone();
        for name in names {
            let next = folder.entries.lock().get(name).cloned();
            folder = match next {
                Some(Node::Folder(inner)) => inner,
                Some(Node::File(_)) => return Err(io::ErrorKind::NotADirectory.into()),
                None => return Err(io::ErrorKind::NotFound.into()),
            };
        }
        Ok(folder)
    }

    /// The folder that holds the last name of `path`, and that name.
    fn place(&self, path: &Path) -> io::Result<(Arc<Folder>, OsString)> {
        let mut names = names_of(path)?;
        let last = names.pop().ok_or(io::ErrorKind::InvalidInput)?;
        Ok((self.folder(&names)?, last))
    }

    fn node(&self, path: &Path) -> io::Result<Node> {
        if names_of(path)?.is_empty() {
            return Ok(Node::Folder(self.root.clone()));
        }
        let (folder, name) = self.place(path)?;
        let node = folder.entries.lock().get(&name).cloned();
        node.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn rename(&mut self, from: &Path, to: &Path, replace: bool) -> io::Result<()> {
        let (from_folder, from_name) = self.place(from)?;
        let (to_folder, to_name) = self.place(to)?;
        let node = self.node(from)?;
        let target = to_folder.entries.lock().get(&to_name).cloned();
        match (&node, &target) {
            (_, Some(_)) if !replace => return Err(io::ErrorKind::AlreadyExists.into()),
            (Node::File(_), Some(Node::Folder(_))) => return Err(io::ErrorKind::IsADirectory.into()),
            (Node::Folder(_), Some(Node::File(_))) => return Err(io::ErrorKind::NotADirectory.into()),
            (Node::Folder(_), Some(Node::Folder(there))) if !there.entries.lock().is_empty() => {
                return Err(io::ErrorKind::DirectoryNotEmpty.into());
            }
            (Node::Folder(_), _) if names_of(to)?.starts_with(&names_of(from)?) => {
                return Err(io::ErrorKind::InvalidInput.into());
            }
            _ => {}
        }
        if Arc::ptr_eq(&from_folder, &to_folder) && from_name == to_name {
            return Ok(());
        }
        self.journal.change(vec![(from_folder, from_name, None), (to_folder, to_name, Some(node))]);
        Ok(())
    }

    /// Entry by entry, so that a power loss may leave some of them.
    fn empty(&mut self, folder: &Arc<Folder>) {
        let entries = folder.entries.lock().clone();
        for (name, node) in entries {
            if let Node::Folder(inner) = &node {
                self.empty(inner);
            }
            self.journal.change(vec![(folder.clone(), name, None)]);
        }
    }
}

impl Machine {
    fn reading(&self) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.state.lock();
        state.alive()?;
        state.operations.reads += 1;
        Ok(state)
    }

    fn changing(&self) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.state.lock();
        state.mutate()?;
        Ok(state)
    }

    fn describe(path: PathBuf, node: &Node) -> DiskMetadata {
        match node {
            Node::Folder(_) => DiskMetadata { path, is_dir: true, len: 0, modified_ms: 0 },
            Node::File(content) => {
                let content = content.lock();
                DiskMetadata { path, is_dir: false, len: content.len() as u64, modified_ms: content.modified_ms }
            }
        }
    }
}

impl Disk for SimDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>> {
        let content = self.open_content(path, mode).map_err(|error| at(path, error))?;
        Ok(Box::new(SimFile { machine: self.0.clone(), content, writable: mode != OpenMode::Read }))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut state = self.0.changing()?;
        let mut folder = state.root.clone();
        for name in names_of(path)? {
            let found = folder.entries.lock().get(&name).cloned();
            let inner = match found {
                Some(Node::Folder(inner)) => inner,
                Some(Node::File(_)) => return Err(at(path, io::ErrorKind::NotADirectory.into())),
                None => {
                    let inner = Arc::<Folder>::default();
                    let made = Some(Node::Folder(inner.clone()));
                    state.journal.change(vec![(folder.clone(), name.clone(), made)]);
                    inner
                }
            };
            state.journal.sync_name(&folder, &name);
            folder = inner;
        }
        Ok(())
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<DiskMetadata>> {
        let state = self.0.reading()?;
        let folder = names_of(path).and_then(|names| state.folder(&names)).map_err(|error| at(path, error))?;
        let entries = folder.entries.lock();
        Ok(entries.iter().map(|(name, node)| Machine::describe(path.join(name), node)).collect())
    }

    fn metadata(&self, path: &Path) -> io::Result<DiskMetadata> {
        let state = self.0.reading()?;
        let node = state.node(path).map_err(|error| at(path, error))?;
        Ok(Machine::describe(path.to_owned(), &node))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.changing()?.rename(from, to, true).map_err(|error| at(from, error))
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.changing()?.rename(from, to, false).map_err(|error| at(to, error))
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut state = self.0.changing()?;
        match state.node(path).map_err(|error| at(path, error))? {
            Node::Folder(_) => Err(at(path, io::ErrorKind::IsADirectory.into())),
            Node::File(_) => {
                let (folder, name) = state.place(path)?;
                state.journal.change(vec![(folder, name, None)]);
                Ok(())
            }
        }
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut state = self.0.changing()?;
        let (folder, name) = state.place(path).map_err(|error| at(path, error))?;
        match state.node(path).map_err(|error| at(path, error))? {
            Node::File(_) => Err(at(path, io::ErrorKind::NotADirectory.into())),
            Node::Folder(inner) => {
                state.empty(&inner);
                state.journal.change(vec![(folder, name, None)]);
                Ok(())
            }
        }
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.0.changing()?;
        state.operations.syncs += 1;
        let folder = names_of(path).and_then(|names| state.folder(&names)).map_err(|error| at(path, error))?;
        state.journal.sync(&folder);
        Ok(())
    }

    fn crash_point(&self, point: CrashPoint) {
        let mut state = self.0.state.lock();
        if state.crashed.is_some() {
            return;
        }
        *state.hits.entry(point).or_default() += 1;
        if let Some((armed, left)) = &mut state.armed
            && *armed == point
        {
            *left -= 1;
            if *left == 0 {
                state.armed = None;
                state.crash(&format!("at {}", point.name()));
            }
        }
    }
}

impl SimDisk {
    fn open_content(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<Mutex<Content>>> {
        let mut state = match mode {
            OpenMode::Read => self.0.reading()?,
            OpenMode::Write | OpenMode::CreateNew => self.0.changing()?,
        };
        match (state.node(path), mode) {
            (Ok(_), OpenMode::CreateNew) => Err(io::ErrorKind::AlreadyExists.into()),
            (Ok(Node::Folder(_)), _) => Err(io::ErrorKind::IsADirectory.into()),
            (Ok(Node::File(content)), _) => Ok(content),
            (Err(error), _) if error.kind() != io::ErrorKind::NotFound || mode == OpenMode::Read => Err(error),
            (Err(_), _) => {
                let (folder, name) = state.place(path)?;
                let modified_ms = self.0.clock.now_ms().max(state.last_created_ms + 1);
                state.last_created_ms = modified_ms;
                let content = Arc::new(Mutex::new(Content::new(Vec::new(), modified_ms)));
                state.journal.change(vec![(folder, name, Some(Node::File(content.clone())))]);
                Ok(content)
            }
        }
    }
}

#[derive(Debug)]
struct SimFile {
    machine: Arc<Machine>,
    content: Arc<Mutex<Content>>,
    writable: bool,
}

impl SimFile {
    fn check_writable(&self) -> io::Result<()> {
        if self.writable { Ok(()) } else { Err(io::ErrorKind::PermissionDenied.into()) }
    }
}

impl DiskFile for SimFile {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let _state = self.machine.reading()?;
        self.content.lock().read(buffer, offset)
    }

    fn write_all_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.check_writable()?;
        let mut state = self.machine.state.lock();
        state.operations.bytes_written += data.len() as u64;
        let allowed = state.mutate();
        if state.crashed.is_some() {
            return allowed;
        }
        let part = match &allowed {
            Ok(()) => data,
            Err(_) => data.get(..state.rng.random_range(0..=data.len())).unwrap_or_default(),
        };
        let mut content = self.content.lock();
        content.modified_ms = self.machine.clock.now_ms().max(content.modified_ms);
        content.write(part, offset)?;
        allowed
    }

    fn len(&self) -> io::Result<u64> {
        let _state = self.machine.reading()?;
        Ok(self.content.lock().len() as u64)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.check_writable()?;
        let _state = self.machine.changing()?;
        let mut content = self.content.lock();
        content.modified_ms = self.machine.clock.now_ms().max(content.modified_ms);
        content.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.machine.state.lock();
        let allowed = state.mutate();
        state.operations.syncs += 1;
        if state.crashed.is_some() {
            return allowed;
        }
        match &allowed {
            Ok(()) => self.content.lock().sync(),
            Err(_) => self.content.lock().sync_failed(),
        }
        allowed
    }
}

fn names_of(path: &Path) -> io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => names.push(name.to_owned()),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "the simulated disk has no '..'"));
            }
        }
    }
    Ok(names)
}

fn at(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests;
