use std::collections::BTreeMap;

use serde::Deserialize;
use toml::Spanned;

use super::*;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    _name: String,
    _bits: Spanned<u8>,
    _rate: f64,
    _kind: Option<Kind>,
    _digits: Option<BTreeMap<String, Spanned<Vec<u8>>>>,
    _line: Option<Line>,
    #[serde(default, rename = "term")]
    _terms: Vec<Spanned<Line>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Auto,
    Cpu,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    _slope: i64,
}

const GOOD: &str = "_name = \"a\"\n_bits = 6\n_rate = 0.5\n";

fn mistake(text: &str) -> Mistake {
    parse::<Document>(text, "config/example.toml").expect_err(text)
}

/// Words of the library, which say nothing to whoever writes a file.
fn own(mistake: &Mistake) -> &str {
    let said = &mistake.problem;
    assert!(said.ends_with("; config/example.toml explains every key"), "{said}");
    for word in [", expected", "variant", "field", "u8", "i64", "f64", "struct", "invalid", "unclosed"] {
        assert!(!said.contains(word), "{word:?} is no word for people: {said}");
    }
    said
}

#[test]
fn a_value_that_is_wrong_is_told_with_its_line_its_key_and_what_it_may_be() {
    parse::<Document>(GOOD, "").expect("good");
    for (from, to, line, words) in [
        ("_bits", "bits", 2, &["there is no key `bits`;", "`_bits`"][..]),
        ("_bits = 6\n", "", 1, &["the key `_bits` is missing: add it"]),
        ("= 6", "= \"many\"", 2, &["_bits: this is the text \"many\"", "a whole number from 0 to 255"]),
        ("= 6", "= 300", 2, &["_bits: this is `300`", "from 0 to 255"]),
        ("= 6", "= -1", 2, &["_bits: this is `-1`"]),
        ("= 6", "= 1.5", 2, &["_bits: this is `1.5`"]),
        ("= 6", "= true", 2, &["_bits: this is `true`"]),
        ("= 6", "= [6]", 2, &["_bits: this is a list"]),
        ("= 6", "= { a = 6 }", 2, &["_bits: this is a table"]),
        ("= 6", "= 99999999999999999999999999", 2, &["_bits: this is `9999", "from 0 to 255"]),
        ("= 0.5", "= \"fast\"", 3, &["_rate: ", "it has to be a number"]),
        ("\"a\"", "1", 1, &["_name: this is `1`", "text in quotes"]),
        ("_bits", "_kind = \"gpu\"\n_bits", 2, &["_kind: `gpu` is none of `auto`", "`cpu`"]),
        ("_bits", "_digits = 6\n_bits", 2, &["_digits: this is `6`", "a table"]),
        ("0.5\n", "0.5\n[_digits]\ndefault = [6, 600]\n", 5, &["_digits.default: this is `600`"]),
        (
            "0.5\n",
            "0.5\n[_digits]\ndefault = 6\n",
            5,
            &["_digits.default: this is `6`", "a list in brackets"],
        ),
        ("0.5\n", "0.5\n[_line]\n_slope = 0.5\n", 5, &["_line._slope: this is `0.5`"]),
        ("0.5\n", "0.5\n[_line]\nslope = 1\n", 5, &["there is no key `slope` in [_line]", "`_slope`"]),
        ("0.5\n", "0.5\n[_line]\n", 4, &["the key `_slope` is missing in [_line]"]),
        ("0.5\n", "0.5\n[[term]]\n_slope = \"x\"\n", 5, &["term._slope: ", "a whole number"]),
        ("_bits", "_line = { _slope = [] }\n_bits", 2, &["_line._slope: this is a list"]),
    ] {
        let text = GOOD.replace(from, to);
        let mistake = mistake(&text);
        assert_eq!(mistake.line, line, "{mistake}");
        for word in words {
            assert!(own(&mistake).contains(word), "{word:?} is missing in: {mistake}");
        }
    }
}

#[test]
fn a_text_that_is_no_toml_is_told_with_its_line_and_how_it_is_written() {
    for (from, to, line, words) in [
        ("= 6", "6", 2, "no `=`"),
        ("= 6", "=", 2, "no value"),
        ("= 6", "= six", 2, "in quotes"),
        ("= 6", "= \"six", 2, "in quotes"),
        ("= 6", "= 06", 2, "no number"),
        ("= 6", "= 6x", 2, "no value"),
        ("= 6", "= 0x", 2, "no number"),
        ("= 6", "= [6, 6", 3, "brackets"),
        ("= 6", "= [6 6]", 2, "commas"),
        ("= 6", "= { a = 6", 3, "{ KEY = VALUE"),
        ("= 6", "= 6 bits", 2, "no value"),
        ("\"a\"", "\"a\" b", 1, "after a value"),
        ("= 6", "= 6\n_bits = 7", 3, "a second time"),
        ("_bits", "[suf\n_bits", 2, "name in brackets"),
        ("_bits", "[[term]\n_bits", 2, "name in brackets"),
        ("\"a\"", "\"\\q\"", 1, "in quotes"),
        ("_name", "}{\n_name", 1, "KEY = VALUE"),
        ("_name", "garbage\n_name", 1, "no `=`"),
        ("_name", "\u{7}\n_name", 1, "KEY = VALUE"),
    ] {
        let text = GOOD.replacen(from, to, 1);
        let mistake = mistake(&text);
        assert!(own(&mistake).contains(words), "{words:?} is missing for {text:?}: {mistake}");
        assert_eq!(mistake.line, line, "{text:?}: {mistake}");
    }
}

#[test]
fn what_is_no_text_or_too_much_is_not_read() {
    let not_text = text(b"_name = \"a\"\n_bits = \"\xff\"\n").expect_err("no text");
    assert_eq!((not_text.line, not_text.column), (2, 10));
    assert!(not_text.problem.contains("UTF-8"), "{not_text}");
    let large = text(&vec![b'#'; MAX_FILE_BYTES + 1]).expect_err("too large");
    assert!(large.problem.contains("1048577 bytes"), "{large}");
    // What an editor puts before the text is no part of it.
    parse::<Document>(&format!("\u{feff}{GOOD}"), "").expect("good");
}

#[test]
fn a_key_has_its_line() {
    let text = "a = 1\n\n[b]\nc = 2\n";
    assert_eq!(line_of(text, &["a"]), Some(1));
    assert_eq!(line_of(text, &["b", "c"]), Some(4));
    assert_eq!(line_of(text, &["b", "d"]), None);
    assert_eq!(Mistake::of_key(text, &["b", "c"], "").line, 4);
}
