//! `suf` on the GPU: a compiled specification becomes constants, and four functions in which each of its sums is a line.

use std::fmt::Write;

use suf_gate::{
    BackendError,
    layout::{FieldId, R_IN, R_OUT},
    lookup::LEAF_BITS,
    ring::WIRE,
    spec::{
        CompiledSpec,
        compile::{Base, Comparison, Element, Gate, Output, Part, TableLookup},
        dpf,
    },
    suf::Suf,
};

use super::{LOOKUP, Plan, TREE, Task, WHOLE, WINDOW, WORD, message};
use crate::header::Source;

/// Most comparisons, thresholds or helpers: the bits of one word.
const MAX_BITS: usize = 64;

/// Levels up to which a table is read from all leaves.
const MAX_WHOLE: u8 = 3;

/// The kernels of a gate, and the order in which they run.
pub(super) fn plan(gate: &Suf) -> Result<Plan, BackendError> {
    let spec = gate.compiled();
    let points = Points::new(spec);
    let bits =
        [spec.comparisons().len(), points.thresholds.len(), points.bounds.len() + 1, spec.gates().len()];
    if bits.into_iter().any(|count| count > MAX_BITS) {
        return Err(BackendError::Unavailable(format!(
            "the specification has more than the {MAX_BITS} comparisons or helpers that a GPU's kernels take"
        )));
    }
    let mut source = Source::new();
    define_fields(&mut source, spec);
    define_shape(&mut source, spec, &points);
    source.code(TREE);
    source.code(LOOKUP);
    source.code(WHOLE);
    if spec.table().is_some() && !points.whole_tree {
        source.code(WINDOW);
    }
    source.code(include_str!("../../cu/suf_parts.cuh"));
    source.code(&deal_helpers(spec));
    source.code(&deal_elements(spec));
    source.code(&helper_rows(spec));
    source.code(&output_share(spec));
    source.code(include_str!("../../cu/suf.cu"));

    let (deal, lookups, helpers, output) = tasks(gate, &points);
    let looks_up = !spec.comparisons().is_empty() || spec.table().is_some() || spec.pieces().is_some();
    let mut steps = Vec::new();
    steps.extend(looks_up.then_some(lookups));
    steps.extend((spec.helper_count() > 0).then_some(helpers));
    steps.push(output);
    Ok(Plan { source, deal: vec![deal], steps, dealer_streams: Vec::new() })
}

/// Where the trees are compared.
struct Points {
    thresholds: Vec<i64>,
    bounds: Vec<u64>,
    /// Whether a table is read from all leaves.
    whole_tree: bool,
    /// Bits of the vector that the table is read from, and the threshold at its centre.
    window: Option<(u8, i64)>,
}

impl Points {
    fn new(spec: &CompiledSpec) -> Self {
        let mut thresholds: Vec<i64> = spec
            .comparisons()
            .iter()
            .filter_map(|comparison| match comparison {
                Comparison::Below(threshold) => Some(*threshold),
                Comparison::LowBelow(_) => None,
            })
            .chain(spec.pieces().into_iter().flat_map(|pieces| pieces.cuts.clone()))
            .collect();
        let bounds = spec.comparisons().iter().filter_map(|comparison| match comparison {
            Comparison::LowBelow(bound) => Some(*bound),
            Comparison::Below(_) => None,
        });
        let tree_bits = spec.domain_bits() - 1;
        let whole_tree = dpf::levels(tree_bits) <= MAX_WHOLE;
        let window =
            spec.table().map(|table| if whole_tree { (tree_bits, 0) } else { window(table, &thresholds) });
        if let Some((_, centre)) = window.filter(|_| !whole_tree) {
            thresholds.push(centre);
        }
        thresholds.sort_unstable();
        thresholds.dedup();
        Self { bounds: bounds.collect(), thresholds, whole_tree, window }
    }

    fn threshold(&self, wanted: i64) -> usize {
        self.thresholds.iter().position(|known| *known == wanted).expect("every threshold is in the list")
    }
}

/// The window's bits, two blocks of leaves at least, and its centre T: it holds t from T - half to T + half - 1. A
/// threshold of the specification is taken where one fits.
fn window(table: &TableLookup, thresholds: &[i64]) -> (u8, i64) {
    let len = table.values.len();
    // A table has at most 2^12 entries.
    let bits = (len.next_power_of_two().ilog2() as u8).max(LEAF_BITS + 1);
    let half = 1_i64 << (bits - 1);
    let fitting = table.start + len as i64 - half..=table.start + half;
    let centre = thresholds.iter().find(|threshold| fitting.contains(threshold));
    (bits, centre.copied().unwrap_or(table.start + half))
}

