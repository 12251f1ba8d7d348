//! Folders of models: what is read, and what is said of broken ones.

mod tiny;

use half::{bf16, f16};
use safetensors::{Dtype, SafeTensors};
use suf_model::{
    Plan, Pooling, Summary, TextError,
    bert::{
        Bert, Ends, Length, Public, PublicError, Quantised, Reference, TYPE, compile_private, public_files,
    },
    plan,
    ranges::Ranges,
};
use tiny::{Files, Tensors};

fn changed(change: impl FnOnce(&mut Files)) -> String {
    let mut files = tiny::folder();
    change(&mut files);
    Bert::load(&files).map(|_| ()).expect_err("a broken folder").to_string()
}

#[test]
fn a_folder_is_read() {
    let model = Bert::load(&tiny::folder()).expect("a model");
    assert_eq!(model.layers.len(), tiny::LAYERS);
    assert_eq!(model.pooling, Pooling { summary: Summary::Mean, normalise: true });
    let elems: usize = tiny::tensors().values().map(|(_, values)| values.len()).sum();
    assert_eq!(model.config.parameters(), elems as u64);
    // Nine tokens: the tokenizer file's own truncation and padding to eight are off.
    let ids = model.tokens.encode("abc de fg", 64).expect("a text");
    assert_eq!(ids, [2, 5, 32, 33, 8, 35, 10, 37, 3]);
    assert_eq!(model.tokens.encode("a", 64).expect("a text"), [2, 5, 3]);
}

/// Those who evaluate its programs read no tokenizer and keep no floats.
#[test]
fn integers_are_the_same_without_the_rest_of_the_model() {
    let mut files = tiny::folder();
    let model = Bert::load(&files).expect("a model");
    let integers = Quantised::new(&model).expect("its weights are small");
    files.remove("tokenizer.json").expect("it was there");
    let (config, loaded) = Quantised::load(&files).expect("a model");
    assert_eq!(config, model.config);
    assert_eq!(loaded.digest(), integers.digest());
    for (loaded, integers) in loaded.layers.iter().zip(&integers.layers) {
        assert_eq!(
            [&loaded.query, &loaded.up, &loaded.down],
            [&integers.query, &integers.up, &integers.down]
        );
        assert_eq!(loaded.residual.bias, integers.residual.bias);
    }
}

#[test]
fn names_may_begin_with_that_of_the_model() {
    let named: Tensors =
        tiny::tensors().into_iter().map(|(name, tensor)| (format!("bert.{name}"), tensor)).collect();
    let mut files = tiny::folder();
    files.insert("model.safetensors".into(), tiny::safetensors(&named));
    let [plain, named] = [tiny::folder(), files].map(|files| Bert::load(&files).expect("a model"));
    assert_eq!(plain.words, named.words);
}

#[test]
fn halves_are_read_as_floats_that_hold_them() {
    for (dtype, encode, rounded) in [
        (
            Dtype::F16,
            (|x| f16::from_f32(x).to_le_bytes().to_vec()) as fn(f32) -> Vec<u8>,
            (|x| f16::from_f32(x).to_f32()) as fn(f32) -> f32,
        ),
        (Dtype::BF16, |x| bf16::from_f32(x).to_le_bytes().to_vec(), |x| bf16::from_f32(x).to_f32()),
    ] {
        let mut files = tiny::folder();
        files.insert("model.safetensors".into(), tiny::encoded(&tiny::tensors(), dtype, encode));
        let model = Bert::load(&files).expect("a model");
        let (_, values) = &tiny::tensors()["encoder.layer.1.output.dense.weight"];
        let expected: Vec<_> = values.iter().map(|value| rounded(*value)).collect();
        assert_eq!(model.layers[1].down.weight.values, expected, "{dtype:?}");
    }
}

