//! Records of models as tables and as a waterfall: the same for the terminal, Markdown and the page.

use std::fmt::Write as _;

use crate::{
    columns::{self, headers},
    critical::Waits,
    model_records::{OfModel, layer_of},
    node_records::NodeRecord,
    records::Record,
    tables::{self, Style},
};

/// What SIGMA's figures are.
const SIGMA_NOTE: &str = "SIGMA's figures are computed by its formulas, not measured. It hides the weights, and so do programs with \
                          private weights; those with public weights do not.";

/// Height of a bar of the waterfall, its width, and that of the names, in pixels.
const BAR: f64 = 14.0;
const WIDTH: f64 = 900.0;
const NAMES: f64 = 230.0;

/// Records with what only models have.
fn of_models(records: &[Record]) -> impl Iterator<Item = (&Record, &OfModel)> {
    records.iter().filter_map(|record| Some((record, record.of_model.as_ref()?)))
}

/// One record in one line, as it is measured.
pub(crate) fn line(record: &Record) -> String {
    let Some(model) = &record.of_model else { return String::new() };
    format!(
        "{} {} tokens, {} weights, {}: {:.1} ms, {} rounds, {} MB sent, {} MB of keys, cosine {:.6}, wrong {}",
        record.model,
        model.tokens,
        model.weights,
        record.link,
        record.eval_ms,
        record.eval_rounds,
        megabytes(record.sent_bytes as f64),
        megabytes(record.key_bytes),
        model.cosine_min,
        record.wrong
    )
}

/// What `suf bench model` prints.
pub(crate) fn printed(records: &[Record]) -> String {
    let records: Vec<Record> = records.iter().filter(|record| record.is_of_model()).cloned().collect();
    let mut text = format!("{}\n", summary(&records, Style::Terminal));
    for table in [predictions(&records, Style::Terminal), paths(&records, Style::Terminal)].iter().flatten() {
        let _ = writeln!(text, "{table}");
    }
    let _ = writeln!(text, "{}", sigma(&records, Style::Terminal));
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{SIGMA_NOTE}");
    for note in loads(&records).into_iter().chain(tables::notes(&records)).chain(reasons(&records)) {
        let _ = writeln!(text, "{note}");
    }
    text
}

