//! A gate that can be made can be dealt, sent and evaluated in full tiles: what its messages cannot carry is refused first.

use std::sync::Arc;

use bytes::Bytes;
use rand::{Rng, SeedableRng, rngs::StdRng};
use suf_gate::{
    Gate, GateError, Program, Shape, Side, TILE_ELEMS, catalog,
    limits::{MAX_EXCHANGE_BITS, MAX_EXCHANGE_SEGMENTS, MAX_KEY_BYTES},
    spec::{Formula, Helper, Pieces, Spec, SpecParts, Table, Term, Value},
    suf::Suf,
};
use suf_tests::{inputs, world::World};
use suf_wire::{
    BatchId, Causal, DataFrame, DealerMessage, KeyPart, Message, NodeId, Part, Party, PeerMessage, Segments,
    Tag, limits,
};

const PART: Part = Part::new(NodeId(1), 0);

#[test]
fn the_limits_of_gates_are_those_of_the_messages() {
    assert_eq!(MAX_EXCHANGE_SEGMENTS, limits::MAX_SEGMENTS);
    assert_eq!(MAX_EXCHANGE_BITS as usize * TILE_ELEMS, 8 * limits::MAX_DATA_BYTES);
    assert_eq!(MAX_KEY_BYTES as usize * TILE_ELEMS, limits::MAX_KEY_PART_BYTES);
}

#[test]
fn every_gate_that_is_made_fits_its_messages_in_a_full_tile() {
    let zeros = Bytes::from(vec![0; limits::MAX_KEY_PART_BYTES]);
    let mut rng = StdRng::seed_from_u64(1);
    let (mut made, mut refused) = (0, 0);
    for gate in catalog::builtin() {
        fits(&gate, &zeros);
    }
    for _ in 0..2000 {
        match gate(random(&mut rng)) {
            Ok(gate) => {
                fits(&gate, &zeros);
                made += 1;
            }
            Err(error) => {
                let words = ["fit", "comparisons"];
                assert!(words.iter().any(|word| error.to_string().contains(word)), "{error}");
                refused += 1;
            }
        }
    }
    println!("{made} random gates fit, {refused} were refused");
    assert!(made > 500 && refused > 20, "{made} made, {refused} refused");
}

/// The widest message that a specification can have, four coefficients and an entry, and the one of the most values.
#[test]
fn gates_at_the_limits_of_a_message_run_in_full_tiles() {
    let cubic = SpecParts {
        pieces: Some(Pieces {
            cuts: (-40..40).map(|cut| cut * 64).collect(),
            polynomials: (0..81).map(|i| vec![i, 1 - i, i % 7, 3]).collect(),
        }),
        table: Some(Table { start: -512, values: (0..16).map(|i| 4_000_000 - i).collect() }),
        terms: vec![always(Value::Pieces(1)), always(Value::Table(-3))],
        ..plain()
    };
    let cubic = gate(cubic).expect("it fits");
    let bits: u32 = cubic.exchanges()[0].iter().map(|segment| u32::from(segment.bits)).sum();
    assert!(bits > 128 + 64, "{bits} bits");
    runs(&cubic);

    let switched = |i: i64| Term { when: Some(i as usize), value: Value::Fixed(vec![i + 1]) };
    let many = |count: i64| SpecParts {
        helpers: (0..count)
            .map(|i| Helper { name: format!("h{i}"), formula: Formula::Below((i - 32) * 64) })
            .collect(),
        terms: (0..count).map(switched).collect(),
        ..plain()
    };
    let most = gate(many(MAX_EXCHANGE_SEGMENTS as i64)).expect("it fits");
    assert_eq!(most.exchanges()[0].len(), MAX_EXCHANGE_SEGMENTS);
    runs(&most);
}

/// Pieces become opened bits where that is cheaper, unless these are too many for a message.
#[test]
fn pieces_are_looked_up_where_their_cuts_are_too_many_for_a_message() {
    for cuts in [63_i64, 64, 65, 255] {
        let pieces = Pieces {
            cuts: (0..cuts).map(|cut| (cut - 100) * 64).collect(),
            polynomials: (0..=cuts).map(|i| vec![i]).collect(),
        };
        let parts = SpecParts { pieces: Some(pieces), terms: vec![always(Value::Pieces(1))], ..plain() };
        fits(&gate(parts).expect("one way or the other"), &Bytes::from(vec![0; limits::MAX_KEY_PART_BYTES]));
    }
}

fn plain() -> SpecParts {
    SpecParts {
        domain_bits: 20,
        grid: 6,
        low_bits: 6,
        output_shift: 0,
        helpers: Vec::new(),
        pieces: None,
        table: None,
        terms: Vec::new(),
    }
}

