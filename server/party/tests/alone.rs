//! One party's run with nobody at the other end: what it says, and what it lets the peer say, at each point.

use std::{convert::Infallible, sync::Arc};

use bytes::Bytes;
use suf_cpu::CpuBackend;
use suf_deal::{Batch, Entropy};
use suf_gate::{
    Form, Gate, Program, Protocol, TensorShape, catalog,
    ops::{Input, Op, Output},
    ring::{FRAC, WIRE},
};
use suf_party::{Action, Breach, BurnLog, Event, Ledger, Phase, Plan, Purpose, Record, Run, WINDOW};
use suf_wire::{Accept, BatchId, DataFrame, Fault, Finished, NodeId, Part, Party, PeerMessage, RunId, Seed};

/// More gates than the window holds.
const MANY: u16 = WINDOW as u16 + 8;

const ELEMS: usize = 3;

fn gate() -> Arc<Gate> {
    Arc::new(catalog::builtin().find(|gate| gate.protocol() == Protocol::Onehot).expect("built in"))
}

/// Nodes 0 to `width` - 1 are inputs, the next `width` gates, one on each, and the last ones outputs.
fn side_by_side(width: u16) -> Program {
    let shape = TensorShape::flat(ELEMS as u64).expect("few elements");
    let input = |_| (Op::Input(Input::new(shape, WIRE, FRAC, Form::Masked)), vec![]);
    let on_input = |input| (Op::gate(gate()), vec![NodeId(input)]);
    let output = |input| (Op::Output(Output), vec![NodeId(width + input)]);
    let nodes = (0..width).map(input).chain((0..width).map(on_input)).chain((0..width).map(output));
    Program::new(nodes).expect("a program")
}

fn first(node: u16) -> Part {
    Part::new(NodeId(node), 0)
}

/// Party 0 of a run, carried out in place.
struct Alone {
    run: Run,
    batch: Batch,
    said: Vec<PeerMessage>,
    /// What was said, and the works that were done, in order.
    log: Vec<&'static str>,
    /// Keys that were asked for, while they do not come; none if they come at once.
    held: Option<Vec<Part>>,
}

impl Alone {
    fn with(width: u16) -> Self {
        let program = Arc::new(side_by_side(width));
        let seed = |byte| Seed::new([byte; 32]);
        let entropy = Entropy { parties: [seed(1), seed(2)], dealer: seed(3) };
        let batch = Batch::new(BatchId([2; 16]), Arc::clone(&program), entropy);
        let (run, me) = (RunId([1; 16]), Party::P0);
        let plan = Plan { run, batch: batch.id(), program, deadline_ms: 1, me, load: None };
        let mut alone =
            Self { run: Run::propose(plan), batch, said: Vec::new(), log: Vec::new(), held: None };
        alone.carry_out();
        alone
    }

    fn program(&self) -> Arc<Program> {
        Arc::clone(self.batch.program())
    }

    fn feed(&mut self, event: Event) {
        self.run.handle(event);
        self.carry_out();
    }

    fn carry_out(&mut self) {
        while let Some(action) = self.run.next_action() {
            let event = match action {
                Action::Send(message, _) => {
                    self.log.push(message.name());
                    self.said.push(message);
                    continue;
                }
                Action::Burn => {
                    Event::Burnt(Ledger::new(Memory).burn(self.batch.id(), Purpose::Run).expect("it is new"))
                }
                Action::LoadKey(part) => match &mut self.held {
                    Some(held) => {
                        held.push(part);
                        continue;
                    }
                    None => self.key(part),
                },
                Action::Compute(work) => {
                    self.log.push(work.name());
                    work.run(&CpuBackend::new()).map_or_else(Event::Failed, Event::Done)
                }
                _ => continue,
            };
            self.run.handle(event);
        }
    }

    fn key(&self, part: Part) -> Event {
        let [key, _] = self.batch.deal(part, &CpuBackend::new()).expect("the CPU does not fail");
        Event::Key { part, key: suf_gate::KeyBytes::new(key.bytes) }
    }

    /// The peer is ready, too.
    fn answered(&mut self) {
        let run = self.run.plan().run;
        self.feed(Event::Peer(PeerMessage::Ready { run, segment: 0, common: [0; 32] }));
    }

    fn accepted(&mut self) {
        let (run, batch, digest) = (self.run.plan().run, self.batch.id(), self.run.plan().digest());
        self.feed(Event::Peer(PeerMessage::Accept(Accept { run, digest, batch })));
    }

    fn keys_stored(&mut self) {
        let seed = self.batch.header(Party::P0).seed;
        self.feed(Event::KeysStored { segment: 0, seed, common: [0; 32], on_disk: false });
    }

    fn inputs(&mut self) {
        for node in self.program().inputs() {
            self.feed(Event::Input { part: first(node.0), shares: vec![0; ELEMS] });
        }
    }

