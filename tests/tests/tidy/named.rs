//! Files, commands and options that documents name are there.

use clap::Command;

use super::{files, read, relative, root};

/// Folders that paths in documents begin with.
const FOLDERS: [&str; 9] =
    ["proto/", "server/", "dealer/", "kernels/", "deploy/", "config/", "tests/", "docs/", ".ci/"];

#[test]
fn files_that_documents_name_in_code_exist() {
    let mut count = 0;
    for page in files(root(), &["md"]) {
        for code in inline_code(&read(&page)) {
            let path = code.split_whitespace().next().unwrap_or_default();
            let path = path.split(['#', ':']).next().unwrap_or_default();
            let is_path = FOLDERS.iter().any(|folder| path.starts_with(folder));
            let is_pattern = path.contains(['*', '{', '<']) || path.contains("NAME");
            if !is_path || is_pattern {
                continue;
            }
            assert!(root().join(path).exists(), "{} names {path}, which is not there", relative(&page));
            count += 1;
        }
    }
    assert!(count > 50, "{count} files are named");
}

#[test]
fn commands_and_options_that_documents_name_exist() {
    let suf = suf_cli::command();
    let mut count = 0;
    for page in files(root(), &["md"]) {
        let text = read(&page);
        let lines = block_lines(&text);
        for command in lines.into_iter().chain(inline_code(&text)) {
            let Some(rest) = command
                .split("suf -- ")
                .last()
                .filter(|_| command.contains("suf -- "))
                .or_else(|| command.trim_start_matches("$ ").strip_prefix("suf "))
            else {
                continue;
            };
            let wrong = unknown(&suf, rest);
            assert!(wrong.is_none(), "{}: {wrong:?} is unknown in: {command}", relative(&page));
            count += 1;
        }
    }
    assert!(count > 50, "{count} commands are named");
}

/// The first word of a command line after `suf` that is no command or option of it.
fn unknown(suf: &Command, line: &str) -> Option<String> {
    // A comment, a pipe or another command ends it; so does a program that it starts.
    let words =
        line.split_whitespace().take_while(|word| !["#", "|", "&&", "&", ">", "--", ";"].contains(word));
    let (mut command, mut first) = (suf, true);
    for word in words {
        let word = word.trim_matches(['`', ',', '.', '\'', '"', '(', ')']);
        if let Some(option) = word.strip_prefix("--") {
            let option = option.split('=').next().unwrap_or_default();
            let known = ["help", "version"].contains(&option)
                || command.get_arguments().any(|argument| {
                    argument.get_long() == Some(option)
                        || argument.get_all_aliases().is_some_and(|names| names.contains(&option))
                })
                || suf.get_arguments().any(|argument| argument.get_long() == Some(option));
            if !known {
                return Some(word.to_owned());
            }
        } else if let Some(next) = command.find_subcommand(word) {
            command = next;
        } else if first && word.chars().all(|c| c.is_ascii_lowercase()) {
            return Some(word.to_owned());
        }
        first = false;
    }
    None
}

#[test]
fn unknown_commands_and_options_are_noticed() {
    let suf = suf_cli::command();
    for (line, expected) in [
        ("bench --repeats 3 # --none", None),
        ("bench kernel --samples 63", None),
        ("bench --reports", Some("--reports")),
        ("bank", Some("bank")),
        ("party --config x.toml --check", None),
        ("lab wan -- sh --anything", None),
    ] {
        assert_eq!(unknown(&suf, line).as_deref(), expected, "{line}");
    }
}

/// What stands between backquotes, outside blocks of code.
fn inline_code(page: &str) -> Vec<String> {
    let text: Vec<&str> = super::pages::prose(page).collect();
    let text = text.join("\n");
    // A quotation within one paragraph, maybe over two lines.
    let pieces = text.split("\n\n").flat_map(|paragraph| paragraph.split('`').skip(1).step_by(2));
    pieces.map(|piece| piece.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

/// Lines of a page's blocks of code.
fn block_lines(page: &str) -> Vec<String> {
    let mut inside = false;
    let mut lines = Vec::new();
    for line in page.lines() {
        if line.trim_start().starts_with("```") {
            inside = !inside;
        } else if inside {
            lines.push(line.trim().to_owned());
        }
    }
    lines
}
