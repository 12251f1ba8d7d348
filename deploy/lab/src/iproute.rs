//! `ip` and `tc`: their batches, and what their errors mean.

use std::{
    io::{ErrorKind, Write},
    process::{Command, Output, Stdio},
};

use crate::error::LabError;

/// Runs `ip` with `arguments` and returns what it prints.
pub(crate) fn ip(arguments: &[&str]) -> Result<String, LabError> {
    run("ip", arguments, "")
}

/// Runs a batch of `ip` commands, one on each line, in a namespace.
pub(crate) fn ip_batch(namespace: &str, lines: &str) -> Result<(), LabError> {
    run("ip", &["-n", namespace, "-batch", "-"], lines).map(drop)
}

/// Runs `tc` in a namespace and returns what it prints.
pub(crate) fn tc(namespace: &str, arguments: &[&str]) -> Result<String, LabError> {
    run("tc", &[&["-n", namespace], arguments].concat(), "")
}

fn run(program: &'static str, arguments: &[&str], input: &str) -> Result<String, LabError> {
    let command = || format!("{program} {}", arguments.join(" "));
    let output = spawn(program, arguments, input).map_err(|error| match error.kind() {
        ErrorKind::NotFound => LabError::Missing { command: program, package: "iproute2" },
        _ => LabError::Command { command: command(), problem: error.to_string() },
    })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let problem = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
    Err(explain(arguments, command(), problem))
}

fn spawn(program: &str, arguments: &[&str], input: &str) -> std::io::Result<Output> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    // A batch is far shorter than a pipe holds, so it is written before anything is read.
    child.stdin.take().expect("the input was piped").write_all(input.as_bytes())?;
    child.wait_with_output()
}

/// What a failed command means, as far as its words say.
fn explain(arguments: &[&str], command: String, problem: String) -> LabError {
    if problem.contains("Operation not permitted") || problem.contains("Permission denied") {
        return LabError::NotRoot;
    }
    // The kernel's two ways to say that it has no such queueing discipline.
    let unknown = problem.contains("qdisc kind") || problem.contains("No such file or directory");
    if arguments.contains(&"netem") && unknown {
        return LabError::NoNetem(problem);
    }
    LabError::Command { command, problem }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_say_what_is_missing() {
        let netem = ["-n", "x", "qdisc", "add", "dev", "peer", "root", "netem"];
        let why = |words: &str| explain(&netem, "tc".into(), words.into());
        assert!(matches!(why("Error: Specified qdisc kind is unknown."), LabError::NoNetem(_)));
        assert!(matches!(why("RTNETLINK answers: Operation not permitted"), LabError::NotRoot));
        assert!(matches!(why("Cannot find device \"peer\""), LabError::Command { .. }));
        let other = explain(&["-n", "x", "link"], "ip".into(), "No such file or directory".into());
        assert!(matches!(other, LabError::Command { .. }));
    }
}
