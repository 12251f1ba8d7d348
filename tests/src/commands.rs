//! The commands of `suf`, taken from the program itself, so that a test of all of them forgets none.

/// Every command that can be called, with its parents, such as `bench kernel`.
#[must_use]
pub fn all() -> Vec<String> {
    let mut found = Vec::new();
    below(&suf_cli::command(), "", &mut found);
    found
}

fn below(command: &clap::Command, path: &str, found: &mut Vec<String>) {
    for child in command.get_subcommands() {
        let path = format!("{path} {}", child.get_name()).trim_start().to_owned();
        if !child.is_subcommand_required_set() {
            found.push(path.clone());
        }
        below(child, &path, found);
    }
}

/// The words of a command line without quotes.
#[must_use]
pub fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}