fn always(value: Value) -> Term {
    Term { when: None, value }
}

fn gate(parts: SpecParts) -> Result<Gate, GateError> {
    let spec = Spec::new(parts).expect("within the limits of specifications");
    Gate::new("random", Shape::Suf(Suf::new(spec)?))
}

/// Encodes every message of a full tile, as the daemons do.
fn fits(gate: &Gate, zeros: &Bytes) {
    for (step, segments) in gate.exchanges().iter().enumerate() {
        let shapes: Vec<_> = segments.iter().map(|segment| (segment.bits, TILE_ELEMS as u32)).collect();
        let payload = Segments::new(&shapes).expect("widths and number of segments");
        assert_eq!(payload.bytes(), gate.message_bytes(step, TILE_ELEMS));
        let frame = DataFrame {
            depth: Causal::START.next().expect("the first"),
            ..DataFrame::new(PART, step as u8, payload.bits(), zeros.slice(..payload.bytes()))
        };
        PeerMessage::Frame(frame).encode().unwrap_or_else(|error| panic!("exchange {step}: {error}"));
    }
    for side in [Side::Seeded, Side::Explicit] {
        let bytes = zeros.slice(..gate.key_shape().tile_bytes(side, TILE_ELEMS));
        let tag = Tag::of(BatchId([0; 16]), Party::P0, PART, &[]);
        let key = DealerMessage::Key(KeyPart { part: PART, tag, bytes });
        key.encode().unwrap_or_else(|error| panic!("a key: {error}"));
    }
}

/// Deals and evaluates a full tile, every message in its encoding.
fn runs(gate: &Gate) {
    let x = inputs::awkward(gate, TILE_ELEMS, 5);
    let mut world = World::new(5);
    let batch = world.fresh_batch();
    let program = Arc::new(Program::of_gate(Arc::new(gate.clone()), TILE_ELEMS as u64).expect("of a size"));
    let outcome = world.run(&program, batch, &[inputs::share(&x, 5)]);
    for end in &outcome.ends {
        assert!(end.is_ok(), "{end:?}");
    }
    let [[first, second]] = &outcome.outputs[..] else { panic!("one output") };
    let y = first.iter().zip(second).map(|(a, b)| gate.output(*a, *b));
    for (x, y) in x.iter().zip(y) {
        assert!(gate.reference(*x).contains(&y), "x = {x} gives {y}");
    }
}

/// Specifications up to every limit: few or many helpers, cuts and terms, polynomials of every degree.
fn random(rng: &mut StdRng) -> SpecParts {
    let few = |rng: &mut StdRng, most: usize| {
        let most = if rng.random_bool(0.5) { most.min(4) } else { most };
        rng.random_range(0..=most)
    };
    let place = |rng: &mut StdRng| rng.random_range(-500..500_i64) * 64;
    let polynomial = |rng: &mut StdRng| -> Vec<i64> {
        (0..rng.random_range(1..=4)).map(|_| rng.random_range(-1000..1000)).collect()
    };
    let helpers: Vec<Helper> = (0..few(rng, 64))
        .map(|i| {
            let leaf = |rng: &mut StdRng| match rng.random_range(0..4) {
                0 => Formula::LowBelow(rng.random_range(1..64)),
                _ => Formula::Below(place(rng)),
            };
            let first = leaf(rng);
            let formula =
                (0..rng.random_range(0..8)).fold(first, |formula, _| match rng.random_range(0..3) {
                    0 => formula.and(leaf(rng)),
                    1 => formula.or(leaf(rng)),
                    _ => formula.xor(leaf(rng)),
                });
            Helper { name: format!("h{i}"), formula }
        })
        .collect();
    let mut cuts: Vec<i64> = (0..few(rng, 255)).map(|_| place(rng)).collect();
    cuts.sort_unstable();
    cuts.dedup();
    let polynomials = (0..=cuts.len()).map(|_| polynomial(rng)).collect();
    let values = (0..rng.random_range(1..200)).map(|_| rng.random_range(-(1 << 22) + 1..1 << 22)).collect();
    let terms = (0..1 + few(rng, 63))
        .map(|_| Term {
            when: (rng.random_bool(0.7) && !helpers.is_empty()).then(|| rng.random_range(0..helpers.len())),
            value: match rng.random_range(0..3) {
                0 => Value::Fixed(polynomial(rng)),
                1 => Value::Pieces(rng.random_range(1..100)),
                _ => Value::Table(rng.random_range(1..100)),
            },
        })
        .collect();
    SpecParts {
        helpers,
        pieces: Some(Pieces { cuts, polynomials }),
        table: Some(Table { start: -64 * 64, values }),
        terms,
        ..plain()
    }
}
