//! A tiny random BERT as a folder in memory: the same on every machine.

use std::collections::BTreeMap;

use safetensors::{Dtype, tensor::TensorView};

/// Its sizes.
pub(crate) const HIDDEN: usize = 32;
/// See [`HIDDEN`].
pub(crate) const INNER: usize = 64;
/// See [`HIDDEN`].
pub(crate) const HEADS: usize = 4;
/// See [`HIDDEN`].
pub(crate) const LAYERS: usize = 2;
/// See [`HIDDEN`].
pub(crate) const POSITIONS: usize = 64;

/// The tokenizer's own tokens.
const SPECIAL: [&str; 5] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];

/// The folder's files by name.
pub(crate) type Files = BTreeMap<String, Vec<u8>>;

/// Tensors by name: shape and values.
pub(crate) type Tensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

/// The folder, its weights in 32-bit floats.
pub(crate) fn folder() -> Files {
    let modules = r#"[{"idx":0,"name":"0","path":"","type":"sentence_transformers.models.Transformer"},
        {"idx":1,"name":"1","path":"1_Pooling","type":"sentence_transformers.models.Pooling"},
        {"idx":2,"name":"2","path":"2_Normalize","type":"sentence_transformers.models.Normalize"}]"#;
    [
        ("config.json", config().into_bytes()),
        ("model.safetensors", safetensors(&tensors())),
        ("tokenizer.json", tokenizer().into_bytes()),
        ("modules.json", modules.into()),
        (
            "1_Pooling/config.json",
            r#"{"word_embedding_dimension":32,"pooling_mode_mean_tokens":true}"#.into(),
        ),
    ]
    .map(|(name, bytes)| (name.to_owned(), bytes))
    .into()
}

/// The configuration.
pub(crate) fn config() -> String {
    let vocabulary = vocabulary().len();
    format!(
        r#"{{"architectures":["BertModel"],"model_type":"bert","hidden_act":"gelu","hidden_size":{HIDDEN},
        "intermediate_size":{INNER},"layer_norm_eps":1e-12,"max_position_embeddings":{POSITIONS},
        "num_attention_heads":{HEADS},"num_hidden_layers":{LAYERS},"type_vocab_size":2,"vocab_size":{vocabulary}}}"#
    )
}

/// All tensors.
pub(crate) fn tensors() -> Tensors {
    let mut random = Random(0x5EED);
    let mut made = Tensors::new();
    let mut add = |name: String, shape: &[usize], mean: f32, deviation: f32| {
        let values = (0..shape.iter().product()).map(|_| mean + deviation * random.normal()).collect();
        made.insert(name, (shape.to_vec(), values));
    };
    for (name, rows) in [("word", vocabulary().len()), ("position", POSITIONS), ("token_type", 2)] {
        add(format!("embeddings.{name}_embeddings.weight"), &[rows, HIDDEN], 0.0, 0.5);
    }
    let mut norms = vec!["embeddings.LayerNorm".to_owned()];
    for layer in 0..LAYERS {
        for (part, outputs, inputs) in [
            ("attention.self.query", HIDDEN, HIDDEN),
            ("attention.self.key", HIDDEN, HIDDEN),
            ("attention.self.value", HIDDEN, HIDDEN),
            ("attention.output.dense", HIDDEN, HIDDEN),
            ("intermediate.dense", INNER, HIDDEN),
            ("output.dense", HIDDEN, INNER),
        ] {
            let name = format!("encoder.layer.{layer}.{part}");
            add(format!("{name}.weight"), &[outputs, inputs], 0.0, 0.25);
            add(format!("{name}.bias"), &[outputs], 0.0, 0.1);
        }
        norms.extend(
            ["attention.output", "output"].map(|part| format!("encoder.layer.{layer}.{part}.LayerNorm")),
        );
    }
    for name in norms {
        add(format!("{name}.weight"), &[HIDDEN], 1.0, 0.1);
        add(format!("{name}.bias"), &[HIDDEN], 0.0, 0.1);
    }
    made
}

