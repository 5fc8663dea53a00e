//! Reading: small objects at once, large ones in chunks.

use super::blocking;
use super::location::{Root, failed, generic, meta};
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use object_store::path::Path;
use object_store::{Attributes, Error, GetOptions, GetRange, GetResult, GetResultPayload, ObjectMeta, Result};
use rivermere_base::{DiskFile, OpenMode};
use std::ops::Range;
use std::sync::Arc;

/// Bytes read at a time.
const CHUNK_BYTES: u64 = 1 << 20;

/// Tries to see one version of a file that is being replaced.
const MAX_TRIES: u32 = 10;

/// An object's file, and what the store tells about it.
pub(super) fn open(root: &Root, location: &Path) -> Result<(Box<dyn DiskFile>, ObjectMeta)> {
    let path = root.file(location)?;
    for _ in 0..MAX_TRIES {
        // The tag must be that of the bytes: the same before and after the file was opened.
        let before = root.disk.metadata(&path).map_err(failed(location))?;
        if before.is_dir {
            let source = format!("{} is a folder", path.display()).into();
            return Err(Error::NotFound { path: location.to_string(), source });
        }
        let file = root.disk.open(&path, OpenMode::Read).map_err(failed(location))?;
        if root.disk.metadata(&path).map_err(failed(location))? == before {
            return Ok((file, meta(location.clone(), &before)));
        }
    }
    Err(generic(format!("'{location}' is replaced again and again")))
}

pub(super) fn get(root: &Root, location: Path, options: &GetOptions) -> Result<GetResult> {
    let (file, meta) = open(root, &location)?;
    options.check_preconditions(&meta)?;
    let range = match &options.range {
        Some(range) => range.as_range(meta.size).map_err(generic)?,
        None => 0..meta.size,
    };
    let bytes = if options.head { stream::empty().boxed() } else { chunks(file.into(), range.clone())? };
    Ok(GetResult { payload: GetResultPayload::Stream(bytes), meta, range, attributes: Attributes::default() })
}

pub(super) fn get_ranges(root: &Root, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
    let (file, meta) = open(root, location)?;
    let read = |range: &Range<u64>| {
        read(file.as_ref(), &GetRange::Bounded(range.clone()).as_range(meta.size).map_err(generic)?)
    };
    ranges.iter().map(read).collect()
}

/// The first chunk is read here, on the blocking thread that opened the file: most objects have no second one.
fn chunks(file: Arc<dyn DiskFile>, range: Range<u64>) -> Result<BoxStream<'static, Result<Bytes>>> {
    if range.is_empty() {
        return Ok(stream::empty().boxed());
    }
    let middle = range.end.min(range.start + CHUNK_BYTES);
    let first = read(file.as_ref(), &(range.start..middle))?;
    let rest = stream::try_unfold((file, middle), move |(file, start)| async move {
        if start >= range.end {
            return Ok(None);
        }
        let end = range.end.min(start + CHUNK_BYTES);
        let reader = file.clone();
        let bytes = blocking(move || read(reader.as_ref(), &(start..end))).await?;
        Ok(Some((bytes, (file, end))))
    });
    Ok(stream::once(async { Ok(first) }).chain(rest).boxed())
}

fn read(file: &dyn DiskFile, range: &Range<u64>) -> Result<Bytes> {
    let length = usize::try_from(range.end.saturating_sub(range.start)).map_err(generic)?;
    let mut buffer = vec![0; length];
    file.read_exact_at(&mut buffer, range.start).map_err(generic)?;
    Ok(buffer.into())
}
