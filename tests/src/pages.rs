//! The pages of a daemon's admin address, as an operator's programs read them.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use crate::processes::Hosts;

/// A page: its status, and its text without headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The status, such as 200.
    pub status: u16,
    /// The text.
    pub text: String,
}

/// The page at `path` of the program that listens on `address`.
///
/// # Errors
/// When nothing listens there, or the answer is none of HTTP.
pub fn fetch(address: &str, path: &str) -> io::Result<Page> {
    let mut stream = TcpStream::connect(address)?;
    // In version 1.0 the end of the answer is that of the connection.
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let page = answer.split_once("\r\n\r\n").and_then(|(head, text)| {
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some(Page { status, text: text.to_owned() })
    });
    page.ok_or_else(|| io::Error::other(format!("no HTTP: {answer:?}")))
}

/// The page at `path` of the daemon `name`, which has an admin address.
///
/// # Panics
/// When there is no answer of HTTP.
#[must_use]
pub fn page(hosts: &Hosts, name: &str, path: &str) -> Page {
    fetch(&hosts.admin(name), path).unwrap_or_else(|error| panic!("{name}{path}: {error}"))
}

/// Waits until the page at `path` of the daemon `name` is as `wanted`; how long that took.
///
/// # Panics
/// When the daemon has died, or it is not so after `limit`.
pub fn until(
    hosts: &mut Hosts,
    name: &str,
    path: &str,
    limit: Duration,
    wanted: impl Fn(&Page) -> bool,
) -> Duration {
    let begun = Instant::now();
    loop {
        let page = page(hosts, name, path);
        if wanted(&page) {
            return begun.elapsed();
        }
        assert!(hosts.is_alive(name), "{name} died: {}", hosts.log(name));
        assert!(begun.elapsed() < limit, "{name}{path} is still, after {limit:?}: {page:?}");
        std::thread::yield_now();
    }
}
