//! Specifications to test `suf` with: the shipped ones and random ones, and inputs where they change.

use std::{fs, path::Path};

use suf_gate::{
    Gate, Shape,
    spec::{DOMAIN_BITS, Formula, Helper, MAX_ENTRY, Pieces, Spec, SpecFile, SpecParts, Table, Term, Value},
    suf::Suf,
};

/// Numbers that look random (splitmix64).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ z >> 31
    }

    /// 0 <= n < bound.
    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// -bound < n < bound.
    fn signed(&mut self, bound: i64) -> i64 {
        self.below(2 * bound.unsigned_abs() - 1).cast_signed() - (bound - 1)
    }
}

/// The specification files that come with the program.
pub(crate) fn shipped() -> Vec<SpecFile> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config/specs");
    let files = fs::read_dir(&folder).expect("the folder of specifications");
    files
        .map(|file| {
            let path = file.expect("a file").path();
            let text = fs::read_to_string(&path).expect("a readable file");
            SpecFile::parse(&path.display().to_string(), &text).expect("a specification")
        })
        .collect()
}

pub(crate) fn gate(spec: Spec) -> Gate {
    Gate::new("random", Shape::Suf(Suf::new(spec).expect("it compiles"))).expect("a gate")
}

/// Any domain from the smallest to 40 bits, with helpers, pieces, a table and terms of every kind.
pub(crate) fn random(random: &mut Random) -> Spec {
    let domain_bits = *DOMAIN_BITS.start() + random.below(33) as u8;
    let grid = random.below(8) as u8;
    let low_bits = 1 + random.below(16) as u8;
    // Near 0, so that regions are hit.
    let near = (1_i64 << (domain_bits - 2).min(12)) - 1;
    let place = |random: &mut Random| random.signed(near) << grid;
    let polynomial =
        |random: &mut Random| -> Vec<i64> { (0..=random.below(4)).map(|_| random.signed(1 << 40)).collect() };

    let helpers = ["a", "b", "c"].map(|name| {
        let formula = formula(random, 3, &mut |random| {
            if random.below(4) == 0 && low_bits > 1 {
                Formula::LowBelow(1 + random.below((1 << low_bits) - 1))
            } else {
                Formula::Below(place(random))
            }
        });
        Helper { name: name.to_owned(), formula }
    });
    let mut cuts: Vec<i64> = (0..random.below(12)).map(|_| place(random)).collect();
    cuts.sort_unstable();
    cuts.dedup();
    let polynomials = (0..=cuts.len()).map(|_| polynomial(random)).collect();
    let len = 1 + random.below(2 * near.unsigned_abs() - 1).min(4095).min(random.next() % 5000);
    let start = random.below((2 * near).unsigned_abs() - len).cast_signed() - near;
    let largest = 1 << random.below(23);
    let values = (0..len).map(|_| random.signed(i64::from(MAX_ENTRY).min(largest)) as i32).collect();
    let terms = (0..1 + random.below(6))
        .map(|_| Term {
            when: [None, Some(0), Some(1), Some(2)][random.below(4) as usize],
            value: match random.below(3) {
                0 => Value::Fixed(polynomial(random)),
                1 => Value::Pieces(random.signed(1 << 20)),
                _ => Value::Table(random.signed(1 << 20)),
            },
        })
        .collect();
    Spec::new(SpecParts {
        domain_bits,
        grid,
        low_bits,
        output_shift: random.below(20) as u8,
        helpers: helpers.into(),
        pieces: Some(Pieces { cuts, polynomials }),
        table: Some(Table { start: start << grid, values }),
        terms,
    })
    .expect("all within limits")
}

fn formula(random: &mut Random, depth: u8, leaf: &mut impl FnMut(&mut Random) -> Formula) -> Formula {
    if depth == 0 || random.below(4) == 0 {
        return leaf(random);
    }
    let a = formula(random, depth - 1, leaf);
    match random.below(4) {
        0 => a.not(),
        1 => a.and(formula(random, depth - 1, leaf)),
        2 => a.or(formula(random, depth - 1, leaf)),
        _ => a.xor(formula(random, depth - 1, leaf)),
    }
}

/// `elems` inputs: round everything where the specification changes, the ends of its domain, and random ones.
pub(crate) fn inputs(spec: &Spec, random: &mut Random, elems: usize) -> Vec<i64> {
    let parts = spec.parts();
    let (first, last) = spec.domain();
    let thresholds = parts.helpers.iter().flat_map(|helper| helper.formula.thresholds());
    let cuts = parts.pieces.iter().flat_map(|pieces| pieces.cuts.clone());
    let edges = parts.table.iter().flat_map(|t| [t.start, t.start + ((t.values.len() as i64) << parts.grid)]);
    let places: Vec<i64> = thresholds.chain(cuts).chain(edges).chain([0, first, last]).collect();
    let step = 1_i64 << parts.grid;
    let mut edges: Vec<i64> = places
        .iter()
        .flat_map(|p| [-step, -1, 0, 1, step].map(|d| p + d))
        .filter(|x| (first..=last).contains(x))
        .collect();
    // A short batch begins anywhere in the list.
    let skip = random.below(edges.len() as u64) as usize;
    edges.rotate_left(skip);
    let wide = std::iter::from_fn(|| {
        let reach = if random.below(2) == 0 { last } else { last.min(1 << 18) };
        Some(random.signed(reach))
    });
    edges.into_iter().chain(wide).take(elems).collect()
}
