//! What is said of a document whose keys and values are not those that are wanted. The library's message is read, and never
//! shown; what a type of ours says of its own value is shown as it is.

use toml::de::{DeTable, Error};

use crate::place::path_to;

/// Longest text that a message quotes, in characters.
const MOST_QUOTED: usize = 60;

/// Where, and what is wrong.
pub(crate) fn mistake(table: &DeTable<'_>, error: &Error) -> (usize, String) {
    let span = error.span().unwrap_or(0..0);
    let path = path_to(table, &span);
    let message = error.message();
    // The message itself names these keys; the path is that of the key, or of its table.
    if let Some(rest) = message.strip_prefix("unknown field ") {
        let (key, known) = rest.split_once(", ").unwrap_or((rest, ""));
        let of = within(path.rsplit_once('.').map_or("", |(table, _)| table));
        return (span.start, format!("there is no key {key}{of}; the keys are {}", names(known)));
    }
    if let Some(key) = message.strip_prefix("missing field ") {
        return (span.start, format!("the key {key} is missing{}: add it", within(&path)));
    }
    let problem = in_words(message);
    let named = path.rsplit('.').next().is_some_and(|key| problem.starts_with(key));
    if path.is_empty() || named { (span.start, problem) } else { (span.start, format!("{path}: {problem}")) }
}

fn within(table: &str) -> String {
    if table.is_empty() { String::new() } else { format!(" in [{table}]") }
}

/// What the library knows, such as "expected one of `a`, `b`".
fn names(expected: &str) -> &str {
    let names = expected.trim_start_matches("expected ").trim_start_matches("one of ");
    if names.starts_with('`') { names } else { "none" }
}

fn in_words(message: &str) -> String {
    if let Some((value, known)) =
        message.strip_prefix("unknown variant ").and_then(|rest| rest.split_once(", "))
    {
        return format!("{value} is none of {}", names(known));
    }
    if let Some(rest) =
        message.strip_prefix("invalid type: ").or_else(|| message.strip_prefix("invalid value: "))
    {
        let (value, expected) = rest.split_once(", expected ").unwrap_or((rest, ""));
        return format!("this is {}; it has to be {}", found(value), wanted(expected));
    }
    if let Some((length, expected)) =
        message.strip_prefix("invalid length ").and_then(|rest| rest.split_once(", expected "))
    {
        return format!("this list has {length} values; it has to be {}", wanted(expected));
    }
    if message.contains("number overflowed") {
        return "this is no number that a key takes: write one such as 12 or -0.5".into();
    }
    if message.starts_with("wanted ") || message.starts_with("expected ") {
        return "this is no value of the key: write one of those that it takes".into();
    }
    message.to_owned()
}

/// A value as the library describes it.
fn found(value: &str) -> String {
    match value.split_once(' ').unwrap_or((value, "")) {
        ("map", _) => "a table".into(),
        ("sequence", _) => "a list".into(),
        ("integer" | "boolean", value) => value.split(" as ").next().unwrap_or_default().into(),
        ("floating", number) => number.trim_start_matches("point ").into(),
        ("string", text) if text.chars().count() > MOST_QUOTED => {
            format!("the text {}...\"", text.chars().take(MOST_QUOTED).collect::<String>())
        }
        ("string", text) => format!("the text {text}"),
        _ => "something else".into(),
    }
}

/// What is expected as serde says it.
fn wanted(expected: &str) -> String {
    let range = |least: i128, most: i128| format!("a whole number from {least} to {most}");
    match expected {
        "u8" => range(0, u8::MAX.into()),
        "u16" => range(0, u16::MAX.into()),
        "u32" => range(0, u32::MAX.into()),
        "i8" => range(i8::MIN.into(), i8::MAX.into()),
        "i16" => range(i16::MIN.into(), i16::MAX.into()),
        "i32" => range(i32::MIN.into(), i32::MAX.into()),
        "i64" | "isize" => "a whole number".into(),
        "u64" | "usize" => "a whole number, 0 or more".into(),
        "f32" | "f64" => "a number".into(),
        "a boolean" => "true or false".into(),
        "a string" | "path string" | "a borrowed string" | "string or table" => "text in quotes".into(),
        "a sequence" => "a list in brackets".into(),
        "a map" => "a table".into(),
        table if table.starts_with("struct ") => "a table".into(),
        ours => ours.into(),
    }
}
