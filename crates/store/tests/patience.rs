//! What storages over a network have in common, against a service that answers as the test says.

use crate::opened::open;
use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use futures::future::join_all;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use rivermere_store::Storage;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

const BUSY: &str = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n";
const DONE: &str = "HTTP/1.1 200 OK\r\netag: \"1\"\r\nlast-modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
                    content-length: 4\r\n\r\nbody";

/// Answers the n-th request, from 0, with what `answer` says; a thread for each connection.
fn service(answer: impl Fn(usize) -> String + Send + Sync + 'static) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (asked, answer) = (Arc::new(AtomicUsize::new(0)), Arc::new(answer));
    let count = asked.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let (count, answer) = (count.clone(), answer.clone());
            std::thread::spawn(move || {
                while read_request(&stream).is_some() {
                    let text = answer(count.fetch_add(1, Ordering::SeqCst));
                    if (&stream).write_all(text.as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    (url, asked)
}

/// Head and body of one request; none at the end of the connection.
fn read_request(stream: &TcpStream) -> Option<()> {
    let mut reader = BufReader::with_capacity(1, stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().ok()?;
        }
        if line == "\r\n" {
            let mut body = vec![0; length];
            return reader.read_exact(&mut body).ok();
        }
    }
}

/// Each storage that speaks HTTP, at an endpoint.
fn storages(endpoint: &str, more: &[(&str, &str)]) -> Vec<Storage> {
    let pair = KeyPair::generate(KeySize::Rsa2048).unwrap();
    let der = AsDer::<Pkcs8V1Der>::as_der(&pair).unwrap();
    let pem =
        format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----", BASE64_STANDARD.encode(der.as_ref()));
    let oci = [("tenancy", "t"), ("user", "u"), ("fingerprint", "f"), ("key_content", pem.as_str())];
    let anonymous = [("anonymous", "true")];
    let opened = |url: &str, own: &[(&str, &str)]| {
        let options: Vec<_> = own.iter().chain(more).copied().chain([("endpoint", endpoint)]).collect();
        open(url, &options).unwrap()
    };
    vec![opened("s3://b/x", &anonymous), opened("az://c@a/x", &anonymous), opened("oci://b@ns/x", &oci)]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_busy_for_a_while_is_asked_again() {
    let (url, asked) = service(|n| if n % 4 < 3 { BUSY } else { DONE }.to_owned());
    for (storage, before) in storages(&url, &[]).iter().zip([0, 8, 16]) {
        assert_eq!(asked.load(Ordering::SeqCst), before);
        let found = storage.store().get(&Path::from("a")).await.unwrap();
        assert_eq!(found.bytes().await.unwrap(), "body", "{storage}");
        storage.store().put(&Path::from("a"), "body".into()).await.unwrap_or_else(|error| panic!("{storage}: {error}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn patience_ends_with_the_deadline_and_with_the_number_of_attempts() {
    let (url, asked) = service(|_| BUSY.to_owned());
    for storage in storages(&url, &[("retry_deadline_s", "1"), ("retries", "1000")]) {
        let start = Instant::now();
        storage.store().get(&Path::from("a")).await.unwrap_err();
        assert!(start.elapsed() < Duration::from_secs(20), "{storage} took {:?}", start.elapsed());
    }
    let before = asked.load(Ordering::SeqCst);
    for storage in storages(&url, &[("retries", "2")]) {
        storage.store().get(&Path::from("a")).await.unwrap_err();
    }
    assert_eq!(asked.load(Ordering::SeqCst) - before, 9);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_does_not_answer_is_given_up() {
    // Accepts, and never reads.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    for storage in storages(&url, &[("request_timeout_s", "1"), ("retries", "0")]) {
        let start = Instant::now();
        storage.store().get(&Path::from("a")).await.unwrap_err();
        assert!(start.elapsed() < Duration::from_secs(20), "{storage} took {:?}", start.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_requests_run_at_a_time_than_was_said() {
    // Requests are let go in pairs: with fewer than two at a time none would ever end.
    let (pair, running, most) = (Barrier::new(2), AtomicUsize::new(0), Arc::new(AtomicUsize::new(0)));
    let seen = most.clone();
    let (url, _) = service(move |_| {
        seen.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        pair.wait();
        running.fetch_sub(1, Ordering::SeqCst);
        DONE.to_owned()
    });
    for storage in storages(&url, &[("max_connections", "2")]) {
        let store = storage.store();
        let get = async || store.get(&Path::from("a")).await.unwrap().bytes().await.unwrap();
        join_all((0..16).map(|_| get())).await;
        assert_eq!(most.swap(0, Ordering::SeqCst), 2, "{storage}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_that_lie_close_together_are_one_request() {
    let (url, asked) = service(|_| {
        "HTTP/1.1 206 Partial Content\r\netag: \"1\"\r\nlast-modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
         content-range: bytes 0-9/1000\r\ncontent-length: 10\r\n\r\n0123456789"
            .to_owned()
    });
    for storage in storages(&url, &[]) {
        let before = asked.load(Ordering::SeqCst);
        let found = storage.store().get_ranges(&Path::from("a"), &[0..2, 4..6, 8..10]).await.unwrap();
        assert_eq!(found, ["01", "45", "89"], "{storage}");
        assert_eq!(asked.load(Ordering::SeqCst) - before, 1, "{storage}");
    }
}
