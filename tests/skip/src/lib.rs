//! Every skip of a test goes through [`skip`]: a test that lacks something of the machine says so here, and nowhere else.
//!
//! - The reason is printed to standard error.
//! - With [`LIST`] set to a path, the skip is appended to that file: one line for each, with [`Line`]'s fields.
//! - With [`REQUIRE`] set to names of [`Need`]s, separated by commas, a skip for one of them is a failure. An unknown name in
//!   it is a failure too.

#![forbid(unsafe_code)]

mod need;

use std::{
    env,
    fmt::Display,
    fs::OpenOptions,
    io::{self, Write},
    panic::Location,
    path::Path,
    thread,
};

pub use need::Need;

/// The variable with the names of what the machine must have.
pub const REQUIRE: &str = "SUF_REQUIRE";

/// The variable with the path of the list of skips.
pub const LIST: &str = "SUF_SKIPS";

/// Says that a test, or a part of one, does not run here for want of `need`. The caller returns afterwards.
///
/// # Panics
/// When [`REQUIRE`] has the name of `need` or an unknown name, and when the list cannot be written.
#[track_caller]
pub fn skip(need: Need, reason: impl Display) {
    let line = Line::new(Location::caller(), need, &reason.to_string());
    eprintln!("SKIPPED ({need}): {}", line.reason);
    if let Some(list) = env::var_os(LIST) {
        let list = Path::new(&list);
        line.append(list).unwrap_or_else(|error| panic!("{LIST}: {}: {error}", list.display()));
    }
    assert!(!is_required(need), "{REQUIRE} names {need}, and the test would skip: {}", line.reason);
}

/// Whether [`REQUIRE`] has the name of `need`.
///
/// # Panics
/// When [`REQUIRE`] has an unknown name.
#[must_use]
pub fn is_required(need: Need) -> bool {
    required().unwrap_or_else(|error| panic!("{error}")).contains(&need)
}

/// The needs that [`REQUIRE`] names.
///
/// # Errors
/// Says which name is unknown, and which names are known.
pub fn required() -> Result<Vec<Need>, String> {
    let names = env::var_os(REQUIRE).unwrap_or_default();
    let names = names.to_str().ok_or_else(|| format!("{REQUIRE} is not text"))?;
    let names = names.split(',').map(str::trim).filter(|name| !name.is_empty());
    names.map(|name| Need::from_name(name).map_err(|error| format!("{REQUIRE}: {error}"))).collect()
}

/// One line of the list: the need, the place of the test in its source, the test, and the reason, separated by tabs.
struct Line {
    need: Need,
    place: String,
    test: String,
    reason: String,
}

impl Line {
    fn new(caller: &Location<'_>, need: Need, reason: &str) -> Self {
        // The test harness names threads after tests. A reason of many lines is joined to one.
        let test = thread::current().name().unwrap_or("-").to_owned();
        let reason = reason.split_whitespace().collect::<Vec<_>>().join(" ");
        Self { need, place: format!("{}:{}", caller.file(), caller.line()), test, reason }
    }

    /// Appends with one write, which the lines of other processes cannot cut.
    fn append(&self, list: &Path) -> io::Result<()> {
        let line = format!("{}\t{}\t{}\t{}\n", self.need, self.place, self.test, self.reason);
        OpenOptions::new().create(true).append(true).open(list)?.write_all(line.as_bytes())
    }
}
