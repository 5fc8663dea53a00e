use super::*;
use rivermere_base::OpenMode;
use rivermere_sim::SimDisk;
use std::path::Path;

const OFF: (&str, &str) = ("AWS_EC2_METADATA_DISABLED", "true");

fn disk_with(files: &[(&str, &str)]) -> SimDisk {
    let disk = SimDisk::new(1);
    for (path, text) in files {
        let path = Path::new(path);
        disk.create_dir_all(path.parent().unwrap()).unwrap();
        disk.open(path, OpenMode::CreateNew).unwrap().write_all_at(text.as_bytes(), 0).unwrap();
    }
    disk
}

fn opened(url: &str, options: &[(&str, &str)], disk: &SimDisk, variables: &[(&str, &str)]) -> Result<(), StorageError> {
    let options = StorageOptions::from_iter(options.iter().copied());
    let environment = Environment::from_iter(variables.iter().copied());
    open(&Address::parse(url)?, &options, Limits::of(&options)?, disk, &environment).map(drop)
}

#[test]
fn without_any_credentials_the_places_looked_at_are_named() {
    let error = opened("s3://b/x", &[], &disk_with(&[]), &[OFF]).unwrap_err().to_string();
    assert!(error.starts_with("RM-1115") && error.contains("AWS_ACCESS_KEY_ID"), "{error}");
}

#[test]
fn each_link_of_the_chain_is_enough() {
    let none = disk_with(&[]);
    let keys = [("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "b"), OFF];
    opened("s3://b", &[], &none, &keys).unwrap();
    opened("s3://b", &[("access_key_id", "a"), ("secret_access_key", "b")], &none, &[OFF]).unwrap();
    opened("s3://b", &[("anonymous", "true")], &none, &[OFF]).unwrap();
    let token = [("AWS_WEB_IDENTITY_TOKEN_FILE", "/token"), ("AWS_ROLE_ARN", "arn:aws:iam::1:role/r"), OFF];
    opened("s3://b", &[], &none, &token).unwrap();
    opened("s3://b", &[], &none, &[("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/v2/x"), OFF]).unwrap();
    let default =
        disk_with(&[("/h/.aws/credentials", "[default]\naws_access_key_id = a\naws_secret_access_key = b\n")]);
    opened("s3://b", &[], &default, &[("HOME", "/h"), OFF]).unwrap();
}

#[test]
fn a_profile_is_found_in_both_files_and_by_both_ways_of_asking() {
    let keys = "aws_access_key_id=a\naws_secret_access_key=b\n";
    let disk = disk_with(&[
        ("/h/.aws/credentials", &format!("[one]\n{keys}")),
        ("/h/.aws/config", &format!("[profile two]\n{keys}region = eu-west-1\n")),
        ("/elsewhere", &format!("[three]\n{keys}")),
    ]);
    let home = ("HOME", "/h");
    opened("s3://b", &[("profile", "one")], &disk, &[home, OFF]).unwrap();
    opened("s3://b", &[], &disk, &[home, ("AWS_PROFILE", "two"), OFF]).unwrap();
    let elsewhere = ("AWS_SHARED_CREDENTIALS_FILE", "/elsewhere");
    opened("s3://b", &[("profile", "three")], &disk, &[elsewhere, OFF]).unwrap();
    let error = opened("s3://b", &[("profile", "four")], &disk, &[home, OFF]).unwrap_err().to_string();
    assert!(error.contains("no profile 'four'"), "{error}");
}

#[test]
fn a_profile_that_cannot_be_followed_is_refused_by_the_name_of_what_it_uses() {
    let disk = disk_with(&[("/h/.aws/config", "[default]\nsso_session = s\n[profile half]\naws_access_key_id = a\n")]);
    let error = opened("s3://b", &[], &disk, &[("HOME", "/h"), OFF]).unwrap_err().to_string();
    assert!(error.contains("sso_session") && error.contains("export-credentials"), "{error}");
    let error = opened("s3://b", &[("profile", "half")], &disk, &[("HOME", "/h"), OFF]).unwrap_err().to_string();
    assert!(error.contains("without the other"), "{error}");
}

#[test]
fn half_a_key_is_refused() {
    let none = disk_with(&[]);
    let error = opened("s3://b", &[("access_key_id", "a")], &none, &[OFF]).unwrap_err().to_string();
    assert!(error.starts_with("RM-1115") && error.contains("without the other"), "{error}");
    let error = opened("s3://b", &[], &none, &[("AWS_SECRET_ACCESS_KEY", "hunter2"), OFF]).unwrap_err().to_string();
    assert!(error.contains("AWS_ACCESS_KEY_ID") && !error.contains("hunter2"), "{error}");
}

#[test]
fn plain_http_is_for_this_machine_unless_asked_for() {
    let none = disk_with(&[]);
    let with = |endpoint, more: &[(&'static str, &'static str)]| {
        let mut options = vec![("anonymous", "true"), ("endpoint", endpoint)];
        options.extend(more);
        opened("s3://b", &options, &none, &[OFF])
    };
    for good in ["http://127.0.0.1:9000", "http://localhost:9000/", "http://[::1]:9000", "https://s3.example.com"] {
        with(good, &[]).unwrap();
    }
    let error = with("http://s3.example.com", &[]).unwrap_err().to_string();
    assert!(error.starts_with("RM-1114"), "{error}");
    with("http://s3.example.com", &[("allow_http", "true")]).unwrap();
    for bad in ["s3.example.com", "ftp://x", "http://", "http://u:hunter2@localhost"] {
        let error = with(bad, &[]).unwrap_err().to_string();
        assert!(error.starts_with("RM-1113") && !error.contains("hunter2"), "{error}");
    }
}

#[test]
fn encryption_is_passed_on_and_checked() {
    let none = disk_with(&[]);
    let with = |kind| opened("s3://b", &[("anonymous", "true"), ("server_side_encryption", kind)], &none, &[OFF]);
    with("AES256").unwrap();
    with("aws:kms").unwrap();
    assert!(with("rot13").unwrap_err().to_string().starts_with("RM-1116"));
}
