//! Changed files of a model: nothing panics, what is read is finite, and a plan that is read is written and read again.

mod tiny;

use suf_model::{
    Plan, Pooling,
    bert::{Config, Quantised, TYPE},
    ranges::{Ranges, Span},
    tensors::Tensors,
};

/// Changed copies of each file.
const CHANGES: u64 = 3000;

/// A number that looks random (splitmix64).
fn number(at: u64) -> u64 {
    let mut z = at.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Copies of `file` with a few bytes changed, taken out, put in or cut off.
fn changed(file: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    (0..CHANGES).map(move |copy| {
        let mut bytes = file.to_vec();
        for change in 0..=copy % 3 {
            let random = number(3 * copy + change);
            let at = (random >> 16) as usize % bytes.len().max(1);
            match random % 5 {
                0 if at < bytes.len() => bytes[at] ^= 1 << (random >> 8 & 7),
                1 if at < bytes.len() => drop(bytes.remove(at)),
                2 => bytes.truncate(at),
                3 => bytes.insert(at.min(bytes.len()), b"0\"[]{}-.\\e"[(random >> 8) as usize % 10]),
                _ => {
                    let end = bytes.len().min(at + (random >> 56) as usize);
                    let piece = bytes.get(at..end).unwrap_or_default().to_vec();
                    bytes.extend(piece);
                }
            }
        }
        bytes
    })
}

#[test]
fn changed_plans_are_read_as_they_are_written_or_refused() {
    let mut ranges = Ranges::none(2, 4);
    let span = Span { min: -3.25, max: 17.5 };
    for layer in &mut ranges.layers {
        layer.scores.fill(span);
        layer.padded.fill(span);
        (layer.value, layer.inner) = (span, span);
        for norm in [&mut layer.attention, &mut layer.output] {
            (norm.hidden, norm.variance) = (span, Span { min: 0.07, max: 130.0 });
        }
    }
    let text = Plan::new(TYPE, [0xA7; 32], &ranges).to_toml();
    let mut taken = 0;
    for bytes in changed(text.as_bytes()) {
        let Ok(text) = String::from_utf8(bytes) else { continue };
        if let Ok(plan) = Plan::parse(&text) {
            assert_eq!(Plan::parse(&plan.to_toml()), Ok(plan), "{text}");
            taken += 1;
        }
    }
    assert!(taken > 0, "every change was refused");
}

#[test]
fn changed_files_of_a_folder_are_read_or_refused() {
    let files = tiny::folder();
    for name in ["config.json", "modules.json", "1_Pooling/config.json"] {
        for bytes in changed(&files[name]) {
            let mut files = files.clone();
            files.insert(name.to_owned(), bytes);
            if let Ok(config) = Config::load(&files) {
                assert!(config.hidden.is_multiple_of(config.heads) && config.parameters() > 0);
            }
            // An error is as good as a way of pooling.
            let _ = Pooling::load(&files);
        }
    }
    let file = &files["model.safetensors"];
    // Changes of the header, which has the first few thousand bytes, and of values.
    for bytes in changed(&file[..8192]).take(300) {
        let whole = [&bytes, &file[8192..]].concat();
        let Ok(tensors) = Tensors::parse(&whole, "embeddings.word_embeddings.weight", &["", "bert."]) else {
            continue;
        };
        if let Ok(matrix) = tensors.matrix("encoder.layer.0.output.dense.weight", tiny::HIDDEN, tiny::INNER) {
            assert!(matrix.values.iter().all(|value| value.is_finite()));
            assert_eq!(matrix.values.len(), tiny::HIDDEN * tiny::INNER);
        }
    }
    let model = suf_model::bert::Bert::load(&files).expect("a model");
    let digests = [(); 2].map(|()| *Quantised::new(&model).expect("its weights are small").digest());
    assert_eq!(digests[0], digests[1], "integers are the same each time");
}
