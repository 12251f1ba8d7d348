//! From a model and a plan to the steps of a program.

mod tiny;

use suf_model::{
    Plan,
    bert::{Bert, Length, Quantised, Reference, TYPE, bucket, compile},
    heads::{Group, groups},
    plan::PlanError,
    ranges::{Ranges, Span},
};

const TEXTS: [&str; 4] = ["a", "the quick brown fox", "jumps over", "zz zz zz zz zz zz zz zz zz"];

struct Tiny {
    model: Bert,
    integers: Quantised,
    plan: Plan,
}

fn tiny() -> Tiny {
    let model = Bert::load(&tiny::folder()).expect("a model");
    let integers = Quantised::new(&model).expect("its weights are small");
    let reference = Reference::new(&model);
    let mut ranges = Ranges::none(tiny::LAYERS, tiny::HEADS);
    for text in TEXTS {
        let ids = model.tokens.encode(text, tiny::POSITIONS).expect("a text");
        let padded = bucket(ids.len() as u32, tiny::POSITIONS as u32).expect("it fits");
        reference.measure(&ids, padded as usize, &mut ranges);
    }
    let plan = Plan::new(TYPE, *integers.digest(), &ranges);
    Tiny { model, integers, plan }
}

#[test]
fn padding_changes_the_reference_by_its_rounding_alone() {
    let Tiny { model, .. } = tiny();
    let reference = Reference::new(&model);
    let ids = model.tokens.encode("some text", tiny::POSITIONS).expect("a text");
    let exact = reference.forward(&ids, ids.len(), None);
    let mut padded = ids.clone();
    padded.resize(32, 3);
    let padded = reference.forward(&padded, ids.len(), None);
    for (exact, padded) in exact.iter().zip(&padded) {
        assert!((exact - padded).abs() < 1e-12, "{exact} {padded}");
    }
}

#[test]
fn a_plan_is_read_as_it_was_written() {
    let Tiny { plan, .. } = tiny();
    let text = plan.to_toml();
    assert_eq!(Plan::parse(&text).expect("a plan"), plan);
    for (from, to, reason) in [
        ("version = 1", "version = 2", "this program reads version 1"),
        ("inner = ", "inside = ", "there is no key `inside`"),
        ("model = \"", "model = \"xx", "64 hexadecimal digits"),
        ("inner = ", "inner = -", "layer 0: inner is -"),
        ("texts = 4\n", "", "the key `texts` is missing"),
        ("\"bert\"", "'be\"rt'", "architecture is no name"),
    ] {
        assert!(text.contains(from), "{from} is in the plan");
        let error = Plan::parse(&text.replacen(from, to, 1)).expect_err(reason).to_string();
        assert!(error.contains(reason), "{error}");
    }
}

#[test]
fn ranges_beyond_a_plan_are_named() {
    let Tiny { model, plan, .. } = tiny();
    let mut ranges = Ranges::none(tiny::LAYERS, tiny::HEADS);
    let ids = model.tokens.encode(TEXTS[1], tiny::POSITIONS).expect("a text");
    Reference::new(&model).measure(&ids, 32, &mut ranges);
    assert_eq!((plan.holds(&ranges, false), plan.holds(&ranges, true)), (Ok(()), Ok(())));
    ranges.layers[1].padded[2].max = 1e3;
    assert_eq!(plan.holds(&ranges, false), Ok(()), "it has no padding");
    let error = plan.holds(&ranges, true).expect_err("beyond");
    assert!(
        error.contains("layer 1: scores of head 2 lie between") && error.contains("and 1000.0000"),
        "{error}"
    );
    ranges.layers[0].output.variance.min = 1e-9;
    let error = plan.holds(&ranges, false).expect_err("beyond");
    assert!(error.contains("layer 0: variances behind the feed-forward block"), "{error}");
}

