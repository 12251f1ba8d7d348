//! Where something stands in a file: line and column of an offset, the key at an offset, the line of a key.

use std::ops::Range;

use toml::de::{DeTable, DeValue};

/// The line of a byte offset, from 1.
#[must_use]
pub fn line_at(text: &str, offset: usize) -> usize {
    before(text, offset).matches('\n').count() + 1
}

/// The column of a byte offset, in characters, from 1.
#[must_use]
pub fn column_at(text: &str, offset: usize) -> usize {
    before(text, offset).rsplit('\n').next().unwrap_or_default().chars().count() + 1
}

fn before(text: &str, offset: usize) -> &str {
    text.get(..offset).unwrap_or(text)
}

/// The line of the key that `path` leads to, from 1; none where there is no such key, or `text` is no TOML.
#[must_use]
pub fn line_of(text: &str, path: &[&str]) -> Option<usize> {
    let document = DeTable::parse(text).ok()?;
    let (last, parents) = path.split_last()?;
    let mut table = document.get_ref();
    for parent in parents {
        let (_, value) = table.iter().find(|(key, _)| key.get_ref() == parent)?;
        let DeValue::Table(inner) = value.get_ref() else { return None };
        table = inner;
    }
    let (key, _) = table.iter().find(|(key, _)| key.get_ref() == last)?;
    Some(line_at(text, key.span().start))
}

/// The keys that lead to what stands at `place`, with dots between them; empty for the document itself, and for no place.
pub(crate) fn path_to(table: &DeTable<'_>, place: &Range<usize>) -> String {
    if place.is_empty() {
        return String::new();
    }
    let holds = |span: Range<usize>| span.start <= place.start && place.end <= span.end;
    for (key, value) in table {
        let name: &str = key.get_ref();
        if holds(key.span()) {
            return name.to_owned();
        }
        // The span of a table with a head is its head, so that what is in it has to be looked at first.
        let inner = match value.get_ref() {
            DeValue::Table(inner) => path_to(inner, place),
            DeValue::Array(items) => items
                .iter()
                .filter_map(|item| item.get_ref().as_table())
                .map(|inner| path_to(inner, place))
                .find(|path| !path.is_empty())
                .unwrap_or_default(),
            _ => String::new(),
        };
        if !inner.is_empty() {
            return format!("{name}.{inner}");
        }
        let items = value.get_ref().as_array().into_iter().flat_map(|items| items.iter());
        if holds(value.span()) || items.into_iter().any(|item| holds(item.span())) {
            return name.to_owned();
        }
    }
    String::new()
}
