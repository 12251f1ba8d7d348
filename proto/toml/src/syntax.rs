//! What is said of a text that is no TOML. The library's message only tells which rule was broken.

use toml::de::Error;

/// Longest part of a line that a message quotes, in characters.
const MOST_QUOTED: usize = 30;

/// Where, and what is wrong.
pub(crate) fn mistake(text: &str, error: &Error) -> (usize, String) {
    let span = error.span().unwrap_or(0..0);
    let start = boundary(text, span.start);
    let found = quoted(text, start, boundary(text, span.end).max(start));
    let problem = match error.message().split(", expected").next().unwrap_or_default() {
        "duplicate key" => format!("the key {found} stands here a second time: keep one"),
        head if head.contains("unclosed") && head.contains("table") && !head.contains("inline") => {
            "the head of a table is its name in brackets, such as [suf]".into()
        }
        table
            if table.contains("inline table")
                || table.contains("comma between key")
                || table.starts_with("extra assignment") =>
        {
            format!("at {found}: a table in one line is {{ KEY = VALUE, KEY = VALUE }}")
        }
        pair if pair.contains("with no value")
            || pair.contains("key-value pair")
            || pair.contains("assignment") =>
        {
            format!("there is no `=` after {found}: write KEY = VALUE")
        }
        value if value.starts_with("missing value") => {
            format!("there is no value at {found}: write KEY = VALUE")
        }
        "string values must be quoted" => format!(
            "{found} is no value: text stands in quotes, a number has digits alone, and a list has commas"
        ),
        list if list.contains("array") => {
            format!(
                "at {found}: a list is written in brackets, with commas between its values, such as [6, 6]"
            )
        }
        string if string.contains("string") || string.contains("quote") || string.contains("escape") => {
            format!(
                "at {found}: text stands in quotes, all in one line, and a quote or a backslash within it has a backslash before it"
            )
        }
        number
            if ["number", "integer", "float", "digit", "zero", "sign", "radix", "`_`"]
                .iter()
                .any(|word| number.contains(word)) =>
        {
            format!("{found} is no number: write one such as 12, -0.5 or 1e6")
        }
        "unexpected key or value" => {
            format!("{found} stands after a value: write it in a line of its own, or # before a remark")
        }
        _ => format!(
            "{found} cannot stand here: write one KEY = VALUE to a line, text in quotes, lists in brackets"
        ),
    };
    (start, problem)
}

/// The boundary of a character at or before `offset`.
fn boundary(text: &str, offset: usize) -> usize {
    text.floor_char_boundary(offset)
}

/// What stands from `start` to `end`, or to the end of the line where that is nothing, in quotes.
fn quoted(text: &str, start: usize, end: usize) -> String {
    let line = |text: &str| text.lines().next().unwrap_or_default().trim().to_owned();
    let part = Some(line(&text[start..end])).filter(|part| !part.is_empty());
    let part = part.unwrap_or_else(|| line(&text[start..]));
    let shown: String = part.chars().filter(|c| !c.is_control()).take(MOST_QUOTED).collect();
    match shown.as_str() {
        "" => "the end of the line".into(),
        shown if part.chars().count() > MOST_QUOTED => format!("`{shown}...`"),
        shown => format!("`{shown}`"),
    }
}
