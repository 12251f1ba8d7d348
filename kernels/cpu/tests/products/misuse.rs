//! Messages out of turn or of another length, and inputs that are none: refused by every node of a layer.

use std::sync::Arc;

use suf_cpu::CpuBackend;
use suf_gate::{Backend, BackendError, HostValue, Part, PartEval, Party, Taken, Value};

use super::{super::blocks::parties, SIZES, layer};

#[track_caller]
fn refused<T>(result: Result<T, BackendError>, what: &str) {
    assert!(matches!(result, Err(BackendError::Misuse(_))), "{what}");
}

#[test]
fn every_node_refuses_what_is_out_of_turn_or_of_another_length() {
    let parties = parties(layer(SIZES[2], true), 5);
    let program = parties.program().clone();
    let backend = CpuBackend::new();
    for (id, node) in program.nodes() {
        let (part, name) = (Part::new(id, 0), node.op().def().name());
        let job = parties.eval_job(Party::P0, part);
        let [key, _] = parties.deal(&backend, part).expect("the processor deals");
        let begin = |inputs| backend.stage(&job, key.clone()).and_then(|staged| staged.begin(inputs));
        let of = |parts: Vec<Part>| -> Vec<Arc<dyn Value>> {
            parts.into_iter().map(|part| HostValue::shared(vec![0; program.elems(part)])).collect()
        };
        let mut due: Vec<Part> = program.taken(part).flat_map(|taken: Taken| taken.parts()).collect();
        if node.is_input() {
            due.push(part);
        }
        refused(begin(Vec::new()).map(drop), &format!("{name}: no input"));
        refused(begin(of([&due[..], &due[..1]].concat())).map(drop), &format!("{name}: an input more"));
        let mut longer = of(due.clone());
        longer[0] = HostValue::shared(vec![0; longer[0].elems() + 1]);
        refused(begin(longer).map(drop), &format!("{name}: an element more"));
        let mut eval: Box<dyn PartEval> = begin(of(due)).expect("its inputs");
        let mut message = Vec::new();
        refused(eval.step(node.exchanges(), &[]).map(drop), &format!("{name}: a step that there is not"));
        if node.exchanges() > 0 {
            refused(eval.finish(&[]).map(drop), &format!("{name}: finished before the exchange"));
            refused(eval.step(0, &[0]).map(drop), &format!("{name}: a message before the first"));
            message = eval.step(0, &[]).expect("its turn").to_vec();
            assert_eq!(Some(message.len()), program.message_bytes(part, 0), "{name}");
            refused(eval.step(0, &[]).map(drop), &format!("{name}: a step twice"));
            refused(eval.finish(&message[1..]).map(drop), &format!("{name}: a byte too few"));
        }
        refused(eval.finish(&[&message[..], &[0]].concat()).map(drop), &format!("{name}: a byte too many"));
        assert_eq!(eval.finish(&message).expect("it is over").elems(), program.elems(part), "{name}");
        refused(eval.finish(&message).map(drop), &format!("{name}: finished twice"));
        if let Some((_, shorter)) = key.expose().split_last() {
            let shorter = suf_gate::SecretBytes::new(shorter.to_vec()).into();
            refused(backend.stage(&job, shorter).map(drop), &format!("{name}: a key too short"));
        }
    }
}