fn define_fields(source: &mut Source, spec: &CompiledSpec) {
    source.field("F_R_IN", R_IN);
    source.field("F_R_OUT", R_OUT);
    for (name, part) in [
        ("F_COMPARISON_MASKS", Part::ComparisonMasks),
        ("F_TABLE_MASK", Part::TableMask),
        ("F_SIGN_MASK", Part::SignMask),
        ("F_COEFFICIENT_MASKS", Part::CoefficientMasks),
        ("F_TOP_BIT", Part::TopBit),
        ("F_ROOT", Part::Root),
        ("F_SEED_CW", Part::NodeCorrections),
        ("F_LEAF_CW", Part::LeafCorrection),
        ("F_LOW_ROOT", Part::LowRoot),
        ("F_LOW_SEED_CW", Part::LowNodeCorrections),
        ("F_LOW_LEAF_CW", Part::LowLeafCorrection),
        ("F_HELPER_MASKS", Part::HelperMasks),
        ("F_ELEMENTS", Part::Elements),
    ] {
        // A part that is not there is named in code that does not run.
        source.field(name, spec.field(part).unwrap_or(FieldId(0)));
    }
}

fn define_shape(source: &mut Source, spec: &CompiledSpec, points: &Points) {
    let comparisons = spec.comparisons();
    let below = comparisons.iter().enumerate().filter(|(_, c)| matches!(c, Comparison::Below(_)));
    let below = below.fold(0_u64, |bits, (i, _)| bits | 1 << i);
    source.define("DOMAIN_BITS", spec.domain_bits());
    source.define("TREE_BITS", spec.domain_bits() - 1);
    source.define("GRID", spec.grid());
    source.define("LOW_BITS", spec.low_bits());
    source.define("HAS_TREE", u8::from(spec.has_tree()));
    source.define("HAS_LOW_TREE", u8::from(spec.has_low_tree()));
    source.define("COMPARISONS", comparisons.len());
    source.define("BELOW", format_args!("{below:#x}ULL"));
    source.define("THRESHOLDS", points.thresholds.len());
    source.define("BOUNDS", points.bounds.len());
    source.define("HELPERS", spec.helper_count());
    source.define("ELEMENTS", spec.elements().len());
    let wide = |values: &[i64]| -> Vec<String> {
        values.iter().map(|value| format!("{:#x}ULL", value.cast_unsigned())).collect()
    };
    source.words("THRESHOLD", "u64", wide(&points.thresholds));
    source.words("BOUND", "u64", points.bounds.iter().map(|bound| format!("{bound}ULL")));
    let places = comparisons.iter().map(|comparison| match comparison {
        Comparison::Below(threshold) => points.threshold(*threshold),
        Comparison::LowBelow(bound) => {
            points.bounds.iter().position(|known| known == bound).expect("every bound is in the list")
        }
    });
    source.words("COMPARISON", "u32", places);

    source.define("HAS_TABLE", u8::from(spec.table().is_some()));
    source.define("WHOLE_TREE", u8::from(points.whole_tree));
    source.define("G_ENTRY", comparisons.len());
    source.define("ENTRY_BITS", spec.table().map_or(2, |table| table.mask_bits));
    source.define("TABLE_MASK_BYTES", spec.table().map_or(1, |table| table.mask_bits.div_ceil(8)));
    if let (Some(table), Some((bits, centre))) = (spec.table(), points.window) {
        source.define("WINDOW_BITS", bits);
        source.define("WINDOW_THRESHOLD", if points.whole_tree { 0 } else { points.threshold(centre) });
        source.lookup("WINDOW", &window_entries(table, points.whole_tree, bits, centre));
    }

    source.define("G_SIGN", comparisons.len() + usize::from(spec.table().is_some()));
    source.define("PIECES", spec.pieces().map_or(0, |pieces| pieces.polynomials.len()));
    source.define("DEGREE", spec.pieces().map_or(0, |pieces| pieces.degree()));
    let cuts = spec.pieces().into_iter().flat_map(|pieces| &pieces.cuts).map(|cut| points.threshold(*cut));
    source.words("CUT", "u32", cuts);
    let coefficients: Vec<i64> =
        spec.pieces().into_iter().flat_map(|pieces| pieces.polynomials.concat()).collect();
    source.words("COEFFICIENT", "u64", wide(&coefficients));
}

