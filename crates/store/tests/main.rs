//! The contract of storages, against each of them. A storage that runs elsewhere is started for its test, and skipped with
//! a printed line where `cargo xtask test` has not installed it.

mod azure;
mod contract;
mod disk;
mod hdfs;
mod oci;
mod opened;
mod patience;
mod peer;
mod s3;
