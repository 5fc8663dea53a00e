//! Errors of HDFS as errors of a store.

use hdfs_native::HdfsError;
use object_store::Error;
use object_store::path::Path;

/// The name of this store in errors.
const STORE: &str = "HDFS";

pub(super) fn generic(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::Generic { store: STORE, source: source.into() }
}

/// An error about an object.
pub(super) fn about(location: &Path, error: HdfsError) -> Error {
    let path = location.to_string();
    match &error {
        _ if is_missing(&error) => Error::NotFound { path, source: error.into() },
        HdfsError::AlreadyExists(_) => Error::AlreadyExists { path, source: error.into() },
        HdfsError::RPCError(class, _) if ends_with(class, "AccessControlException") => {
            Error::PermissionDenied { path, source: error.into() }
        }
        HdfsError::SASLError(_) | HdfsError::GSSAPIError(..) | HdfsError::NoSASLMechanism => {
            Error::Unauthenticated { path, source: error.into() }
        }
        _ => generic(error),
    }
}

/// Whether there is nothing at a path: a file where a folder should be is nothing either.
pub(super) fn is_missing(error: &HdfsError) -> bool {
    match error {
        HdfsError::FileNotFound(_) => true,
        HdfsError::RPCError(class, _) => {
            ends_with(class, "FileNotFoundException") || ends_with(class, "ParentNotDirectoryException")
        }
        _ => false,
    }
}

/// Whether the same request may succeed later.
pub(super) fn may_pass(error: &HdfsError) -> bool {
    match error {
        HdfsError::IOError(_) | HdfsError::DataTransferError(_) | HdfsError::BlocksNotFound(_) => true,
        HdfsError::RPCError(class, _) | HdfsError::FatalRPCError(class, _) => {
            ["SafeModeException", "RetriableException", "StandbyException", "NotReplicatedYetException"]
                .iter()
                .any(|name| ends_with(class, name))
        }
        _ => false,
    }
}

fn ends_with(class: &str, name: &str) -> bool {
    class.rsplit(['.', '$']).next() == Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_of_java_become_kinds_of_errors() {
        let rpc = |class: &str| HdfsError::RPCError(class.to_owned(), "text".to_owned());
        let told = |error| about(&Path::from("a"), error);
        assert!(matches!(told(rpc("java.io.FileNotFoundException")), Error::NotFound { .. }));
        let denied = told(rpc("org.apache.hadoop.security.AccessControlException"));
        assert!(matches!(denied, Error::PermissionDenied { .. }));
        assert!(matches!(told(HdfsError::AlreadyExists("a".into())), Error::AlreadyExists { .. }));
        assert!(matches!(told(HdfsError::NoSASLMechanism), Error::Unauthenticated { .. }));
        assert!(may_pass(&rpc("org.apache.hadoop.hdfs.server.namenode.SafeModeException")));
        assert!(!may_pass(&rpc("org.apache.hadoop.hdfs.protocol.QuotaExceededException")));
    }
}