/// The file of these tensors, in 32-bit floats.
pub(crate) fn safetensors(tensors: &Tensors) -> Vec<u8> {
    encoded(tensors, Dtype::F32, |value| value.to_le_bytes().to_vec())
}

/// The file of these tensors, each value as `encode` has it.
pub(crate) fn encoded(tensors: &Tensors, dtype: Dtype, encode: impl Fn(f32) -> Vec<u8>) -> Vec<u8> {
    let bytes: BTreeMap<_, _> = tensors
        .iter()
        .map(|(name, (shape, values))| {
            (name, (shape, values.iter().flat_map(|value| encode(*value)).collect::<Vec<_>>()))
        })
        .collect();
    let views = bytes.iter().map(|(name, (shape, bytes))| {
        (name.as_str(), TensorView::new(dtype, (*shape).clone(), bytes).expect("lengths fit"))
    });
    safetensors::serialize(views, None).expect("a file")
}

/// The tokenizer's own tokens, letters, and letters within a word: it takes every word of small letters.
fn vocabulary() -> Vec<String> {
    let letters = || ('a'..='z').map(|letter| letter.to_string());
    let within = letters().map(|letter| format!("##{letter}"));
    SPECIAL.into_iter().map(str::to_owned).chain(letters()).chain(within).collect()
}

fn tokenizer() -> String {
    let vocabulary = vocabulary();
    let ids: Vec<_> = vocabulary.iter().enumerate().map(|(id, token)| format!("\"{token}\":{id}")).collect();
    let added: Vec<_> = SPECIAL
        .iter()
        .enumerate()
        .map(|(id, token)| {
            format!(
                r#"{{"id":{id},"content":"{token}","single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":true}}"#
            )
        })
        .collect();
    // Truncation and padding as sentence-transformers saves them: they have to be off.
    format!(
        r###"{{"version":"1.0",
        "truncation":{{"max_length":8,"strategy":"LongestFirst","stride":0,"direction":"Right"}},
        "padding":{{"strategy":{{"Fixed":8}},"direction":"Right","pad_to_multiple_of":null,"pad_id":0,"pad_type_id":0,"pad_token":"[PAD]"}},
        "added_tokens":[{}],
        "normalizer":{{"type":"BertNormalizer","clean_text":true,"handle_chinese_chars":true,"strip_accents":null,"lowercase":true}},
        "pre_tokenizer":{{"type":"BertPreTokenizer"}},
        "post_processor":{{"type":"TemplateProcessing",
            "single":[{{"SpecialToken":{{"id":"[CLS]","type_id":0}}}},{{"Sequence":{{"id":"A","type_id":0}}}},{{"SpecialToken":{{"id":"[SEP]","type_id":0}}}}],
            "pair":[{{"Sequence":{{"id":"A","type_id":0}}}},{{"Sequence":{{"id":"B","type_id":1}}}}],
            "special_tokens":{{"[CLS]":{{"id":"[CLS]","ids":[2],"tokens":["[CLS]"]}},"[SEP]":{{"id":"[SEP]","ids":[3],"tokens":["[SEP]"]}}}}}},
        "decoder":{{"type":"WordPiece","prefix":"##","cleanup":true}},
        "model":{{"type":"WordPiece","unk_token":"[UNK]","continuing_subword_prefix":"##","max_input_chars_per_word":100,"vocab":{{{}}}}}}}"###,
        added.join(","),
        ids.join(",")
    )
}

/// Numbers that look random (xorshift64*).
struct Random(u64);

impl Random {
    /// Between 0 and 1.
    fn uniform(&mut self) -> f32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 40;
        number as f32 / (1u32 << 24) as f32
    }

    /// Nearly normal, of mean 0 and deviation 1: sums and differences of such numbers alone are the same on every machine.
    fn normal(&mut self) -> f32 {
        (0..12).map(|_| self.uniform()).sum::<f32>() - 6.0
    }
}
