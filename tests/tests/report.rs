//! `suf report` of records that another version made.

use std::{fs, process::Command};

use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_suf-under-test");

/// What `suf bench --elements 2000 --gate gelu --repeats 1` of version 201a622 wrote.
const OF_BEFORE: &str = include_str!("report/records-201a622.jsonl");

#[test]
fn records_of_before_programs_are_reported_with_what_they_do_not_say() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("records.jsonl");
    fs::write(&path, OF_BEFORE).expect("writable");
    let output = Command::new(PROGRAM).args(["report", "--from"]).arg(&path).output().expect("suf starts");
    let warned = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && warned.is_empty(), "{warned}");
    let read = |name: &str| fs::read_to_string(folder.path().join(name)).expect("a file of the report");
    let [markdown, html] = ["report.md", "report.html"].map(read);
    let mut count = 0;
    for line in OF_BEFORE.lines() {
        let record: Value = serde_json::from_str(line).expect("a record is JSON");
        let number = |field: &str| record[field].as_f64().expect("a number");
        let cells = [
            format!("{:.3}", number("key_bytes") / number("gate_elems")),
            format!("{:.2}", number("key_ms")),
            format!("{:.2}", number("ship_ms")),
            format!("{:.2}", number("eval_ms")),
            number("eval_rounds").to_string(),
            number("bits_per_elem").to_string(),
        ];
        let protocol = record["protocol"].as_str().expect("a name");
        let shape = record["shape"].as_str().expect("a name");
        let is_row = |row: &&str| {
            let row: Vec<_> = row.split('|').map(str::trim).collect();
            let is_named = row.iter().any(|cell| cell.starts_with(protocol) && cell.ends_with(shape));
            is_named && cells.iter().all(|cell| row.contains(&cell.as_str()))
        };
        assert_eq!(markdown.lines().filter(is_row).count(), 1, "{protocol} {shape}: {cells:?}\n{markdown}");
        count += 1;
    }
    for unsaid in [
        "records, made by an older version, do not say what each node cost.",
        "records, made by an older version, do not say for how many values the function has none.",
        "records since the daemons were started",
    ] {
        let said = format!("{count} of {count} {unsaid}");
        assert!(
            markdown.contains(&said) && html.contains(&said),
            "`{said}` is not in the reports\n{markdown}"
        );
    }
    for file in ["compare_activation_fair.csv", "compare_activation_fair.json"] {
        assert!(read(file).contains("2000"), "{file}");
    }
}
