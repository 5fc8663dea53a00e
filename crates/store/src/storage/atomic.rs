//! Asking a storage whether it keeps the promise that a table's commits stand on.

use super::{Storage, StorageError};
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode, PutOptions};
use rivermere_base::Rng;

impl Storage {
    /// Creates a small object below the path twice and removes it: the second creation must be refused. A service that
    /// takes requests of S3 and ignores `If-None-Match` is found out here, before it loses a commit.
    ///
    /// # Errors
    /// [`StorageError::NotAtomic`] when the second creation succeeds or is not supported, [`StorageError::Unusable`] when
    /// a request fails for another reason: no permission, no bucket, no connection.
    pub async fn prove_create_only(&self, rng: &dyn Rng) -> Result<(), StorageError> {
        // The underscore hides it from readers of tables, and the id from all others who prove the same.
        let location = self.path.clone().join(format!("_create_only_{}", rng.uuid().simple()));
        let outcome = create_twice(self.store.as_ref(), &location).await;
        let removed = self.store.delete(&location).await;
        let unusable = |source| StorageError::Unusable { url: self.to_string(), source };
        match outcome {
            Ok(None) => removed.map_err(unusable),
            Ok(Some(problem)) => Err(StorageError::NotAtomic { url: self.to_string(), problem }),
            Err(error) => Err(unusable(error)),
        }
    }
}

/// The problem, if there is one.
async fn create_twice(store: &dyn ObjectStore, location: &Path) -> Result<Option<String>, Error> {
    let create = || store.put_opts(location, "x".into(), PutOptions::from(PutMode::Create));
    let not_supported = |error: Error| match error {
        Error::NotImplemented { .. } | Error::NotSupported { .. } => Ok(Some(error.to_string())),
        error => Err(error),
    };
    if let Err(error) = create().await {
        return not_supported(error);
    }
    match create().await {
        Ok(_) => Ok(Some("the second one was told that it created the object".to_owned())),
        Err(Error::AlreadyExists { .. }) => Ok(None),
        Err(error) => not_supported(error),
    }
}