    /// The peer's frame of an exchange, all zero.
    fn frame(&self, part: Part, step: u8) -> Event {
        let program = self.program();
        let bytes = program.message_bytes(part, step.into()).expect("an exchange");
        let bits = program.frame_bits(part, step.into()).expect("an exchange");
        Event::Peer(PeerMessage::Frame(DataFrame::new(part, step, bits, Bytes::from(vec![0; bytes]))))
    }

    fn openings(&mut self) {
        for node in self.program().inputs() {
            let frame = self.frame(first(node.0), 0);
            self.feed(frame);
        }
    }

    fn has_said(&self, name: &str) -> usize {
        self.said.iter().filter(|message| message.name() == name).count()
    }

    /// The rule that a frame would break now.
    fn refused(&self, part: Part, step: u8) -> Breach {
        let failure = self.run.expected_frame(part, step).expect_err("it may not come");
        assert_eq!(failure.fault, Fault::Peer, "{failure}");
        failure.breach.expect("a rule of the protocol")
    }
}

struct Memory;

impl BurnLog for Memory {
    type Error = Infallible;

    fn record(&self, _: BatchId, _: Purpose) -> Result<Record, Infallible> {
        Ok(Record::New)
    }
}

/// Each lane keeps an order of its own. A party that has its keys and its input early sends over all lanes, while its
/// acceptance is still on lane 0.
#[test]
fn an_opening_may_overtake_the_acceptance() {
    let mut party = Alone::with(1);
    party.openings();
    party.accepted();
    assert_eq!(party.run.phase(), Phase::Dealing);
    assert_eq!(party.refused(first(0), 0), Breach::Frame { part: first(0), step: 0, received: 1, sent: 0 });
}

/// No frame and no hash of the keys leaves before the batch is burnt. Burning waits for keys and for every input.
#[test]
fn what_depends_on_keys_waits_for_the_burn() {
    let mut party = Alone::with(2);
    party.accepted();
    party.openings();
    party.feed(Event::Input { part: first(0), shares: vec![0; ELEMS] });
    party.keys_stored();
    assert_eq!(party.run.phase(), Phase::AwaitingInput);
    assert_eq!((party.has_said("Frame"), party.has_said("Ready")), (0, 0));
    party.feed(Event::Input { part: first(1), shares: vec![0; ELEMS] });
    assert_eq!(party.run.phase(), Phase::AwaitingPeer);
    assert_eq!((party.has_said("Frame"), party.has_said("Ready")), (2, 1));
}

/// A peer sends frames of a segment after it heard that this party is ready for it: one that comes before is no honest peer's.
#[test]
fn frames_of_gates_are_refused_before_this_party_is_ready() {
    let mut party = Alone::with(1);
    let gate = first(1);
    let too_early = Breach::Frame { part: gate, step: 0, received: 0, sent: 0 };
    assert_eq!(party.refused(gate, 0), too_early);
    for (node, tile, step) in [(0, 0, 1), (0, 1, 0), (1, 1, 0), (1, 0, 200), (2, 0, 0), (3, 0, 0)] {
        let part = Part::new(NodeId(node), tile);
        assert_eq!(party.refused(part, step), Breach::NoSuchFrame { part, step });
    }
    party.accepted();
    party.keys_stored();
    party.inputs();
    assert_eq!(party.refused(gate, 0), too_early, "the peer's opening is missing");
    party.openings();
    // The peer may have begun: its own word is on its way over another lane.
    assert_eq!(party.run.expected_frame(gate, 0).ok(), party.program().message_bytes(gate, 0));
    let frame = party.frame(gate, 0);
    party.feed(frame);
    assert_eq!(party.has_said("Frame"), 1, "nothing but the opening: the peer has not said that it is ready");
    assert_eq!(party.refused(gate, 1), Breach::Frame { part: gate, step: 1, received: 1, sent: 0 });
    party.answered();
    // Its first message, and the second one, which answers the peer's first.
    assert_eq!((party.run.phase(), party.has_said("Frame")), (Phase::Evaluating, 3));
}

/// The parties of a long program do not wait for each other once more: both are ready before the opening. What one window holds is
/// loaded meanwhile, and no more.
#[test]
fn a_party_of_a_long_program_is_ready_while_its_window_is_loaded() {
    let mut party = Alone::with(MANY);
    party.held = Some(Vec::new());
    party.accepted();
    party.keys_stored();
    party.inputs();
    party.openings();
    assert_eq!(party.run.phase(), Phase::AwaitingPeer);
    let held = party.held.take().expect("keys are held");
    assert!(held.iter().copied().eq((0..WINDOW as u16).map(|at| first(MANY + at))), "{held:?}");
    for part in held {
        assert_eq!(party.has_said("Ready"), 1, "{part} is not loaded");
        let key = party.key(part);
        party.feed(key);
    }
    let done = |name| party.log.iter().filter(|other| **other == name).count();
    // Every input begins, too.
    assert_eq!((done("stage"), done("begin")), (WINDOW as usize, WINDOW as usize + usize::from(MANY)));
    assert_eq!(done("Ready"), 1);
}

