//! A value that the compiler does not look into.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// A shared value whose parts are not asked whether they can go to another thread.
///
/// A plan or a syntax tree has hundreds of types in it. A future that holds one is proven to be `Send` by going through all
/// of them, for every such future again; in the crates that hold many, that was most of the time of compiling them.
pub struct Opaque<T: ?Sized>(Arc<dyn Deref<Target = T> + Send + Sync>);

impl<T: Send + Sync + 'static> Opaque<T> {
    pub fn new(value: T) -> Self {
        Self(Arc::new(Box::new(value)))
    }
}

impl<T: ?Sized> Deref for Opaque<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: ?Sized> Clone for Opaque<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: fmt::Debug + ?Sized> fmt::Debug for Opaque<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