#[test]
fn broken_folders_are_named_with_file_and_fault() {
    let config = |from: &str, to: &str| {
        let text = tiny::config().replace(from, to);
        assert_ne!(text, tiny::config(), "{from} is there");
        changed(|files| drop(files.insert("config.json".into(), text.into_bytes())))
    };
    let weights = |change: fn(&mut Tensors)| {
        let mut tensors = tiny::tensors();
        change(&mut tensors);
        changed(|files| drop(files.insert("model.safetensors".into(), tiny::safetensors(&tensors))))
    };
    let file = |name: &str, text: &str| changed(|files| drop(files.insert(name.into(), text.into())));
    let tokenizer = |from: &str, to: &str| {
        let text = String::from_utf8(tiny::folder()["tokenizer.json"].clone()).expect("text");
        assert!(text.contains(from), "{from} is there");
        file("tokenizer.json", &text.replacen(from, to, 1))
    };
    let missing = |name: &str| changed(|files| drop(files.remove(name)));
    let whole = tiny::folder()["model.safetensors"].clone();
    for (error, parts) in [
        (missing("config.json"), ["config.json: there is no such file", "name the folder of a model"]),
        (missing("model.safetensors"), ["model.safetensors: there is no such file", "name the folder"]),
        (missing("tokenizer.json"), ["tokenizer.json: there is no such file", "name the folder"]),
        (missing("1_Pooling/config.json"), ["1_Pooling/config.json: there is no", "name the folder"]),
        (file("config.json", "{"), ["config.json: it is no JSON", "get the file again"]),
        (file("config.json", "[]"), ["config.json: it is no JSON object", "get the file again"]),
        (config("\"bert\"", "\"gpt2\""), ["model_type is gpt2", "the architecture bert"]),
        (config("\"gelu\"", "\"swish\""), ["hidden_act is swish", "the activation gelu"]),
        (config("\"hidden_act\"", "\"act\""), ["the key hidden_act is missing", "get the file again"]),
        (config(":32", ":\"32\""), ["hidden_size is \"32\"", "a whole number from 1 to 8192"]),
        (config(":32", ":1000000"), ["hidden_size is 1000000", "a whole number from 1 to 8192"]),
        (config(":32", ":34"), ["hidden_size 34 is no multiple of num_attention_heads 4", "get the file"]),
        (config("1e-12", "-1"), ["layer_norm_eps is -1", "above 0"]),
        (config("{\"arch", "{\"is_decoder\":true,\"arch"), ["is_decoder is true", "an encoder alone"]),
        (
            config("{\"arch", "{\"position_embedding_type\":\"relative_key\",\"arch"),
            ["position_embedding_type is relative_key", "absolute positions"],
        ),
        (file("model.safetensors", "none"), ["model.safetensors: it is no safetensors file", "again"]),
        (
            changed(|files| {
                drop(files.insert("model.safetensors".into(), whole[..whole.len() / 2].to_vec()))
            }),
            ["model.safetensors: it is no safetensors file", "get the file again"],
        ),
        (
            changed(|files| {
                files.remove("model.safetensors");
                files.insert("pytorch_model.bin".into(), vec![0; 9]);
            }),
            ["there is no such file beside pytorch_model.bin", "save the model as one model.safetensors"],
        ),
        (
            changed(|files| drop(files.insert("model.safetensors".into(), vec![0; 65 << 20]))),
            ["model.safetensors: it has 68157440 bytes, and at most", "see that it is the model's own"],
        ),
        (
            weights(|tensors| drop(tensors.remove("embeddings.word_embeddings.weight"))),
            ["there is no tensor embeddings.word_embeddings.weight", "get the file again"],
        ),
        (
            weights(|tensors| drop(tensors.remove("encoder.layer.1.output.dense.bias"))),
            ["there is no tensor encoder.layer.1.output.dense.bias", "get the file again"],
        ),
        (
            weights(|tensors| {
                let (shape, _) = tensors.get_mut("encoder.layer.0.output.dense.weight").expect("there");
                shape.reverse();
            }),
            [
                "tensor encoder.layer.0.output.dense.weight has the shape [64, 32]",
                "config.json says [32, 64]",
            ],
        ),
        (
            weights(|tensors| {
                let (_, values) = tensors.get_mut("encoder.layer.0.output.LayerNorm.weight").expect("there");
                values[5] = f32::NAN;
            }),
            ["tensor encoder.layer.0.output.LayerNorm.weight has NaN as element 5", "get the file again"],
        ),
        (
            changed(|files| {
                let bytes =
                    tiny::encoded(&tiny::tensors(), Dtype::F64, |x| f64::from(x).to_le_bytes().to_vec());
                files.insert("model.safetensors".into(), bytes);
            }),
            ["is of type F64, and F32, F16 or BF16 are read", "save the model in one of these types"],
        ),
        (tokenizer("\"##\"", "\"\u{1}\""), ["tokenizer.json: it is no JSON", "get the file again"]),
        (
            tokenizer(
                r#"{"type":"BertNormalizer""#,
                r#"{"type":"Precompiled","precompiled_charsmap":"AA==""#,
            ),
            ["tokenizer.json: its normalizer is damaged", "get the file again"],
        ),
        (
            tokenizer(
                r#"{"type":"BertNormalizer""#,
                r#"{"type":"Sequence","normalizers":[{"type":"Precompiled","precompiled_charsmap":7}]"#,
            ),
            ["tokenizer.json: its normalizer is damaged", "get the file again"],
        ),
        (
            tokenizer(r#""special_tokens":{"[CLS]""#, r#""special_tokens":{"[CSL]""#),
            ["tokenizer.json: it puts {\"SpecialToken\":{\"id\":\"[CLS]\"", "which it does not have"],
        ),
        (
            tokenizer(r#"{"id":"A","type_id":0}"#, r#"{"id":"B","type_id":0}"#),
            ["tokenizer.json: it puts {\"Sequence\":{\"id\":\"B\"", "which it does not have"],
        ),
        (file("tokenizer.json", "{}"), ["tokenizer.json: it is no tokenizer", "get the file again"]),
        (config(":57}", ":56}"), ["tokenizer.json: it has a token 56, and the model of config.json 56", ""]),
        (file("modules.json", "{}"), ["modules.json: it is no list of modules", "get the file again"]),
        (
            file(
                "modules.json",
                r#"[{"type":"a.Transformer","path":""},{"type":"a.Dense","path":"1_Dense"}]"#,
            ),
            [
                "the modules Transformer, Dense are not supported",
                "Transformer, Pooling and perhaps Normalize",
            ],
        ),
        (
            file("modules.json", r#"[{"type":"Transformer","path":""},{"type":"Pooling","path":"../x"}]"#),
            ["the module's path \"../x\" is no name of a folder", "get the file again"],
        ),
        (
            file(
                "1_Pooling/config.json",
                r#"{"pooling_mode_mean_tokens":true,"pooling_mode_lasttoken":true,"pooling_mode_max_tokens":false}"#,
            ),
            ["pooling by [pooling_mode_lasttoken, pooling_mode_mean_tokens]", "take a model with one of"],
        ),
    ] {
        for part in parts {
            assert!(error.contains(part), "`{error}` lacks `{part}`");
        }
    }
}

#[test]
fn a_weight_that_is_too_large_is_refused_by_name() {
    let mut tensors = tiny::tensors();
    let (_, values) = tensors.get_mut("encoder.layer.1.intermediate.dense.weight").expect("there");
    values[7] = 1e6;
    let mut files = tiny::folder();
    files.insert("model.safetensors".into(), tiny::safetensors(&tensors));
    let error = Quantised::new(&Bert::load(&files).expect("floats")).expect_err("no integers").to_string();
    assert!(error.contains("encoder.layer.1.intermediate.dense") && error.contains("below 2^17"), "{error}");
}

#[test]
fn texts_that_cannot_be_taken_say_why() {
    let model = Bert::load(&tiny::folder()).expect("a model");
    let encode = |text: &str| model.tokens.encode(text, 8);
    assert_eq!(encode(" \n"), Err(TextError::Empty));
    assert_eq!(encode("abcdefg"), Err(TextError::Long { tokens: 9, most: 8 }));
    assert_eq!(encode("abcdef").map(|ids| ids.len()), Ok(8));
    assert_eq!(encode(&"a ".repeat(1 << 20)), Err(TextError::Large { bytes: 2 << 20 }));
    let mut files = tiny::folder();
    let text = String::from_utf8(files["tokenizer.json"].clone()).expect("text");
    files.insert("tokenizer.json".into(), text.replace("\"ids\":[2]", "\"ids\":[57]").into_bytes());
    let strange = Bert::load(&files).expect("a model").tokens.encode("a", 8);
    assert!(
        matches!(&strange, Err(TextError::Tokenizer(problem)) if problem.contains("a token 57")),
        "{strange:?}"
    );
    let cut = model.tokens.encode_cut("abcdefghij", 8).expect("cut");
    assert_eq!(cut, [2, 5, 32, 33, 34, 35, 36, 3], "the last token ends every text");
}

#[test]
fn pooling_is_as_the_folder_says() {
    let rows = [[3.0, -1.0], [1.0, 5.0]];
    let pooled = |summary, normalise| Pooling { summary, normalise }.apply(rows.iter().map(|row| &row[..]));
    assert_eq!(pooled(Summary::Mean, false), [2.0, 2.0]);
    assert_eq!(pooled(Summary::First, false), [3.0, -1.0]);
    assert_eq!(pooled(Summary::Max, false), [3.0, 5.0]);
    assert_eq!(pooled(Summary::MeanRoot, false), [4.0 / 2f64.sqrt(); 2]);
    assert_eq!(pooled(Summary::Mean, true), [2.0 / 8f64.sqrt(); 2]);
}

/// The public part of a model with private weights lacks all that its layers compute with. It serves clients as the model does.
#[test]
fn the_public_part_has_no_weight_of_a_layer() {
    let files = tiny::folder();
    let model = Bert::load(&files).expect("a model");
    let integers = Quantised::new(&model).expect("its weights are small");
    let reference = Reference::new(&model);
    let mut ranges = Ranges::none(tiny::LAYERS, tiny::HEADS);
    let ids = model.tokens.encode("some text", tiny::POSITIONS).expect("a text");
    reference.measure(&ids, 16, &mut ranges);
    let plan = Plan::new(TYPE, *integers.digest(), &ranges);
    let found = public_files(&files, &plan, [7; 32]).expect("a public part");
    let names: Vec<_> = found.keys().map(String::as_str).collect();
    let expected = [
        "1_Pooling/config.json",
        "config.json",
        "model.safetensors",
        "modules.json",
        "plan.toml",
        "tokenizer.json",
    ];
    assert_eq!(names, expected);
    let read = SafeTensors::deserialize(&found["model.safetensors"]).expect("tensors");
    let mut tensors = read.names();
    tensors.sort_unstable();
    let last = format!("encoder.layer.{}.output.LayerNorm", tiny::LAYERS - 1);
    let norm = ["bias", "weight"].map(|part| format!("{last}.{part}"));
    let expected = [
        "embeddings.position_embeddings.weight",
        "embeddings.token_type_embeddings.weight",
        "embeddings.word_embeddings.weight",
        &norm[0],
        &norm[1],
    ];
    assert_eq!(tensors, expected);
    let text = String::from_utf8(found["plan.toml"].clone()).expect("a text");
    assert_eq!(Plan::parse(&text), Ok(Plan { model: [7; 32], ..plan.clone() }));
    assert!(!text.contains(&plan::hex(integers.digest())));

    let public = Public::load(&found).expect("a public part");
    assert_eq!(public.config, model.config);
    assert_eq!(Ends::from(&public).embed(&ids), Ends::from(&model).embed(&ids));
    let length = Length { tokens: ids.len() as u32, batch: 1, padded: false };
    let compiled =
        compile_private(&public.config, &[7; 32], &Plan { model: [7; 32], ..plan.clone() }, length);
    let compiled = compiled.expect("a program");
    let output: Vec<i64> = (0..(ids.len() * tiny::HIDDEN) as i64).map(|at| (at % 97 - 48) << 20).collect();
    assert_eq!(compiled.inputs(&public, &[&ids]), compiled.inputs(&model, &[&ids]));
    assert_eq!(compiled.vectors(&public, &[&ids], &output), compiled.vectors(&model, &[&ids], &output));

    let other = Plan { layers: plan.layers[1..].to_vec(), ..plan.clone() };
    assert!(matches!(public_files(&files, &other, [7; 32]), Err(PublicError::Plan(_))));
    assert!(Bert::load(&found).is_err(), "it has no layers");
}
