//! Folders, and the journal of changed names that no folder sync has made durable.
//!
//! A change (create, rename, removal) survives as a whole or not at all, and never without the earlier changes of the
//! names it touches; changes of other names are independent, which is all that POSIX promises.

use super::content::Content;
use parking_lot::Mutex;
use rand::Rng;
use rand::rngs::SmallRng;
use std::collections::{BTreeMap, HashSet};
use std::ffi::OsString;
use std::sync::Arc;

pub(super) type Entries = BTreeMap<OsString, Node>;

/// A file or a folder. Clones are the same one.
#[derive(Clone, Debug)]
pub(super) enum Node {
    File(Arc<Mutex<Content>>),
    Folder(Arc<Folder>),
}

#[derive(Debug, Default)]
pub(super) struct Folder {
    /// What the process sees.
    pub(super) entries: Mutex<Entries>,
    /// What the medium holds.
    durable: Mutex<Entries>,
}

impl Folder {
    fn key(self: &Arc<Self>, name: &OsString) -> Key {
        (Arc::as_ptr(self) as usize, name.clone())
    }
}

/// A name in a folder, by the folder's address: the journal keeps its folders alive.
type Key = (usize, OsString);

/// Names that change together.
#[derive(Debug)]
struct Change(Vec<(Arc<Folder>, OsString, Option<Node>)>);

impl Change {
    fn keys(&self) -> impl Iterator<Item = Key> {
        self.0.iter().map(|(folder, name, _)| folder.key(name))
    }

    fn make_durable(self) {
        for (folder, name, node) in self.0 {
            match node {
                Some(node) => folder.durable.lock().insert(name, node),
                None => folder.durable.lock().remove(&name),
            };
        }
    }
}

/// Un-synced changes, oldest first.
#[derive(Debug, Default)]
pub(super) struct Journal(Vec<Change>);

impl Journal {
    /// Changes names, now for the process and some day for the medium.
    pub(super) fn change(&mut self, names: Vec<(Arc<Folder>, OsString, Option<Node>)>) {
        for (folder, name, node) in &names {
            match node {
                Some(node) => folder.entries.lock().insert(name.clone(), node.clone()),
                None => folder.entries.lock().remove(name),
            };
        }
        self.0.push(Change(names));
    }

    /// Makes the names of `folder` durable.
    pub(super) fn sync(&mut self, folder: &Arc<Folder>) {
        let address = Arc::as_ptr(folder) as usize;
        self.flush(|key| key.0 == address);
    }

    /// Makes one name of `folder` durable.
    pub(super) fn sync_name(&mut self, folder: &Arc<Folder>, name: &OsString) {
        let wanted = folder.key(name);
        self.flush(|key| *key == wanted);
    }

    /// Makes the wanted changes durable, and the earlier ones that they rest on.
    fn flush(&mut self, wanted: impl Fn(&Key) -> bool) {
        let mut needed: HashSet<Key> = HashSet::new();
        let mut flushed = Vec::new();
        let mut kept = Vec::new();
        for change in self.0.drain(..).rev() {
            if change.keys().any(|key| wanted(&key) || needed.contains(&key)) {
                needed.extend(change.keys());
                flushed.push(change);
            } else {
                kept.push(change);
            }
        }
        flushed.into_iter().rev().for_each(Change::make_durable);
        self.0.extend(kept.into_iter().rev());
    }

    /// A power loss: with a generator every change survives or not, without one none does.
    pub(super) fn lose(&mut self, mut rng: Option<&mut SmallRng>) {
        let mut lost: HashSet<Key> = HashSet::new();
        for change in self.0.drain(..) {
            let survives = rng.as_mut().is_some_and(|rng| rng.random());
            if survives && !change.keys().any(|key| lost.contains(&key)) {
                change.make_durable();
            } else {
                lost.extend(change.keys());
            }
        }
    }
}

/// What the medium holds below `folder`, as a folder where everything is durable; `read` decides what becomes of the
/// contents of a file.
pub(super) fn durable_copy(folder: &Folder, read: &mut impl FnMut(&Content) -> Vec<u8>) -> Arc<Folder> {
    let mut entries = Entries::new();
    for (name, node) in folder.durable.lock().iter() {
        let copy = match node {
            Node::Folder(inner) => Node::Folder(durable_copy(inner, read)),
            Node::File(content) => {
                let content = content.lock();
                Node::File(Arc::new(Mutex::new(Content::new(read(&content), content.modified_ms))))
            }
        };
        entries.insert(name.clone(), copy);
    }
    Arc::new(Folder { entries: Mutex::new(entries.clone()), durable: Mutex::new(entries) })
}
