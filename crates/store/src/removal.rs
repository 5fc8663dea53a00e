//! Removing many objects of a store that has no request for that.

use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::Result;
use object_store::path::Path;

/// Removals that run at a time in one [`delete_stream`](object_store::ObjectStore::delete_stream).
const PARALLEL: usize = 8;

/// Removes one after the other, some at a time; outcomes are in the order of the paths.
pub(crate) fn each<S, F>(
    store: &S,
    locations: BoxStream<'static, Result<Path>>,
    remove: impl Fn(S, Path) -> F + Copy + Send + 'static,
) -> BoxStream<'static, Result<Path>>
where
    S: Clone + Send + 'static,
    F: Future<Output = Result<Path>> + Send + 'static,
{
    let store = store.clone();
    let removed = locations.map(move |location| {
        let store = store.clone();
        async move { remove(store, location?).await }
    });
    removed.buffered(PARALLEL).boxed()
}