/// What loading private weights took: once for each link.
fn loads(records: &[Record]) -> Vec<String> {
    let mut lines = Vec::new();
    for (record, model) in of_models(records).filter(|(_, model)| model.load_bytes > 0) {
        let line = format!(
            "{} over {}: private weights were loaded once, {} MB sent by each party in {:.1} s.",
            record.model,
            record.link,
            megabytes(model.load_bytes as f64),
            model.load_ms / 1e3
        );
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    lines
}

/// The part of `report.md` that is about models; nothing without their records.
pub(super) fn markdown(records: &[Record]) -> String {
    let mut text = String::new();
    if of_models(records).next().is_none() {
        return text;
    }
    // Writing to a string cannot fail.
    let _ = write!(
        text,
        "\n# Measured models\n\n{}\n\n{}\n{}\n\n{}\n{SIGMA_NOTE}\n{}",
        summary(records, Style::Markdown),
        super::meanings(
            "Times begin with the opening of the inputs. They are medians of the repeats.",
            &columns::MODELS
        ),
        sigma(records, Style::Markdown),
        super::meanings("", &columns::SIGMA),
        loads(records).into_iter().fold(String::new(), |text, line| text + "\n" + &line + "\n"),
    );
    if let Some(table) = predictions(records, Style::Markdown) {
        let _ = write!(
            text,
            "\n## What the links predict\n\n{table}\n\n{}",
            super::meanings("", &columns::PREDICTIONS)
        );
    }
    if let Some(table) = paths(records, Style::Markdown) {
        let _ = write!(
            text,
            "\n## What the end of a run waits for\n\n{table}\n\n{}",
            super::meanings("", &[&columns::PATHS[..], &columns::PATH_CAUSES].concat())
        );
    }
    for reason in reasons(records) {
        let _ = write!(text, "\n{reason}\n");
    }
    for (record, model) in of_models(records) {
        let _ = write!(
            text,
            "\n## {} at {} tokens over {}, {} weights, by operation\n\n{}\n\n## By layer\n\n{}\n\n## By node\n\n{}\n",
            record.model,
            model.tokens,
            record.link,
            model.weights,
            groups(record, "operation", operation, Style::Markdown),
            groups(record, "layer", layer, Style::Markdown),
            nodes(record, Style::Markdown),
        );
    }
    let of_nodes = [&columns::NODES[..], &columns::PATH_CAUSES].concat();
    let _ = write!(text, "\n{}", super::meanings("Of operations, layers and nodes:", &of_nodes));
    text
}

/// The figures of whole programs, one row per record.
pub(super) fn summary(records: &[Record], style: Style) -> comfy_table::Table {
    let rows = of_models(records).map(|(record, model)| {
        vec![
            record.model.clone(),
            model.length.clone(),
            model.weights.clone(),
            tables::named(record),
            record.link.clone(),
            model.tokens.to_string(),
            model.batch.to_string(),
            format!("{:.1}", record.eval_ms),
            tables::spread(record),
            record.eval_rounds.to_string(),
            megabytes(record.sent_bytes as f64),
            megabytes(record.key_bytes),
            format!("{:.0}", record.key_ms),
            format!("{:.6}", model.cosine_min),
            record.wrong.to_string(),
        ]
    });
    tables::table(style, &headers(columns::MODELS), 5, rows)
}

/// What links with a delay and a rate predict, one row per record; none without such a record.
pub(super) fn predictions(records: &[Record], style: Style) -> Option<comfy_table::Table> {
    let row = |(record, model): (&Record, &OfModel)| {
        let predicted = model.prediction.as_ref()?;
        Some(vec![
            record.model.clone(),
            model.length.clone(),
            tables::named(record),
            format!("{} ({})", record.link, record.link_kind),
            model.tokens.to_string(),
            format!("{:.1}", predicted.rounds_ms),
            format!("{:.1}", predicted.bits_ms),
            format!("{:.1}", predicted.loopback_ms),
            format!("{:.1}", predicted.predicted_ms),
            format!("{:.1}", record.eval_ms),
            format!("{:.3}", predicted.ratio),
        ])
    };
    let rows: Vec<_> = of_models(records).filter_map(row).collect();
    let some = !rows.is_empty();
    some.then(|| tables::table(style, &headers(columns::PREDICTIONS), 4, rows.into_iter()))
}

/// What the end of a run waited for, one row per record; none where no record says so.
pub(super) fn paths(records: &[Record], style: Style) -> Option<comfy_table::Table> {
    let row = |(record, model): (&Record, &OfModel)| {
        let path = path_of(&record.nodes);
        let names = vec![
            record.model.clone(),
            model.length.clone(),
            tables::named(record),
            record.link.clone(),
            model.tokens.to_string(),
        ];
        (path.total_ms() > 0.0)
            .then(|| [names, vec![format!("{:.1}", path.total_ms())], causes(path).into()].concat())
    };
    let rows: Vec<_> = of_models(records).filter_map(row).collect();
    let some = !rows.is_empty();
    some.then(|| tables::table(style, &with_causes(headers(columns::PATHS)), 4, rows.into_iter()))
}

/// The critical path over all of `nodes`.
fn path_of<'a>(nodes: impl IntoIterator<Item = &'a NodeRecord>) -> Waits {
    let mut sum = Waits::default();
    nodes.into_iter().for_each(|node| sum += node.path);
    sum
}

/// These headers, and those of the causes on a critical path.
fn with_causes<'a>(own: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    own.into_iter().chain(headers(columns::PATH_CAUSES)).collect()
}

/// The causes of a path, written out.
fn causes(path: Waits) -> [String; 4] {
    [path.comp_ms, path.turn_ms, path.peer_ms, path.link_ms].map(|ms| format!("{ms:.2}"))
}

/// Why protocols of activations were chosen, a line for each record that says so.
fn reasons(records: &[Record]) -> Vec<String> {
    let reason = |(record, model): (&Record, &OfModel)| {
        let why = model.why.as_ref()?;
        Some(format!(
            "{} tokens over {}: {} was chosen for the activation: {why}.",
            model.tokens, record.link, record.protocol
        ))
    };
    of_models(records).filter_map(reason).collect()
}

/// What the link of a record predicts, and what the end of the run waited for, in words; as far as it says so.
pub(super) fn sentences(record: &Record) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    if let Some(found) = record.of_model.as_ref().and_then(|model| model.prediction.as_ref()) {
        let _ = write!(
            text,
            "Rounds x delay + bits / rate + the time on loopback: {:.1} + {:.1} + {:.1} = {:.1} ms. The measured time is {:.3} times \
             that. ",
            found.rounds_ms, found.bits_ms, found.loopback_ms, found.predicted_ms, found.ratio
        );
    }
    let path = path_of(&record.nodes);
    if path.total_ms() > 0.0 {
        let [computes, turn, peer, link] = causes(path);
        let _ = write!(
            text,
            "The critical path of the slower party: it computes for {computes} ms, parts wait for their turn for {turn} ms, for the \
             peer for {peer} ms, and for messages on the link for {link} ms."
        );
    }
    text
}