#[test]
fn a_plan_of_another_model_is_refused() {
    let Tiny { model, integers, plan } = tiny();
    let length = Length { tokens: 16, batch: 1, padded: false };
    let other = Plan { model: [7; 32], ..plan.clone() };
    let error = compile(&model.config, &integers, &other, length).expect_err("another's").to_string();
    assert!(error.contains("the plan belongs to the model 0707") && error.contains("calibrate"), "{error}");
    let mut shorter = plan.clone();
    shorter.layers.pop();
    let sizes = shorter.suits(integers.digest(), tiny::LAYERS, tiny::HEADS);
    assert!(matches!(sizes, Err(PlanError::Sizes(_))), "{sizes:?}");
    for tokens in [0, 65] {
        let error =
            compile(&model.config, &integers, &plan, Length { tokens, ..length }).expect_err("a limit");
        assert_eq!(error.to_string(), format!("the model takes 1 to 64 tokens, not {tokens}"));
    }
}

#[test]
fn a_layer_takes_fifteen_rounds() {
    let Tiny { model, integers, plan } = tiny();
    for padded in [false, true] {
        for (tokens, batch) in [(3, 1), (16, 1), (32, 4)] {
            let length = Length { tokens, batch, padded };
            let compiled = compile(&model.config, &integers, &plan, length).expect("a program");
            assert_eq!(compiled.program.rounds(), 15 * tiny::LAYERS as u16);
            assert_eq!(compiled.masks.is_empty(), !padded);
            assert_eq!(compiled.program.nodes().count(), compiled.about.len());
        }
    }
}

/// Texts of a hundred lengths need a hundred programs, and their weights are in memory once.
#[test]
fn programs_of_a_model_share_their_matrices() {
    let Tiny { model, integers, plan } = tiny();
    let program = |tokens| {
        let length = Length { tokens, batch: 1, padded: false };
        compile(&model.config, &integers, &plan, length).expect("a program").weights
    };
    let (short, long) = (program(3), program(9));
    let shared = short.iter().filter(|mine| long.iter().any(|theirs| std::sync::Arc::ptr_eq(mine, theirs)));
    // All but the ones that sum the elements of a row.
    assert_eq!(shared.count(), short.iter().filter(|weights| weights.rows() != 3).count());
    assert!(short.iter().any(|weights| weights.rows() == 3));
}

#[test]
fn bounds_that_no_ring_holds_are_refused() {
    let Tiny { model, integers, plan } = tiny();
    let length = Length { tokens: 16, batch: 1, padded: false };
    let refused = |change: fn(&mut Plan)| {
        let mut plan = plan.clone();
        change(&mut plan);
        compile(&model.config, &integers, &plan, length).expect_err("too wide").to_string()
    };
    for (error, reason) in [
        (
            refused(|plan| plan.layers[1].scores[2] = Span { min: -900.0, max: 900.0 }),
            "layer 1 scores of head 2",
        ),
        (refused(|plan| plan.layers[0].attention.variance.max = 1e11), "layer 0 attention squares"),
        (refused(|plan| plan.layers[0].output.variance.min = 1e-11), "layer 0 feed-forward root"),
    ] {
        assert!(error.contains(reason) && error.contains("the plan's range is too wide"), "{error}");
    }
}

#[test]
fn heads_share_a_modulus_that_suffices() {
    let span = |min: f64, max: f64| Span { min, max };
    let scores = [span(-9.0, 3.0), span(-100.0, 60.0), span(-20.0, 30.0), span(-60.0, 170.0), span(2.0, 9.0)];
    let made = groups(&scores, 128, false).expect("all fit");
    let found: Vec<_> = made.iter().map(|group| (group.scores.bits, group.heads.clone())).collect();
    assert_eq!(found, [(128, vec![0]), (256, vec![2, 4]), (512, vec![1, 3])]);
    for group in &made {
        assert_eq!((group.scores.low, group.mask), (group.scores.row_low, None));
        for head in &group.heads {
            let held = f64::from(group.scores.low)..=f64::from(group.scores.high);
            assert!(held.contains(&scores[*head].min) && held.contains(&scores[*head].max));
        }
    }
    let masked = groups(&scores, 128, true).expect("all fit");
    for Group { scores, mask, .. } in &masked {
        assert_eq!(*mask, Some(scores.low - scores.row_low));
        assert!(scores.row_low - scores.low >= scores.high - scores.row_low + 20, "{scores:?}");
        assert_eq!(scores.check(), Ok(()));
    }
    assert!(groups(&[span(-1e300, 1e300)], 128, false).is_err());
}
