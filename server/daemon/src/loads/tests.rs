use std::collections::BTreeMap;

use suf_gate::{
    Form, NodeId, Seed, TensorShape,
    load::LoadId,
    ops::{Input, Keep, Op, private::LOADED},
};

use super::*;
use crate::{
    need::Need,
    reservation::{
        Budgets,
        tests::{in_use, with_key_memory},
    },
};

/// One matrix of three tiles.
fn program() -> Arc<Program> {
    let shape = TensorShape::new(300, 600).expect("a matrix");
    let input = (Op::Input(Input::new(shape, LOADED, 9, Form::Masked)), vec![]);
    Arc::new(Program::new([input, (Op::Keep(Keep), vec![NodeId(0)])]).expect("a load program"))
}

fn owner(id: u8) -> Owner {
    Owner::from_hash([id; 32])
}

fn terms(name: &str, salt: u8) -> Box<Terms> {
    let terms = v1::LoadTerms {
        name: name.into(),
        digest: vec![salt; 32].into(),
        programs: vec![vec![7; 32].into()],
        clients: Vec::new(),
    };
    Box::new(Terms::of(terms).expect("they are good"))
}

fn begin(loads: &Arc<Loads>, id: u8, salt: u8) -> Result<Making, CallFailure> {
    let asked = Asked::Load(terms(&format!("model of {id}"), salt));
    match loads.admit(asked, owner(id), &program())? {
        Use::Makes(making) => Ok(making),
        other => panic!("a load is made: {other:?}"),
    }
}

fn kept(batch: u8) -> Kept {
    let program = program();
    let tiles = (0..program.node(NodeId(0)).tiles()).map(|tile| {
        let part = suf_wire::Part::new(NodeId(0), tile);
        vec![7; program.elems(part)]
    });
    let tiles = BTreeMap::from([(NodeId(1), tiles.collect())]);
    Kept::new(LoadId { program, batch: [batch; 16] }, Seed::new([1; 32]), tiles)
}

#[test]
fn places_of_loads_are_few_and_each_is_given_up() {
    let loads = Loads::new(Party::P0);
    let mut making = Vec::new();
    for salt in 1..=64 {
        making.push(begin(&loads, (salt - 1) / 16, salt).expect("a place"));
        if salt % 16 == 0 {
            let full = begin(&loads, (salt - 1) / 16, 100).expect_err("16 of each owner");
            assert_eq!(full.code, Code::ResourceExhausted, "{full}");
        }
    }
    let full = begin(&loads, 9, 100).expect_err("64 in all");
    assert!(full.to_string().contains("64 models are loaded at party0"), "{full}");
    assert!(loads.list(Viewer::Host).is_empty(), "none is there yet");
    making.pop();
    let again = begin(&loads, 9, 64).expect("a place was given up, and its digest with it");
    drop((making, again));
    assert!(loads.lock().is_empty());
}

#[test]
fn a_load_holds_what_it_keeps_until_it_is_dropped() {
    let folder = tempfile::tempdir().expect("a folder");
    let budgets: Budgets = with_key_memory(0, folder.path());
    let (loads, need) = (Loads::new(Party::P1), Need::of(&program(), Party::P1));
    assert_eq!(need.kept, 8 * 180_000);
    assert!(need.shares >= 3 * need.kept, "shares, openings and the matrix that is put together");
    let making = begin(&loads, 1, 1).expect("a place");
    let mut shares = budgets.admit(owner(1), &need).expect("room").shares;
    shares.shrink_to(need.kept);
    making.keep(kept(3), shares, 99);
    assert_eq!(in_use(&budgets), [need.kept, 0, 0]);

    let [(name, shown)] = &loads.list(Viewer::Model(owner(1)))[..] else { panic!("it is there") };
    assert_eq!(name.batch, Some(BatchId([3; 16])));
    assert_eq!((shown.bytes, shown.load_bytes, shown.runs), (need.kept, 99, 0));
    assert!(loads.count(*name), "a run on it");
    assert!(!loads.count(LoadName { batch: Some(BatchId([4; 16])), ..*name }), "of another time");
    assert!(loads.list(Viewer::Model(owner(2))).is_empty(), "another owner's");
    for viewer in [Viewer::Model(owner(2)), Viewer::Client(owner(1))] {
        assert_eq!(loads.remove(viewer, &[1; 32]).expect_err("not its own").code, Code::NotFound);
    }
    let (_, dropped) = loads.remove(Viewer::Model(owner(1)), &[1; 32]).expect("its own");
    assert_eq!(dropped.runs, 1);
    assert_eq!(in_use(&budgets), [0; 3]);
    assert!(!loads.count(*name), "a run that comes late hears of it");
}