/// What SIGMA costs on the same layers, one row per program.
pub(super) fn sigma(records: &[Record], style: Style) -> comfy_table::Table {
    let mut seen = Vec::new();
    let rows = of_models(records).filter_map(|(record, model)| {
        let program = (&record.model, model.tokens, model.batch);
        if seen.contains(&program) {
            return None;
        }
        seen.push(program);
        Some(vec![
            record.model.clone(),
            model.tokens.to_string(),
            model.batch.to_string(),
            model.sigma_rounds.to_string(),
            megabytes(model.sigma_sent_bytes as f64),
            megabytes(model.sigma_key_bytes as f64),
        ])
    });
    tables::table(style, &headers(columns::SIGMA), 1, rows)
}

/// Sums over the nodes of each group that `group` names.
pub(super) fn groups(
    record: &Record,
    header: &str,
    group: fn(&NodeRecord) -> String,
    style: Style,
) -> comfy_table::Table {
    let mut groups: Vec<(String, Vec<&NodeRecord>)> = Vec::new();
    for node in &record.nodes {
        let name = group(node);
        match groups.iter_mut().find(|(known, _)| *known == name) {
            Some((_, nodes)) => nodes.push(node),
            None => groups.push((name, vec![node])),
        }
    }
    let rows = groups.into_iter().map(|(name, nodes)| {
        let sum = |figure: fn(&NodeRecord) -> f64| nodes.iter().map(|node| figure(node)).sum::<f64>();
        vec![
            name,
            format!("{}", sum(|node| node.rounds.into())),
            megabytes(sum(|node| node.sent_bytes as f64)),
            megabytes(sum(|node| node.key_bytes)),
            format!("{:.2}", sum(|node| node.comp_ms)),
            format!("{:.2}", sum(|node| node.limit_ms)),
            format!("{}", sum(|node| node.wrong as f64)),
        ]
        .into_iter()
        .chain(causes(path_of(nodes)))
        .collect::<Vec<_>>()
    });
    let columns = with_causes([header, "rounds", "sent MB", "keys MB", "comp ms", "limit ms", "wrong"]);
    tables::table(style, &columns, 1, rows)
}

fn nodes(record: &Record, style: Style) -> comfy_table::Table {
    let rows = record.nodes.iter().map(|node| {
        vec![
            node.name.clone(),
            node.op.clone(),
            node.rounds.to_string(),
            node.declared_bits.to_string(),
            node.sent_bytes.to_string(),
            format!("{}", node.key_bytes),
            format!("{:.2}", node.comp_ms),
            format!("{:.2}", node.limit_ms),
            node.limit_by.clone(),
            format!("{:.2}", node.begin_ms),
            format!("{:.2}", node.end_ms),
            node.wrong.to_string(),
        ]
        .into_iter()
        .chain(causes(node.path))
        .collect::<Vec<_>>()
    });
    tables::table(style, &with_causes(headers(columns::NODES)), 2, rows)
}

/// What a node does, whatever its layer.
pub(super) fn operation(node: &NodeRecord) -> String {
    layer_of(&node.name).map_or(&node.name[..], |(_, rest)| rest).to_owned()
}

/// The layer of a node, and what stands before the layers or after them.
pub(super) fn layer(node: &NodeRecord) -> String {
    layer_of(&node.name).map_or_else(|| node.name.clone(), |(layer, _)| format!("layer {layer}"))
}

