//! What comments and pages refer to is there, and the protocols' page has the declared costs.

use std::{collections::BTreeSet, path::Path};

use suf_gate::{Protocol, catalog, gatefile::GateFile};

use super::{files, read, relative, root};

/// Comments, configurations, the control API and Markdown send their reader to pages. Each page exists, and so does the
/// heading that is named after `#`.
#[test]
fn every_page_and_anchor_that_is_named_exists() {
    let mut count = 0;
    for file in files(root(), &["rs", "cu", "cuh", "py", "toml", "proto", "md", "service"]) {
        let text = read(&file);
        let mut named: Vec<_> =
            named_pages(&text).into_iter().map(|page| (root().join(&page), page)).collect();
        if file.extension().is_some_and(|extension| extension == "md") {
            let folder = file.parent().expect("a file stands in a folder");
            // A link without a path is to a heading of its own page.
            let place = |link: &str| if link.starts_with('#') { file.clone() } else { folder.join(link) };
            named.extend(links(&text).into_iter().map(|link| (place(&link), link)));
        }
        for (place, name) in named {
            let place =
                place.to_str().expect("paths are text").split('#').next().unwrap_or_default().to_owned();
            let found = Path::new(&place).exists();
            assert!(found, "{} names {name}, which is not there", relative(&file));
            if let Some((_, anchor)) = name.split_once('#') {
                let found = anchors(&read(Path::new(&place))).contains(anchor);
                assert!(found, "{} names {name}: the page has no such heading", relative(&file));
            }
            count += 1;
        }
    }
    assert!(count > 100, "{count} pages are named");
}

/// The tables of costs: what the gates declare, and what the published comparison counted.
#[test]
fn the_protocols_page_gives_the_declared_and_the_published_costs() {
    let page = read(&root().join("docs").join("protocols.md"));
    let declared = |name: &str, protocol, shape| {
        let file = GateFile::builtin(name).expect("built in");
        catalog::gate(&file, protocol, shape).expect("in the file").declared()
    };
    for (label, protocol, shape) in [
        ("`sigma`, GELU and SiLU", Protocol::Sigma, None),
        ("`suf-lut`", Protocol::SufLut, None),
        ("`suf` and `dpf`, N = 30", Protocol::Suf, None),
        ("`suf` and `dpf`, N = 30", Protocol::Dpf, None),
        ("`onehot` 6,6", Protocol::Onehot, Some("default")),
        ("`onehot` 7,7,7 and 7,7,6", Protocol::Onehot, Some("full")),
        ("`onehot` without digits", Protocol::Onehot, Some("window")),
    ] {
        let [gelu, silu] = ["gelu", "silu"].map(|name| declared(name, protocol, shape));
        let bytes = format!("{}, {}", gelu.mean_key_bytes(), silu.mean_key_bytes());
        let row = format!("| {label} | {bytes} | {}, {} | {} |", gelu.bits, silu.bits, gelu.rounds);
        assert!(page.contains(&row), "docs/protocols.md lacks the row {row}");
        assert_eq!(gelu.rounds, silu.rounds, "{label}");
    }

    let published = read(&root().join("server/cli/published/compare_activation_fair.json"));
    let published: Vec<serde_json::Value> = serde_json::from_str(&published).expect("a list of rows");
    for row in &published {
        let models = match super::text(&row["model"]) {
            "bert-base" | "gpt2" => "bert-base and gpt2",
            model => model,
        };
        let figures = ["sigma_per_gate_key", "sigma_per_gate_eval", "suf_per_gate_key", "suf_per_gate_eval"]
            .map(|key| row[format!("{key}_bytes")].to_string());
        let row = format!("| {models}, {} | {} |", row["gate_elems"], figures.join(" | "));
        assert!(page.contains(&row), "docs/protocols.md lacks the row {row}");
    }
}

#[test]
fn pages_links_and_anchors_are_read_right() {
    // Spelled in parts, so that this file does not name a page that is not there.
    let text = [
        "See `docs",
        "/a/b.md#c-d`, ../docs",
        "/e.md. Not http://x/docs",
        "/f.md, docs",
        "/g/, mydocs",
        "/h.md",
    ];
    let expected = [["docs", "/a/b.md#c-d"], ["docs", "/e.md"]].map(|parts| parts.concat());
    assert_eq!(named_pages(&text.concat()), expected);
    let text =
        "[a](x.md#y) [b](https://z) ![c](d.svg)\n```\n[e](f.md)\n# no\n```\n## The `x_hat`: 1, 2\n# A\n# A\n";
    assert_eq!(links(text), ["x.md#y", "d.svg"]);
    assert_eq!(anchors(text), ["the-x_hat-1-2", "a", "a-1"].map(Into::into).into());
}

/// Pages below `docs` that a text names, with their anchors. What follows another folder's name is not ours.
fn named_pages(text: &str) -> Vec<String> {
    let part_of_name = |c: char| c.is_ascii_alphanumeric() || "/_-.".contains(c);
    let mut pages = Vec::new();
    for (at, _) in text.match_indices(&["docs", "/"].concat()) {
        let before = &text[..at];
        if before.ends_with(part_of_name) && !before.ends_with("../") {
            continue;
        }
        let rest = &text[at..];
        let (path, after) = rest.split_at(rest.find(|c| !part_of_name(c)).unwrap_or(rest.len()));
        let path = path.trim_end_matches('.');
        let anchor = after.strip_prefix('#').unwrap_or_default();
        let end = anchor.find(|c: char| !c.is_alphanumeric() && !"_-".contains(c)).unwrap_or(anchor.len());
        if path.ends_with(".md") {
            let hash = if end > 0 { "#" } else { "" };
            pages.push(format!("{path}{hash}{}", &anchor[..end]));
        }
    }
    pages
}

/// Lines of a Markdown page outside its blocks of code.
pub(super) fn prose(page: &str) -> impl Iterator<Item = &str> {
    let mut in_code = false;
    page.lines().filter(move |line| {
        let is_fence = line.trim_start().starts_with("```");
        in_code ^= is_fence;
        !in_code && !is_fence
    })
}

/// Targets of a Markdown page's links within the repository.
fn links(page: &str) -> Vec<String> {
    let targets = prose(page).flat_map(|line| line.split("](").skip(1));
    let targets = targets.filter_map(|rest| rest.split_once(')').map(|(target, _)| target));
    targets.filter(|target| !target.contains(':')).map(Into::into).collect()
}

/// Anchors of a Markdown page's headings, as GitHub makes them.
fn anchors(page: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for heading in prose(page).filter(|line| line.starts_with('#')) {
        let text = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = text.chars().filter(|c| c.is_alphanumeric() || " _-".contains(*c));
        let anchor: String = kept.map(|c| if c == ' ' { '-' } else { c }).collect();
        let taken = (1..).map(|i| format!("{anchor}-{i}"));
        let mut free = std::iter::once(anchor.clone()).chain(taken).filter(|name| !found.contains(name));
        let name = free.next().expect("there is no last number");
        found.insert(name);
    }
    found
}
