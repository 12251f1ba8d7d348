//! What people and clients hand in.

use std::{collections::BTreeMap, path::Path};

use suf_cli::npy;
use suf_control::{shares, v1};
use suf_gate::{gatefile::GateFile, spec::SpecFile};
use suf_link::{LinkProfile, Request, pem, role_of};
use suf_model::{Plan, bert::Bert};
use suf_process::{Configuration, weights};

/// Tensors in files, archives among them: what is read can be written and read again, bit by bit.
///
/// # Panics
/// When that does not hold.
pub fn tensor(bytes: &[u8]) {
    for bfloat16 in [false, true] {
        let Ok(array) = npy::read_from(bytes, npy::Reading { bfloat16 }) else { continue };
        let form = array.form();
        assert!(
            !form.is_empty()
                && form.index(form.len() - 1).iter().zip(&form.shape).all(|(at, length)| *at == length - 1)
        );
        // A written bfloat16 has no name, as that of ml_dtypes.
        let reading = npy::Reading { bfloat16: form.dtype == npy::Dtype::Bf16 };
        for format in [npy::Format::Npy, npy::Format::Npz] {
            let mut written = Vec::new();
            npy::write_to(&mut written, format, form, |out| out.write_all(array.data()))
                .expect("memory takes all");
            let again = npy::read_from(&written, reading).expect("own files can be read");
            // Bytes are compared: NaN is not equal to itself.
            assert_eq!(again, array);
        }
    }
}

/// Files of operators: specifications, gates and link profiles. No text makes them panic or run on.
pub fn spec(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        // An error is as good as a file.
        let _ = SpecFile::parse("fuzz", text);
        let _ = GateFile::parse("fuzz", text);
        let _ = LinkProfile::parse("fuzz", text);
    }
}

/// Files of quantised weights: what is read has the shape that it says, and equal bytes have equal digests.
///
/// # Panics
/// When that does not hold.
pub fn weights(bytes: &[u8]) {
    let Ok(found) = weights::decode(bytes) else { return };
    let again = weights::decode(bytes).expect("what was read can be read again");
    assert!(!found.is_empty() && found == again);
    for (_, matrix) in found {
        assert_eq!(matrix.values().len() as u64, u64::from(matrix.rows()) * u64::from(matrix.cols()));
        assert!(matrix.bias().is_empty() || matrix.bias().len() as u64 == u64::from(matrix.cols()));
    }
}

/// The files of a model's folder, each with a seed that is whole. The seed's first byte is the file's number.
pub const MODEL_FILES: [(&str, &[u8]); 6] = [
    ("config.json", include_bytes!("../../fuzz/seeds/model/config")),
    ("model.safetensors", include_bytes!("../../fuzz/seeds/model/safetensors")),
    ("tokenizer.json", include_bytes!("../../fuzz/seeds/model/tokenizer")),
    ("modules.json", include_bytes!("../../fuzz/seeds/model/modules")),
    ("1_Pooling/config.json", include_bytes!("../../fuzz/seeds/model/pooling")),
    ("plan.toml", include_bytes!("../../fuzz/seeds/model/plan")),
];

/// Files of models: the first byte says which one, the others are its content, and the rest of the folder is whole. What is loaded
/// has the sizes of its configuration and cuts texts into tokens that it knows; a plan can be written and read again.
///
/// # Panics
/// When that does not hold.
pub fn model(bytes: &[u8]) {
    let Some((number, content)) = bytes.split_first() else { return };
    let Some((name, _)) = MODEL_FILES.get(usize::from(*number)) else { return };
    if *name == suf_model::plan::FILE {
        if let Ok(plan) = suf_toml::text(content).and_then(Plan::parse) {
            assert_eq!(Plan::parse(&plan.to_toml()), Ok(plan));
        }
        return;
    }
    let mut folder: BTreeMap<String, Vec<u8>> =
        MODEL_FILES.iter().map(|(name, seed)| ((*name).to_owned(), seed[1..].to_vec())).collect();
    folder.insert((*name).to_owned(), content.to_vec());
    // An error is as good as a model.
    let Ok(model) = Bert::load(&folder) else { return };
    assert_eq!(model.layers.len(), model.config.layers as usize);
    assert_eq!(
        model.words.values.len() as u64,
        u64::from(model.config.vocabulary) * u64::from(model.config.hidden)
    );
    for text in ["ab", " b a", "\u{e9}\u{4e16}"] {
        let Ok(tokens) = model.tokens.encode_cut(text, model.config.positions as usize) else { continue };
        assert!(tokens.iter().all(|token| *token < model.config.vocabulary));
    }
}

/// Files of certificates, keys, revocation lists and requests: as text, and as the bytes that a text of each kind stands for. None makes
/// them panic, and a request that is taken is one by its own signature.
///
/// # Panics
/// When that does not hold.
pub fn certificates(bytes: &[u8]) {
    certificate_text(bytes);
    for label in ["CERTIFICATE", "PRIVATE KEY", "X509 CRL", "CERTIFICATE REQUEST"] {
        certificate_text(::pem::encode(&::pem::Pem::new(label, bytes)).as_bytes());
    }
}

fn certificate_text(text: &[u8]) {
    if let Ok(found) = pem::certificates(text) {
        for certificate in found {
            // An error is as good as a role.
            let _ = role_of(&certificate);
        }
    }
    let _ = pem::private_key(text);
    let _ = pem::revocation_lists(text);
    if let Ok(request) = Request::parse(text) {
        assert_eq!(request.fingerprint().len(), 64);
    }
}

/// Configurations of the daemons. No text makes them panic.
pub fn config(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        let path = Path::new("/etc/suf/fuzz.toml");
        // An error is as good as a configuration.
        let _ = suf_server::Config::parse(text, path);
        let _ = suf_dealer::Config::parse(text, path);
    }
}

/// Payloads of the control API: every message that a caller can send, and the shares in them.
///
/// # Panics
/// When what decodes does not decode again from its own encoding, or shares do not pack to what they were.
pub fn control(bytes: &[u8]) {
    payload::<v1::StartRunRequest>(bytes);
    payload::<v1::RunRef>(bytes);
    payload::<v1::OutputRef>(bytes);
    payload::<v1::ListRunsRequest>(bytes);
    payload::<v1::LoadRef>(bytes);
    payload::<v1::DescribeRequest>(bytes);
    payload::<v1::InputPart>(bytes);
    payload::<v1::OutputPart>(bytes);
    payload::<v1::ListBatchesRequest>(bytes);
    for ring_bits in [1, 36, 48, 64] {
        let mut elements = Vec::new();
        if shares::unpack_into(ring_bits, bytes, 1 << 20, &mut elements).is_ok() {
            assert_eq!(&shares::pack(ring_bits, &elements)[..], bytes);
        }
    }
}

/// Protocol buffers have many encodings of one message; ours is among them.
fn payload<M: prost::Message + Default>(bytes: &[u8]) {
    if let Ok(message) = M::decode(bytes) {
        let encoded = message.encode_to_vec();
        let again = M::decode(&encoded[..]).expect("own encodings decode");
        assert_eq!(again.encode_to_vec(), encoded);
    }
}