/// What the peer says last comes over the first lane, and may overtake its frames over others.
#[test]
fn a_peer_that_finished_still_owes_its_frames() {
    let mut party = Alone::with(1);
    party.accepted();
    party.keys_stored();
    party.inputs();
    party.openings();
    party.answered();
    let (run, transcript) = (party.run.plan().run, [0; 32]);
    let finished = Finished { run, rounds: 3, bits_sent: 0, bits_received: 0, transcript };
    party.feed(Event::Peer(PeerMessage::Finished(finished)));
    for step in 0..party.program().node(NodeId(1)).exchanges() {
        assert!(party.run.awaits_peer(), "the frame of step {step} is missing");
        let frame = party.frame(first(1), step as u8);
        party.feed(frame);
    }
    assert_eq!(party.run.phase(), Phase::Closing);
    assert!(!party.run.awaits_peer());
}

/// The peer has ended no part of which it lacks a message, so that its window begins at the first of those.
#[test]
fn the_peer_is_at_most_a_window_ahead() {
    let mut party = Alone::with(MANY);
    party.accepted();
    party.keys_stored();
    party.inputs();
    party.openings();
    let (last, beyond) = (first(MANY + WINDOW as u16 - 1), first(MANY + WINDOW as u16));
    assert!(party.run.expected_frame(last, 0).is_ok());
    assert_eq!(party.refused(beyond, 0), Breach::Frame { part: beyond, step: 0, received: 0, sent: 0 });
    party.answered();
    let in_flight = party.has_said("Frame") - usize::from(MANY);
    assert_eq!(in_flight, WINDOW as usize, "as many begin");
    let exchanges = party.program().node(NodeId(MANY)).exchanges();
    for step in 0..exchanges {
        let is_sent = step == exchanges - 1;
        assert_eq!(party.run.expected_frame(beyond, 0).is_ok(), is_sent, "step {step}");
        let frame = party.frame(first(MANY), step as u8);
        party.feed(frame);
    }
    assert!(party.run.expected_frame(beyond, 0).is_ok());
    // The lowest part is over: the next one begins.
    assert_eq!(party.has_said("Frame"), usize::from(MANY) + WINDOW as usize + exchanges);
}

/// Segments are said in order, once each, and only those that there are.
#[test]
fn readiness_out_of_order_ends_the_run() {
    for segments in [&[1][..], &[0, 0], &[0, 1]] {
        let mut party = Alone::with(1);
        party.accepted();
        let run = party.run.plan().run;
        for segment in segments {
            assert_eq!(party.run.phase(), Phase::Dealing, "{segments:?}");
            party.feed(Event::Peer(PeerMessage::Ready { run, segment: *segment, common: [0; 32] }));
        }
        assert_eq!((party.run.phase(), party.has_said("Abort")), (Phase::Ended, 1), "{segments:?}");
    }
}

#[test]
fn shares_must_be_those_of_an_input() {
    for (part, shares) in [
        (first(0), ELEMS + 1),
        (first(0), 0),
        (Part::new(NodeId(0), 1), 0),
        (Part::new(NodeId(0), 1), ELEMS),
        (first(1), ELEMS),
        (first(1), 0),
        (first(2), ELEMS),
        (first(9), 0),
    ] {
        let mut party = Alone::with(1);
        party.accepted();
        party.feed(Event::Input { part, shares: vec![0; shares] });
        assert_eq!(party.run.phase(), Phase::Ended, "{shares} shares for {part}");
    }
    let mut party = Alone::with(1);
    party.accepted();
    party.inputs();
    assert_eq!(party.run.phase(), Phase::Dealing);
    party.inputs();
    assert_eq!(party.run.phase(), Phase::Ended, "shares that come twice");
}

/// A payload of the right length with a bit where its padding is, and one that says another number of bits.
#[test]
fn frames_that_hide_bits_are_refused() {
    let gate = first(1);
    for change in [1, 2] {
        let mut party = Alone::with(1);
        party.accepted();
        party.keys_stored();
        party.inputs();
        party.openings();
        let Event::Peer(PeerMessage::Frame(mut frame)) = party.frame(gate, 0) else {
            unreachable!("a frame is made");
        };
        assert!(!(frame.bits).is_multiple_of(8), "there is padding");
        if change == 1 {
            let mut payload = frame.payload.to_vec();
            *payload.last_mut().expect("bytes") = 0x80;
            frame.payload = payload.into();
        } else {
            frame.bits += 1;
        }
        party.feed(Event::Peer(PeerMessage::Frame(frame)));
        assert_eq!(party.run.phase(), Phase::Ended);
        let said = format!("{:?}", party.said.last());
        assert!(said.contains("step 0 for tile 0 of node 1"), "{said}");
    }
}
