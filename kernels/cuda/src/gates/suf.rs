//! `suf` on the GPU: a compiled specification becomes constants, and the functions of [`code`].

mod code;

use suf_gate::{
    BackendError,
    layout::FieldId,
    lookup::LEAF_BITS,
    ring::WIRE,
    spec::{
        CompiledSpec,
        compile::{Comparison, Part, TableLookup},
        dpf,
    },
    suf::Suf,
};

use super::{DEALT_MASKS, LOOKUP, MASK, Masks, Plan, TREE, Task, WHOLE, WINDOW, WORD, message};
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
    source.code(&code::deal_helpers(spec));
    source.code(&code::deal_elements(spec));
    source.code(&code::helper_rows(spec));
    source.code(&code::output_share(spec));
    source.code(include_str!("../../cu/suf.cu"));

    let (deal, lookups, helpers, output) = tasks(gate, &points);
    let looks_up = !spec.comparisons().is_empty() || spec.table().is_some() || spec.pieces().is_some();
    let mut steps = Vec::new();
    steps.extend(looks_up.then_some(lookups));
    steps.extend((spec.helper_count() > 0).then_some(helpers));
    steps.push(output);
    let masks = Masks { taken: true, made: true };
    Ok(Plan { source, deal: vec![deal], steps, dealer_streams: Vec::new(), masks })
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

/// The window's bits, two blocks of leaves at least, and its centre T. The window holds t from T - half to
/// T + half - 1. A threshold of the specification is taken where one fits.
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
        Task::new("suf_deal", &shape, &dealt, DEALT_MASKS).with_aes(2 * (path + low_path)),
        Task::new("suf_lookups", &shape, &looked_up, WORD + first).with_aes(read + low_path),
        Task::new("suf_helpers", &shape, &[], 2.0 * first + 3.0 * WORD),
        Task::new("suf_output", &shape, &elements, 2.0 * MASK + WORD + 3.0 * wire),
    )
}