/// The table's entries by place. In a window, place k stands for t = T + half - 1 - k; in a whole tree, for t = -k.
fn window_entries(table: &TableLookup, whole_tree: bool, bits: u8, centre: i64) -> Vec<i32> {
    let (size, half) = (1_i64 << bits, 1_i64 << (bits - 1));
    let index = |place: i64| {
        if whole_tree {
            (-place - table.start).rem_euclid(size)
        } else {
            centre + half - 1 - place - table.start
        }
    };
    let value =
        |index: i64| usize::try_from(index).ok().and_then(|i| table.values.get(i)).copied().unwrap_or(0);
    (0..size).map(|place| value(index(place))).collect()
}

/// `deal_helpers`: deals the truth tables, returns the masks of the gates, a bit for each.
fn deal_helpers(spec: &CompiledSpec) -> String {
    let mut code = String::new();
    for (g, gate) in spec.gates().iter().enumerate() {
        if let Gate::Helper { truth, .. } = gate {
            let words = truth
                .chunks(32)
                .map(|rows| rows.iter().rev().fold(0_u32, |word, row| word << 1 | u32::from(*row)));
            let words: Vec<String> = words.map(|word| format!("{word:#x}u")).collect();
            line(
                &mut code,
                format_args!("__constant__ u32 TRUTH_{g}[{}] = {{{}}};", words.len(), words.join(",")),
            );
        }
    }
    code.push_str(
        "__device__ inline u64 deal_helpers(const Job& job, Element e, u64 masks) {\n    u64 omegas = 0;\n",
    );
    let mut helpers = 0;
    for (g, gate) in spec.gates().iter().enumerate() {
        match gate {
            Gate::Opened(comparison) => {
                line(&mut code, format_args!("    omegas |= (masks >> {comparison} & 1) << {g};"));
            }
            Gate::Helper { inputs, .. } => {
                let field = spec.field(Part::HelperTable(g)).expect("a helper has its table").0;
                let masks = bits_of("masks", inputs);
                let count = inputs.len();
                line(
                    &mut code,
                    format_args!(
                        "    {{\n        u32 omega = key_bit(job, job.dealer[F_HELPER_MASKS], {helpers}, e.index);"
                    ),
                );
                line(
                    &mut code,
                    format_args!("        deal_helper<{count}>(job, {field}, e, TRUTH_{g}, {masks}, omega);"),
                );
                line(&mut code, format_args!("        omegas |= (u64)omega << {g};\n    }}"));
                helpers += 1;
            }
        }
    }
    code.push_str("    return omegas;\n}\n");
    code
}

/// `deal_elements`: turns the seeded side's shares of the ring elements into the explicit side's.
fn deal_elements(spec: &CompiledSpec) -> String {
    let mut code =
        "__device__ inline void deal_elements(const Job& job, u32 e, u64 r_in, u32 by_p0, u64 omegas) {\n"
            .to_owned();
    code.push_str("    u64 power[4] = {1, 0 - r_in, r_in * r_in, 0 - r_in * r_in * r_in};\n");
    if spec.table().is_some() {
        code.push_str(
            "    u64 a = (table_mask(job.key[0][F_TABLE_MASK], e) + table_mask(job.key[1][F_TABLE_MASK], e)) & \
             ((1ULL << ENTRY_BITS) - 1);\n    u64 sign = 2 * (u64)by_p0 - 1;\n",
        );
    }
    if spec.pieces().is_some() {
        code.push_str(
            "    u64 sigma = 1 - 2 * (u64)own_bit(job, F_SIGN_MASK, 0, e);\n    u64 mask[DEGREE + 1];\n    \
             for (int j = 0; j <= DEGREE; j++) mask[j] = packed_at(job.key[0][F_COEFFICIENT_MASKS], e * (DEGREE + 1) + j) + \
             packed_at(job.key[1][F_COEFFICIENT_MASKS], e * (DEGREE + 1) + j);\n",
        );
    }
    let degree = spec.pieces().map_or(0, |pieces| pieces.degree());
    for (i, Element { gate, base }) in spec.elements().iter().enumerate() {
        let value = match base {
            Base::Power(k) => format!("power[{k}]"),
            Base::TableSign => "sign".to_owned(),
            Base::TableMask => "sign * a".to_owned(),
            Base::TableCarry => "sign * (a >> (ENTRY_BITS - 1))".to_owned(),
            Base::PiecePower(k) => format!("sigma * power[{k}]"),
            Base::PieceConstant(e) => {
                let e = usize::from(*e);
                let terms =
                    (e..=degree).map(|j| format!("{}ULL * mask[{j}] * power[{}]", binomial(j, e), j - e));
                format!("sigma * ({})", terms.collect::<Vec<_>>().join(" + "))
            }
        };
        let omega = gate.map_or_else(String::new, |gate| format!(" * (omegas >> {gate} & 1)"));
        line(&mut code, format_args!("    subtract_packed(job, e, {i}, {value}{omega});"));
    }
    code.push_str("}\n");
    code
}

