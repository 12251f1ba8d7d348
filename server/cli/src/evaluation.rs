//! What is around an evaluation, whoever asks for it: the choice of a gate, figures, and the verdict on the outputs.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use suf_control::{
    failure::CallFailure,
    v1::{Fault, InfoRequest},
};
use suf_gate::{Gate, Protocol};
use suf_wire::Party;

use crate::{
    choose::Measured,
    client::{Outcome, Parties},
    error::Error,
    gates::{self, Definition},
    npy::Array,
    tensor::{Accuracy, Tensor},
};

/// How often, and how far apart, party 0 is asked for its link to party 1. Together that is as long as a run would wait
/// for it.
const PEER_QUERIES: u32 = 100;
const PEER_PAUSE: Duration = Duration::from_millis(100);

/// A gate, with the tensor encoded for it.
pub type Candidate<'a> = (Gate, Tensor<'a>);

/// The gates to choose from: that of `protocol`, or of all protocols that can evaluate `file` on `input`. `source` says where the
/// tensor comes from. There is one at least.
///
/// # Errors
/// When there is none, with the reason.
pub fn candidates<'a>(
    file: &Definition,
    protocol: Option<Protocol>,
    shape: Option<&str>,
    input: &Arc<Array<'a>>,
    source: &str,
) -> Result<Vec<Candidate<'a>>, Error> {
    let encode = |gate: Gate| {
        let tensor = Tensor::encode(input, &gate, source.to_owned())?;
        Ok((gate, tensor))
    };
    if let Some(protocol) = protocol {
        return Ok(vec![encode(gates::gate(file, protocol, shape)?)?]);
    }
    // suf-lut computes another function: it is never chosen for anybody.
    let gates = gates::available(file, shape)?.into_iter().filter(|gate| gate.protocol() != Protocol::SufLut);
    let (fitting, refused): (Vec<_>, Vec<_>) = gates.map(encode).partition(Result::is_ok);
    let fitting: Vec<_> = fitting.into_iter().flatten().collect();
    match refused.into_iter().find_map(Result::err) {
        Some(error) if fitting.is_empty() => Err(error),
        _ if fitting.is_empty() => {
            Err(Error::usage(format!("no protocol evaluates {} as it is", file.name())))
        }
        _ => Ok(fitting),
    }
}

/// The candidate that is fastest on the links as measured, and why.
///
/// # Errors
/// When party 0 does not answer, or has no link to party 1.
///
/// # Panics
/// Without a candidate.
pub async fn fastest<'a>(
    parties: &Parties,
    mut candidates: Vec<Candidate<'a>>,
) -> Result<(Candidate<'a>, String), Error> {
    let measured = measured(parties).await?;
    let elements = candidates.first().map_or(0, |(_, tensor)| tensor.elements());
    let gates = candidates.iter().map(|(gate, _)| gate.clone()).collect();
    let (chosen, why) = measured.choose(gates, elements).expect("there is at least one candidate");
    candidates.retain(|(gate, _)| *gate == chosen);
    Ok((candidates.swap_remove(0), why))
}

/// The links as party 0 measures them. Parties that were started just now may still be connecting.
///
/// # Errors
/// When party 0 does not answer, or has no link to party 1.
pub async fn measured(parties: &Parties) -> Result<Measured, Error> {
    for _ in 0..PEER_QUERIES {
        let info = parties.party(Party::P0).info(InfoRequest {}).await;
        let info = info.map_err(|status| Error::call("party 0", status))?.into_inner();
        if info.peer.is_some() {
            return Ok(Measured::of(info.peer.as_ref(), info.dealer.as_ref()));
        }
        tokio::time::sleep(PEER_PAUSE).await;
    }
    let reason = "party 1 is not connected: there is no link to choose a protocol for";
    Err(Error::at("party 0", CallFailure::new(Fault::Peer, reason)))
}

/// The figures of an evaluation that ended well. `why` says why its protocol was chosen.
#[must_use]
pub fn figures(
    gate: &Gate,
    elements: u64,
    outcome: &Outcome,
    accuracy: &Accuracy,
    why: Option<&str>,
) -> Value {
    let mut figures = costs(outcome);
    for (name, value) in [
        ("protocol", json!(gate.protocol().name())),
        ("gate", json!(gate.name())),
        ("why", json!(why)),
        ("elements", json!(elements)),
        ("wrong", json!(accuracy.wrong())),
        ("max_err", json!(accuracy.max_err())),
        ("rms_err", json!(accuracy.rms_err())),
        ("mean_err", json!(accuracy.mean_err())),
        ("without_reference", json!(accuracy.without_reference())),
    ] {
        figures[name] = value;
    }
    figures
}

/// What a run cost, whatever it evaluated.
#[must_use]
pub fn costs(outcome: &Outcome) -> Value {
    let ([first, second], slower) = (&outcome.figures, outcome.slower());
    json!({
        "run_id": outcome.run.reveal(),
        "key_bytes_p0": first.key_bytes,
        "key_bytes_p1": second.key_bytes,
        "eval_rounds": first.rounds,
        "eval_bytes": (first.bits_sent + first.bits_received).div_ceil(8),
        "open_ms": slower.open_ms,
        "eval_ms": slower.eval_ms,
        "comp_ms": slower.comp_ms,
        "comm_ms": slower.comm_ms,
    })
}

/// The verdict on all outputs of an evaluation.
///
/// # Errors
/// When one is wrong: a defect.
pub fn verdict(accuracy: &Accuracy) -> Result<(), Error> {
    match accuracy.first_wrong() {
        None => Ok(()),
        Some((x, y)) => Err(Error::here(
            Fault::Bug,
            format!(
                "{} outputs are wrong by the protocol's own definition; the first: x = {x}, y = {y} in units of 2^-12",
                accuracy.wrong()
            ),
        )),
    }
}
