//! `suf eval --auto` on real processes: it takes the cheapest protocol for the link as measured, and says why in numbers
//! that add up.

use std::path::Path;

use serde_json::Value;
use suf_tests::{npy, processes::Hosts};

const PROGRAM: &str = env!("CARGO_BIN_EXE_suf-under-test");

/// Four tiles and a bit: 1.4 MB of an input's opening follow its first tile, enough for a rate to be measured.
const MANY: usize = 300_000;

#[test]
fn few_bytes_on_a_short_link_and_few_rounds_on_a_long_one() {
    let short = Hosts::start(Path::new(PROGRAM));
    npy::write_i64(&short.folder().join("many.npy"), &vec![4096; MANY]);
    let first = Choice::of(&short, "many.npy");
    assert_eq!(first.protocol, "onehot", "{}", first.why);
    assert!(first.why.contains("assumed: no large batch has come yet"), "{}", first.why);
    assert!(first.why.contains("between the parties (by their profile)"), "{}", first.why);
    // Those keys were a measurement, and the inputs' opening another.
    let second = Choice::of(&short, "many.npy");
    assert_eq!(second.protocol, "onehot", "{}", second.why);
    assert!(second.why.contains("from the dealer (as keys came last)"), "{}", second.why);
    assert!(second.why.contains("between the parties (as an input was opened last)"), "{}", second.why);

    // 80 ms each way, emulated in the sockets: two rounds are cheaper than three, whatever the bytes of nine elements.
    let long = Hosts::start_with(Path::new(PROGRAM), |name, config| match name {
        "dealer" => config,
        _ => format!("link = \"intercontinental\"\nshaped = true\n{config}"),
    });
    npy::write_i64(&long.folder().join("few.npy"), &[4096; 9]);
    let far = Choice::of(&long, "few.npy");
    assert_eq!(far.protocol, "dpf", "{}", far.why);
    assert_eq!(far.found["eval_rounds"], 2);
}

#[test]
fn inputs_beyond_a_protocols_domain_rule_it_out() {
    let hosts = Hosts::start(Path::new(PROGRAM));
    // 10^6 is outside of onehot's |x| < 8192.
    npy::write_i64(&hosts.folder().join("large.npy"), &[4_096_000_000; 9]);
    let choice = Choice::of(&hosts, "large.npy");
    assert!(!choice.why.contains("onehot"), "{}", choice.why);
    assert_eq!(choice.found["wrong"], 0);
}

/// What `--auto` chose and said.
struct Choice {
    protocol: String,
    why: String,
    found: Value,
}

impl Choice {
    /// Evaluates GELU on `inputs`, and checks that the reason is the sum of its parts and the choice the least of them.
    fn of(hosts: &Hosts, inputs: &str) -> Self {
        let output = hosts.eval(&["--auto", "--json"], inputs).output().expect("suf starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let found: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let text = |key: &str| found[key].as_str().expect("text").to_owned();
        let (protocol, why) = (text("protocol"), text("why"));
        assert!(!why.contains("suf-lut"), "it computes another function: {why}");
        let costs: Vec<(String, f64)> = why
            .split(": ")
            .last()
            .expect("the list")
            .split("), ")
            .map(|item| {
                // "onehot 12.34 ms (keys 1.00 + rounds 2.00 + bits 3.00"
                let numbers: Vec<f64> = item
                    .split(|c: char| c != '.' && !c.is_ascii_digit())
                    .filter_map(|word| word.parse().ok())
                    .collect();
                let [total, keys, rounds, bits] = numbers[..] else { panic!("{item} in {why}") };
                assert!((total - keys - rounds - bits).abs() < 0.03, "{item} does not add up");
                (item.split(' ').next().expect("a protocol").to_owned(), total)
            })
            .collect();
        assert!(costs.len() >= 3, "{why}");
        assert_eq!(costs[0].0, protocol, "{why}");
        assert!(
            costs.windows(2).all(|pair| pair[0].1 <= pair[1].1),
            "from the cheapest to the dearest: {why}"
        );
        Self { protocol, why, found }
    }
}