/// `helper_rows`: shares the row of each helper's table that the opened comparisons name.
fn helper_rows(spec: &CompiledSpec) -> String {
    let mut code = "__device__ inline void helper_rows(const Job& job, Element e, u64 opened) {\n".to_owned();
    let helpers = spec.gates().iter().enumerate().filter_map(|(g, gate)| match gate {
        Gate::Helper { inputs, .. } => Some((g, inputs)),
        Gate::Opened(_) => None,
    });
    for (helper, (g, inputs)) in helpers.enumerate() {
        let field = spec.field(Part::HelperTable(g)).expect("a helper has its table").0;
        let row = bits_of("opened", inputs);
        line(
            &mut code,
            format_args!(
                "    put_message_bit({helper}, e, key_bit(job, job.key[0][{field}], {row}, e.index));"
            ),
        );
    }
    code.push_str("}\n");
    code
}

/// `output_share`: this party's share of y_hat.
fn output_share(spec: &CompiledSpec) -> String {
    let mut code = "__device__ inline u64 output_share(const Job& job, u32 e, const Opened& open, u64 helpers) {\n    \
                    u64 x_hat = job.input[e], one = job.party == 0;\n    \
                    u64 minus_r = 0 - packed_at(job.key[0][F_R_IN], e);\n    \
                    u64 sum = packed_at(job.key[0][F_R_OUT], e), value;\n    \
                    auto element = [&](u32 i) { return packed_at(job.key[0][F_ELEMENTS], e * ELEMENTS + i); };\n"
        .to_owned();
    // A gate's opened bit, all ones or zero.
    let mut helpers = 0..;
    for (g, gate) in spec.gates().iter().enumerate() {
        let bit = match gate {
            Gate::Opened(comparison) => format!("open.comparisons >> {comparison}"),
            Gate::Helper { .. } => format!("helpers >> {}", helpers.next().unwrap_or_default()),
        };
        line(&mut code, format_args!("    bool gate_{g} = ({bit} & 1) != 0;"));
    }
    if spec.table().is_some() {
        code.push_str(
            "    u64 moved = (open.entry + (1ULL << (ENTRY_BITS - 2))) & ((1ULL << ENTRY_BITS) - 1);\n    \
             u64 wrapped = (moved >> (ENTRY_BITS - 1) ^ 1) << ENTRY_BITS;\n",
        );
    }
    for output in spec.outputs() {
        add_output(&mut code, spec, output);
    }
    code.push_str("    return sum;\n}\n");
    code
}

/// The lines of one summand.
fn add_output(code: &mut String, spec: &CompiledSpec, output: &Output) {
    let share = |base| weighted(spec, output.gate, base);
    if output.table != 0 {
        // entry = moved - 2^(k-2) - a, and 2^k more if the sum wrapped: if a's top bit was set and moved has none.
        let [sign, mask, carry] = [Base::TableSign, Base::TableMask, Base::TableCarry].map(share);
        let factor = hex(output.table);
        line(
            code,
            format_args!(
                "    sum += {factor} * ({sign} * (moved - (1ULL << (ENTRY_BITS - 2))) - {mask} + {carry} * wrapped);"
            ),
        );
    }
    if !output.fixed.is_empty() {
        code.push_str("    value = 0;\n");
        for e in (0..output.fixed.len()).rev() {
            let terms = output.fixed.iter().enumerate().skip(e).filter(|(_, c)| **c != 0).map(|(j, c)| {
                let power = share(Base::Power((j - e) as u8));
                format!(" + {} * {}ULL * {power}", hex(*c), binomial(j, e))
            });
            line(code, format_args!("    value = value * x_hat{};", terms.collect::<String>()));
        }
        code.push_str("    sum += value;\n");
    }
    if let Some(pieces) = spec.pieces().filter(|_| output.pieces != 0) {
        code.push_str("    value = 0;\n");
        for e in (0..=pieces.degree()).rev() {
            let terms = (e..=pieces.degree()).map(|j| {
                let power = share(Base::PiecePower((j - e) as u8));
                format!(" + open.coefficients[{j}] * {}ULL * {power}", binomial(j, e))
            });
            let constant = share(Base::PieceConstant(e as u8));
            line(code, format_args!("    value = value * x_hat{} - {constant};", terms.collect::<String>()));
        }
        line(code, format_args!("    sum += value * (2 * open.sign - 1) * {};", hex(output.pieces)));
    }
}

