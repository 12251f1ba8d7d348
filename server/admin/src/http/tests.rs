use std::net::Ipv4Addr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::{Check, Problem};

/// Pages of a process with one check that passes and, if `broken`, one that does not.
async fn start(broken: bool) -> (SocketAddr, CancellationToken) {
    let mut checks = vec![Check::new("clock", || async { Ok(()) })];
    if broken {
        checks.push(Check::new("disk", || async { Err(Problem::new("it is full", "free space on it")) }));
    }
    let pages = Pages::new(Health::watch(checks), Registry::with_prefix("suf"), || json!({ "role": "test" }));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let (address, shutdown) = (listener.local_addr().expect("bound"), CancellationToken::new());
    tokio::spawn(pages.serve(listener, shutdown.clone()));
    (address, shutdown)
}

/// What `request` is answered, to the end of the connection.
async fn ask(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = Vec::new();
    // A caller that sent more than was read is told so by a reset, after the answer.
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8(answer).expect("text")
}

async fn get(address: SocketAddr, path: &str) -> String {
    ask(address, &format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n")).await
}

/// The page at `path`, once it has `words`.
async fn once(address: SocketAddr, path: &str, words: &str) -> String {
    loop {
        let answer = get(address, path).await;
        if answer.contains(words) {
            return answer;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn each_page_says_what_it_is_for() {
    let (address, _shutdown) = start(false).await;
    assert!(get(address, "/livez").await.starts_with("HTTP/1.1 200"));
    let ready = once(address, "/readyz", "200 OK").await;
    assert!(ready.ends_with("ready\nok: clock\n"), "{ready}");
    let metrics = get(address, "/metrics").await;
    assert!(metrics.contains("suf_ready 1.0\n") && metrics.ends_with("# EOF\n"), "{metrics}");
    assert!(metrics.contains("application/openmetrics-text"), "{metrics}");
    let status = get(address, "/status.json").await;
    let (_, body) = status.split_once("\r\n\r\n").expect("a body");
    let status: Value = serde_json::from_str(body).expect("JSON");
    assert_eq!((&status["role"], &status["ready"]), (&json!("test"), &json!(true)));
    assert!(get(address, "/").await.starts_with("HTTP/1.1 404"));
    let head = ask(address, &format!("HEAD /livez HTTP/1.1\r\nHost: {address}\r\n\r\n")).await;
    assert!(head.starts_with("HTTP/1.1 200") && !head.contains("alive"), "{head}");
}

#[tokio::test]
async fn what_is_not_ready_says_which_check_failed_and_what_to_do() {
    let (address, _shutdown) = start(true).await;
    let answer = once(address, "/readyz", "it is full").await;
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(answer.contains("ok: clock\nfailed: disk: it is full; free space on it\n"), "{answer}");
    assert!(get(address, "/livez").await.starts_with("HTTP/1.1 200"), "it lives all the same");
    let metrics = get(address, "/metrics").await;
    assert!(metrics.contains("suf_check_good{check=\"disk\"} 0.0\n"), "{metrics}");
}

#[tokio::test]
async fn requests_that_are_none_of_a_scraper_are_refused() {
    let (address, _shutdown) = start(false).await;
    // A long line is refused as a URI or as a header, by how much of it has come.
    for (request, statuses) in [
        (
            "POST /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\nabcd".to_owned(),
            &["405"][..],
        ),
        ("GET /metrics HTTP/1.1\r\nHost: evil.example\r\n\r\n".to_owned(), &["403"][..]),
        ("GET /metrics HTTP/1.1\r\nHost: evil.example:7102\r\n\r\n".to_owned(), &["403"][..]),
        ("garbage\r\n\r\n".to_owned(), &["400"][..]),
        (format!("GET /{} HTTP/1.1\r\n", "a".repeat(REQUEST_BYTES)), &["414", "431"][..]),
        (format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(HEADERS + 1)), &["431"][..]),
    ] {
        let answer = ask(address, &request).await;
        let is_refused = statuses.iter().any(|status| answer.starts_with(&format!("HTTP/1.1 {status}")));
        assert!(is_refused, "{request:.60}: {answer}");
    }
    assert!(get(address, "/livez").await.contains("alive"));
}

#[tokio::test]
async fn one_connection_carries_one_request() {
    let (address, _shutdown) = start(false).await;
    let two = format!("GET /livez HTTP/1.1\r\nHost: {address}\r\n\r\n").repeat(2);
    assert_eq!(ask(address, &two).await.matches("HTTP/1.1").count(), 1);
}

#[tokio::test]
async fn connections_beyond_the_limit_are_closed_and_those_within_it_end_in_time() {
    let (address, _shutdown) = start(false).await;
    let mut silent = Vec::new();
    for _ in 0..CONNECTIONS_PER_ADDRESS {
        silent.push(TcpStream::connect(address).await.expect("it listens"));
    }
    let mut beyond = TcpStream::connect(address).await.expect("it listens");
    assert_eq!(beyond.read(&mut [0; 1]).await.expect("closed in order"), 0);
    // Those who say nothing are not kept.
    for mut stream in silent {
        let _ = stream.read_to_end(&mut Vec::new()).await;
    }
    let metrics = once(address, "/metrics", "# EOF").await;
    assert!(!metrics.contains("suf_admin_refused_connections_total 0.0\n"), "{metrics}");
}

#[test]
fn hosts_are_read_right() {
    for (host, own) in [
        ("127.0.0.1:7102", true),
        ("127.0.0.1", true),
        ("[::1]:7102", true),
        ("[::1]", true),
        ("LocalHost:1", true),
        ("localhost.evil.example", false),
        ("evil.example:80", false),
        ("", false),
    ] {
        let header = HeaderValue::from_str(host).expect("a header");
        assert_eq!(names_this_host(Some(&header)), own, "{host}");
    }
    assert!(names_this_host(None));
}
