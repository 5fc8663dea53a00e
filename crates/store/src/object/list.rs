//! Listing, in the order of the paths.

use super::blocking;
use super::location::{Root, generic, is_missing, is_staged, meta};
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ListResult, ObjectMeta, Result};
use rivermere_base::DiskMetadata;
use std::collections::VecDeque;
use std::sync::Arc;

/// What a folder holds: objects and folders.
enum Entry {
    Object(ObjectMeta),
    Folder(Path),
}

impl Entry {
    /// What the entry's objects are sorted by: those in a folder begin with its name and a slash.
    fn order(&self) -> (&str, &str) {
        match self {
            Self::Object(object) => (object.location.as_ref(), ""),
            Self::Folder(location) => (location.as_ref(), "/"),
        }
    }
}

/// Every object below `prefix`, read folder by folder as the stream is consumed.
pub(super) fn all(root: Arc<Root>, prefix: Path) -> BoxStream<'static, Result<ObjectMeta>> {
    let start = VecDeque::from([Entry::Folder(prefix)]);
    stream::try_unfold(start, move |waiting| next_objects(root.clone(), waiting))
        .map_ok(|objects| stream::iter(objects.into_iter().map(Ok)))
        .try_flatten()
        .boxed()
}

/// All objects up to the next folder, or the contents of that folder put in its place.
async fn next_objects(
    root: Arc<Root>,
    mut waiting: VecDeque<Entry>,
) -> Result<Option<(Vec<ObjectMeta>, VecDeque<Entry>)>> {
    let mut objects = Vec::new();
    while let Some(entry) = waiting.pop_front() {
        match entry {
            Entry::Object(object) => objects.push(object),
            Entry::Folder(folder) if objects.is_empty() => {
                let inside = blocking(move || entries(&root, &folder)).await?;
                inside.into_iter().rev().for_each(|entry| waiting.push_front(entry));
                return Ok(Some((objects, waiting)));
            }
            folder => {
                waiting.push_front(folder);
                break;
            }
        }
    }
    Ok((!objects.is_empty()).then_some((objects, waiting)))
}

/// The objects and folders right below `prefix`.
pub(super) fn one_level(root: &Root, prefix: &Path) -> Result<ListResult> {
    let mut found = ListResult { common_prefixes: Vec::new(), objects: Vec::new() };
    for entry in entries(root, prefix)? {
        match entry {
            Entry::Object(object) => found.objects.push(object),
            Entry::Folder(location) => found.common_prefixes.push(location),
        }
    }
    Ok(found)
}

fn entries(root: &Root, folder: &Path) -> Result<Vec<Entry>> {
    let listed = match root.disk.read_dir(&root.below(folder)) {
        Ok(listed) => listed,
        Err(error) if is_missing(&error) => return Ok(Vec::new()),
        Err(error) => return Err(generic(error)),
    };
    let mut entries = listed.iter().filter_map(|found| entry(folder, found).transpose()).collect::<Result<Vec<_>>>()?;
    entries.sort_by(|a, b| {
        let ((a, a_end), (b, b_end)) = (a.order(), b.order());
        a.bytes().chain(a_end.bytes()).cmp(b.bytes().chain(b_end.bytes()))
    });
    Ok(entries)
}

fn entry(folder: &Path, found: &DiskMetadata) -> Result<Option<Entry>> {
    let name = found.path.file_name().unwrap_or_default();
    let name = name.to_str().ok_or_else(|| generic(format!("{} is not UTF-8", found.path.display())))?;
    if is_staged(name) && !found.is_dir {
        return Ok(None);
    }
    // As it stands: joining it as a path part would encode what the file's name already has encoded.
    let location = if folder.is_root() { Path::parse(name)? } else { Path::parse(format!("{folder}/{name}"))? };
    Ok(Some(if found.is_dir { Entry::Folder(location) } else { Entry::Object(meta(location, found)) }))
}
