//! Documents and comments are plain: short sentences, and alternatives that were rejected.

use std::path::{Path, PathBuf};

use super::{files, pages::prose, read, relative, root};

/// Most words of a sentence.
const MOST_WORDS: usize = 25;

#[test]
fn sentences_of_every_document_are_short() {
    let mut count = 0;
    for page in files(root(), &["md"]) {
        count += short(&page, &read(&page));
    }
    assert!(count > 3000, "{count} sentences");
}

#[test]
fn sentences_of_comments_are_short() {
    let mut count = 0;
    for file in files(root(), &["rs", "cu", "cuh", "cpp", "h", "proto"]) {
        for comment in comments(&read(&file)) {
            count += short(&file, &comment);
        }
    }
    assert!(count > 5000, "{count} sentences");
}

/// Counts the sentences of a text in `file`, each of which has to be short.
fn short(file: &Path, text: &str) -> usize {
    let found = sentences(text);
    for sentence in &found {
        let words = sentence.split_whitespace().count();
        assert!(words <= MOST_WORDS, "{}: {words} words: {sentence}", relative(file));
    }
    found.len()
}

/// The comments of a source that stand on lines of their own. Neighbouring lines of one kind are one comment.
fn comments(source: &str) -> Vec<String> {
    let (mut found, mut before) = (Vec::<String>::new(), None);
    for line in source.lines() {
        let line = line.trim_start();
        let mark = ["///", "//!", "//"].into_iter().find(|mark| line.starts_with(mark));
        if let Some(mark) = mark {
            if before != Some(mark) {
                found.push(String::new());
            }
            // There is one by now.
            if let Some(comment) = found.last_mut() {
                comment.push_str(&line[mark.len()..]);
                comment.push('\n');
            }
        }
        before = mark;
    }
    found
}

#[test]
fn comments_are_told_apart() {
    let source = "//! One.\n\n/// Two\n/// three.\n// Four.\nlet five = 5; // six\n    // Seven.\n";
    assert_eq!(comments(source), [" One.\n", " Two\n three.\n", " Four.\n", " Seven.\n"]);
}

#[test]
fn decisions_have_a_context_a_decision_and_rejected_alternatives() {
    let pages = decisions();
    assert!(pages.len() > 40, "{} decisions", pages.len());
    for page in pages {
        let text = read(&page);
        for part in ["Context", "Decision", "Rejected"] {
            let found = [format!("**{part}"), format!("\n## {part}")].iter().any(|mark| text.contains(mark));
            assert!(found, "{} has no part '{part}'", relative(&page));
        }
    }
    // Spelled in parts, so that this file does not contain what it forbids.
    let old = ["Lo", "st:"].concat();
    for page in files(root(), &["md"]) {
        assert!(!read(&page).contains(&old), "{} says {old}", relative(&page));
    }
}

fn decisions() -> Vec<PathBuf> {
    files(&root().join("docs/decisions"), &["md"])
}

/// The sentences of a Markdown page. An item of a list, a cell of a table and a heading end a sentence.
fn sentences(page: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut paragraph = String::new();
    // Blocks of code end a paragraph too: an empty line stands round them.
    for line in prose(page).chain([""]) {
        let line = line.trim();
        let item = ["- ", "* "].iter().find_map(|mark| line.strip_prefix(mark)).or_else(|| numbered(line));
        let is_row = line.starts_with('|');
        if line.is_empty() || is_row || item.is_some() || line.starts_with('#') {
            split(&std::mem::take(&mut paragraph), &mut found);
        }
        if is_row {
            line.trim_matches('|').split(" | ").for_each(|cell| split(cell, &mut found));
        } else if !line.starts_with('#') {
            paragraph.push_str(item.unwrap_or(line));
            paragraph.push(' ');
        }
    }
    found
}

/// What follows the number of a list's item.
fn numbered(line: &str) -> Option<&str> {
    let (number, rest) = line.split_once(". ")?;
    number.parse::<u32>().ok().map(|_| rest)
}

/// Splits after a full stop, a question mark or an exclamation mark with a space after it.
fn split(text: &str, found: &mut Vec<String>) {
    let mut sentence = String::new();
    for word in text.split_whitespace() {
        sentence.push_str(word);
        sentence.push(' ');
        if word.trim_end_matches(['*', '"', ')', '`', '_']).ends_with(['.', '?', '!']) {
            found.push(std::mem::take(&mut sentence));
        }
    }
    found.push(sentence);
    found.retain(|sentence| !sentence.trim().is_empty());
}

#[test]
fn sentences_are_told_apart() {
    let page = "# A title. Not one\n\nOne *two.* Three 1.5 four?\nfive\n- six: seven\n1. eight\n\n| a | b. c |\n| --- | --- |\n";
    let found = sentences(page);
    let words: Vec<_> = found.iter().map(|sentence| sentence.trim_end()).collect();
    let expected =
        ["One *two.*", "Three 1.5 four?", "five", "six: seven", "eight", "a", "b.", "c", "---", "---"];
    assert_eq!(words, expected);
}