/// When each node was worked on in the middle repeat, as a picture.
pub(super) fn waterfall(record: &Record) -> String {
    let last = record.nodes.iter().map(|node| node.end_ms).fold(1e-9, f64::max);
    let x = |ms: f64| NAMES + ms / last * (WIDTH - NAMES);
    let height = BAR * (record.nodes.len() + 2) as f64;
    let mut svg = format!(
        "<svg viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" xmlns=\"http://www.w3.org/2000/svg\" font-size=\"10\" \
         font-family=\"sans-serif\">"
    );
    // Writing to a string cannot fail.
    for tenth in 0..=10 {
        let at = last * f64::from(tenth) / 10.0;
        let _ = write!(
            svg,
            "<line x1=\"{0:.1}\" x2=\"{0:.1}\" y1=\"{BAR}\" y2=\"{height}\" stroke=\"#ddd\"/><text x=\"{0:.1}\" y=\"10\" \
             text-anchor=\"middle\">{at:.0} ms</text>",
            x(at)
        );
    }
    for (row, node) in record.nodes.iter().enumerate() {
        let y = BAR * (row + 1) as f64;
        // What sends is darker than what is local.
        let colour = if node.sent_bytes > 0 { "#2b6cb0" } else { "#9bbfe0" };
        let _ = write!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text><rect x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" \
             height=\"{}\" fill=\"{colour}\"><title>{}: {:.2} ms of work from {:.2} to {:.2} ms, {} bytes sent, {} bytes \
             of key</title></rect>",
            NAMES - 6.0,
            y + 10.0,
            escape(&node.name),
            x(node.begin_ms),
            y + 2.0,
            (x(node.end_ms) - x(node.begin_ms)).max(1.0),
            BAR - 4.0,
            escape(&node.name),
            node.comp_ms,
            node.begin_ms,
            node.end_ms,
            node.sent_bytes,
            node.key_bytes,
        );
    }
    svg.push_str("</svg>");
    svg
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn megabytes(bytes: f64) -> String {
    format!("{:.2}", bytes / 1e6)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::{predicted::Prediction, records::tests::example};

    /// A record of a model with two layers of two nodes.
    pub(crate) fn of_model() -> Record {
        let node = |name: &str, begin_ms, sent_bytes| NodeRecord {
            name: name.into(),
            op: "product".into(),
            rounds: 1,
            sent_bytes,
            key_bytes: 500_000.0,
            comp_ms: 2.0,
            limit_ms: 0.5,
            limit_by: "products".into(),
            begin_ms,
            end_ms: begin_ms + 3.0,
            path: Waits { comp_ms: 1.5, turn_ms: 0.25, peer_ms: 0.5, link_ms: 4.0 },
            ..NodeRecord::default()
        };
        let nodes = vec![
            node("input", 0.0, 1_000_000),
            node("layer 0 scores", 3.0, 2_000_000),
            node("layer 0 mix <b>", 6.0, 0),
            node("layer 1 scores", 9.0, 2_000_000),
        ];
        let of_model = OfModel {
            tokens: 32,
            batch: 1,
            length: "exact".into(),
            weights: "public".into(),
            digest: "ab".repeat(32),
            layers: 2,
            cosine_min: 0.999_95,
            cosine_mean: 0.999_97,
            out_of_range: 0,
            load_bytes: 0,
            load_ms: 0.0,
            sigma_rounds: 208,
            sigma_key_bytes: 2_000_000_000,
            sigma_sent_bytes: 70_000_000,
            plan: "plan.toml".into(),
            core_ns: [0.3, 0.1, 0.01],
            why: None,
            prediction: Some(Prediction {
                delay_ms: 4.0,
                link_bps: 3_200_000_000,
                rounds_ms: 40.0,
                bits_ms: 10.0,
                loopback_ms: 50.0,
                predicted_ms: 100.0,
                ratio: 1.25,
            }),
        };
        Record {
            model: "tiny".into(),
            sent_bytes: 5_000_000,
            key_bytes: 2_000_000.0,
            nodes,
            of_model: Some(of_model),
            ..example("onehot", "loopback")
        }
    }

    #[test]
    fn nodes_are_summed_by_operation_and_by_layer() {
        let record = of_model();
        let by = |group| groups(&record, "group", group, Style::Markdown).to_string();
        let (operations, layers) = (by(operation), by(layer));
        let row = |text: &str, name: &str| -> Vec<String> {
            let line = text.lines().find(|line| line.starts_with(&format!("| {name} "))).expect("a row");
            line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()
        };
        let path = ["3.00", "0.50", "1.00", "8.00"];
        let expected = |own: [&'static str; 7]| [&own[..], &path].concat();
        assert_eq!(
            row(&operations, "scores"),
            expected(["scores", "2", "4.00", "1.00", "4.00", "1.00", "0"])
        );
        assert_eq!(row(&layers, "layer 0"), expected(["layer 0", "2", "2.00", "1.00", "4.00", "1.00", "0"]));
    }

    #[test]
    fn every_column_is_explained_and_names_are_escaped() {
        let text = markdown(&[of_model()]);
        let tables = text.lines().zip(text.lines().skip(1)).filter(|(_, rule)| rule.starts_with("|--"));
        for (header, _) in tables {
            for column in header.trim_matches('|').split('|').map(str::trim).skip(1) {
                assert!(text.contains(&format!("- *{column}*: ")), "{column} is not explained in {text}");
            }
        }
        let svg = waterfall(&of_model());
        assert!(svg.contains("mix &lt;b&gt;") && !svg.contains("<b>"), "{svg}");
        assert!(markdown(&[example("onehot", "loopback")]).is_empty());
        assert!(text.contains(" 100.0 |") && text.contains(" 1.250 |"), "the prediction: {text}");
        assert!(text.contains(" 25.0 |") && text.contains(" 16.00 |"), "the critical path: {text}");
    }
}