/// Shares of the gate's bit times the base: the gated element where the masked bit is 0, else the base less that.
fn weighted(spec: &CompiledSpec, gate: Option<usize>, base: Base) -> String {
    let element = |gate| spec.elements().iter().position(|element| *element == Element { gate, base });
    let plain = match base {
        Base::Power(0) => "one".to_owned(),
        Base::Power(1) => "minus_r".to_owned(),
        _ => format!("element({})", element(None).expect("the compiler lists an element for every base")),
    };
    match gate {
        None => plain,
        Some(gate) => {
            let gated = element(Some(gate)).expect("the compiler lists an element for every base of a gate");
            format!("(gate_{gate} ? {plain} - element({gated}) : element({gated}))")
        }
    }
}

/// The kernels and their work: dealing, and the three exchanges.
fn tasks(gate: &Suf, points: &Points) -> (Task, Task, Task, Task) {
    let (spec, shape) = (gate.compiled(), gate.key_shape());
    let field = |part| spec.field(part);
    let fields = |parts: &[Part]| -> Vec<FieldId> { parts.iter().filter_map(|part| field(*part)).collect() };
    let masks = fields(&[Part::ComparisonMasks, Part::TableMask, Part::SignMask, Part::CoefficientMasks]);
    let roots = fields(&[Part::Root, Part::LowRoot]);
    let words = fields(&[
        Part::NodeCorrections,
        Part::LeafCorrection,
        Part::LowNodeCorrections,
        Part::LowLeafCorrection,
    ]);
    let helpers: Vec<FieldId> = (0..spec.gates().len()).filter_map(|g| field(Part::HelperTable(g))).collect();
    let shared = [&helpers[..], &fields(&[Part::TopBit, Part::Elements])].concat();
    let path = |there: bool, bits: u8| if there { u32::from(dpf::levels(bits)) + 1 } else { 0 };
    let low_path = path(spec.has_low_tree(), spec.low_bits());
    let path = path(spec.has_tree(), spec.domain_bits() - 1);
    let read = match points.window {
        None => path,
        // Every node and leaf block.
        Some((bits, _)) if points.whole_tree => (2 << dpf::levels(bits)) - 1,
        // One path, and the whole of the trees that hold the window.
        Some((bits, _)) => path - 1 + (2 << (bits - LEAF_BITS)),
    };
    let dealt = [&masks[..], &masks, &roots, &roots, &words, &shared, &shared].concat();
    let first: f64 = gate.exchanges()[0].iter().map(|segment| message(segment.bits)).sum();
    let wire = message(WIRE.bits());
    let elements = fields(&[Part::Elements]);
    let looked_up = [&masks[..], &roots, &words].concat();
    (
        Task::new("suf_deal", &shape, &dealt, 0.0).with_aes(2 * (path + low_path)),
        Task::new("suf_lookups", &shape, &looked_up, WORD + first).with_aes(read + low_path),
        Task::new("suf_helpers", &shape, &[], 2.0 * first + 3.0 * WORD),
        Task::new("suf_output", &shape, &elements, WORD + 3.0 * wire),
    )
}

/// The bits `places` of the variable `word`, as the low bits of a number.
fn bits_of(word: &str, places: &[usize]) -> String {
    let bits = places.iter().enumerate().map(|(i, place)| format!("(u32)({word} >> {place} & 1) << {i}"));
    if places.is_empty() { "0".to_owned() } else { format!("({})", bits.collect::<Vec<_>>().join(" | ")) }
}

fn hex(value: i64) -> String {
    format!("{:#x}ULL", value.cast_unsigned())
}

/// The binomial coefficient of small numbers.
fn binomial(n: usize, k: usize) -> u64 {
    (0..k as u64).fold(1, |product, i| product * (n as u64 - i) / (i + 1))
}

fn line(code: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a string does not fail.
    let _ = writeln!(code, "{text}");
}
