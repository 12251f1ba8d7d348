//! What a run is about, and whether a party takes part.

use std::sync::Arc;

use suf_gate::{EvalJob, Gate, Program, Protocol, catalog::AllowedGates, load::Kept};
use suf_wire::{Accept, BatchId, Digest, Fault, KeyRequest, LoadName, Part, Party, Propose, RunId, Seed};

use crate::{Purpose, RunFailure};

/// What a client asked this party for: a run that waits for the other party.
#[derive(Clone, Debug)]
pub struct Registration {
    /// The run, as its client named it.
    pub run: RunId,
    /// The program.
    pub program: Arc<Program>,
    /// Milliseconds until the run is given up: the client's limit or this party's, whichever is less.
    pub deadline_ms: u32,
    /// Which party this is.
    pub me: Party,
    /// The load that it makes, or whose matrices it takes.
    pub load: Option<LoadName>,
}

impl Registration {
    /// The plan under which the run consumes `batch`.
    #[must_use]
    pub fn with_batch(&self, batch: BatchId) -> Plan {
        let Self { run, program, deadline_ms, me, load } = self.clone();
        Plan { run, batch, program, deadline_ms, me, load }
    }

    /// The plan of the other party's proposal, if it is what the client asked this party for. The program comes from the
    /// client's own request. The proposal's description is compared and never decoded. The smaller deadline counts.
    ///
    /// # Errors
    /// When the proposal differs from the request, the other party's fault.
    pub fn agree(&self, propose: &Propose) -> Result<Plan, RunFailure> {
        let mut plan = self.with_batch(propose.batch);
        let (proposer, digest) = (self.me.other(), plan.digest());
        let refused = |reason| Err(RunFailure::new(Fault::Peer, reason));
        if propose.run != self.run {
            return refused(format!("{proposer} proposes another run"));
        }
        if propose.digest != digest {
            return refused(format!(
                "{proposer} proposes program {}, but the client asked {} for program {digest}",
                propose.digest, self.me
            ));
        }
        if propose.program[..] != *self.program.encoded() {
            return refused(format!("{proposer} names program {digest} and describes another"));
        }
        self.agree_on_load(propose.load)?;
        plan.deadline_ms = plan.deadline_ms.min(propose.deadline_ms);
        Ok(plan)
    }
}

impl Registration {
    /// Whether both parties mean one load. Equal digests of two batches are two loads, whose masks differ.
    fn agree_on_load(&self, theirs: Option<LoadName>) -> Result<(), RunFailure> {
        let (me, proposer) = (self.me, self.me.other());
        if theirs == self.load {
            return Ok(());
        }
        let digest = |load: Option<LoadName>| load.map(|load| load.digest);
        if digest(theirs) == digest(self.load) {
            let reason =
                format!("the model was loaded at {proposer} and at {me} at different times: load it again");
            return Err(RunFailure::new(Fault::Caller, reason));
        }
        let named =
            |load| digest(load).map_or_else(|| "no load".into(), |digest| format!("the load {digest}"));
        let (theirs, ours) = (named(theirs), named(self.load));
        let reason = format!("{proposer} proposes a run of {theirs}, but the client asked {me} for {ours}");
        Err(RunFailure::new(Fault::Peer, reason))
    }
}

/// What both parties agreed to.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The run.
    pub run: RunId,
    /// The batch of keys it consumes.
    pub batch: BatchId,
    /// The program.
    pub program: Arc<Program>,
    /// Milliseconds until the run is given up.
    pub deadline_ms: u32,
    /// Which party this is.
    pub me: Party,
    /// The load that it makes, or whose matrices it takes.
    pub load: Option<LoadName>,
}

impl Plan {
    /// The proposal that the initiator sends.
    #[must_use]
    pub fn propose(&self) -> Propose {
        Propose {
            run: self.run,
            batch: self.batch,
            digest: self.digest(),
            load: self.load,
            program: self.program.encoded().to_vec().into(),
            deadline_ms: self.deadline_ms,
        }
    }

    /// What its batch is burnt for.
    #[must_use]
    pub fn purpose(&self) -> Purpose {
        match self.load {
            None => Purpose::Run,
            Some(LoadName { digest, batch: None }) => Purpose::Load(digest),
            Some(LoadName { digest: load, batch: Some(batch) }) => Purpose::On { load, batch },
        }
    }

    /// What this party asks of the dealer.
    #[must_use]
    pub fn key_request(&self) -> KeyRequest {
        KeyRequest {
            batch: self.batch,
            digest: self.digest(),
            party: self.me,
            load_batch: self.load.and_then(|load| load.batch),
            program: self.program.encoded().to_vec().into(),
        }
    }

    /// What the other party answers to the proposal.
    #[must_use]
    pub fn accept(&self) -> Accept {
        Accept { run: self.run, digest: self.digest(), batch: self.batch }
    }

    /// What a backend evaluates for `part` under this party's seed, with the matrices of `load`.
    #[must_use]
    pub fn job(&self, part: Part, seed: Seed, load: Option<Arc<Kept>>) -> EvalJob {
        EvalJob { program: Arc::clone(&self.program), batch: self.batch.0, part, party: self.me, seed, load }
    }

    /// The program's digest as it travels.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest(*self.program.digest())
    }
}

/// What a party is willing to take part in.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Most elements of an input.
    pub max_elems: u64,
    /// Protocols it evaluates.
    pub protocols: Vec<Protocol>,
    /// Gates it evaluates; none stands for all.
    pub gates: Option<Arc<AllowedGates>>,
}

impl Policy {
    /// Whether this party takes part in what a client asks for.
    ///
    /// # Errors
    /// When it is beyond this party's limits, which the message names.
    pub fn check(&self, registration: &Registration) -> Result<(), RunFailure> {
        let me = registration.me;
        let refused = |reason| Err(RunFailure::new(Fault::Config, reason));
        for input in registration.program.inputs() {
            let elems = registration.program.node(input).shape().elems();
            if elems > self.max_elems {
                return refused(format!("{elems} elements, but {me} takes at most {}", self.max_elems));
            }
        }
        registration.program.gates().iter().try_for_each(|gate| self.check_gate(me, gate))
    }

    fn check_gate(&self, me: Party, gate: &Gate) -> Result<(), RunFailure> {
        let refused = |reason| Err(RunFailure::new(Fault::Config, reason));
        let protocol = gate.protocol();
        if !self.protocols.contains(&protocol) {
            return refused(format!("{me} does not take part in protocol {protocol}"));
        }
        if self.gates.as_ref().is_some_and(|allowed| !allowed.allows(gate.digest())) {
            let digest = Digest(*gate.digest());
            return refused(format!(
                "{me} does not take part in gate {digest}: `gates` in its configuration does not list it"
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use suf_gate::{
        Form, NodeId, TensorShape, catalog,
        ops::{Input, Op, Output},
        ring::{FRAC, WIRE},
    };

    use super::*;

    fn gate(protocol: Protocol) -> Arc<Gate> {
        Arc::new(catalog::builtin().find(|gate| gate.protocol() == protocol).expect("built in"))
    }

    fn registration(me: Party, program: &Arc<Program>, deadline_ms: u32) -> Registration {
        Registration { run: RunId([1; 16]), program: Arc::clone(program), deadline_ms, me, load: None }
    }

    #[test]
    fn a_proposal_must_be_what_the_client_asked_for() {
        let program = |protocol, elems| Arc::new(Program::of_gate(gate(protocol), elems).expect("a program"));
        let onehot = program(Protocol::Onehot, 9);
        let (other, longer) = (program(Protocol::Dpf, 9), program(Protocol::Onehot, 10));
        let ours = registration(Party::P1, &onehot, 1000);
        let proposed = |program, deadline_ms| {
            registration(Party::P0, program, deadline_ms).with_batch(BatchId([2; 16])).propose()
        };
        for (theirs, smaller) in [(10, 10), (3_600_000, 1000)] {
            let plan = ours.agree(&proposed(&onehot, theirs)).expect("the same run");
            assert_eq!((plan.deadline_ms, plan.batch, plan.me), (smaller, BatchId([2; 16]), Party::P1));
        }
        let good = proposed(&onehot, 10);
        for wrong in [
            proposed(&other, 10),
            proposed(&longer, 10),
            Propose { run: RunId([3; 16]), ..good.clone() },
            Propose { digest: Digest([0; 32]), ..good.clone() },
            Propose { program: other.encoded().to_vec().into(), ..good },
        ] {
            let failure = ours.agree(&wrong).expect_err("another run");
            assert_eq!(failure.fault, Fault::Peer, "{failure}");
            assert!(failure.reason.contains("party0"), "{failure}");
        }
    }

    #[test]
    fn both_parties_must_mean_one_load() {
        let program = Arc::new(Program::of_gate(gate(Protocol::Onehot), 9).expect("a program"));
        let with = |me, load| Registration { load, ..registration(me, &program, 1000) };
        let name = |digest, batch: Option<u8>| {
            Some(LoadName { digest: Digest([digest; 32]), batch: batch.map(|batch| BatchId([batch; 16])) })
        };
        let loads = [None, name(1, None), name(1, Some(3)), name(1, Some(4)), name(2, Some(3))];
        for ours in loads {
            for theirs in loads {
                let propose = with(Party::P0, theirs).with_batch(BatchId([2; 16])).propose();
                let agreed = with(Party::P1, ours).agree(&propose);
                let what = format!("{theirs:?} {ours:?}");
                if ours == theirs {
                    assert_eq!(agreed.expect(&what).load, ours);
                    continue;
                }
                let failure = agreed.expect_err(&what);
                let same = ours.map(|load| load.digest) == theirs.map(|load| load.digest);
                let words = if same { "load it again" } else { "party0 proposes a run of" };
                assert!(failure.reason.contains(words), "{what}: {failure}");
            }
        }
    }

    /// The second gate and the second input count as the first ones do.
    #[test]
    fn every_gate_and_every_input_must_be_within_the_policy() {
        let input = |elems| {
            let shape = TensorShape::flat(elems).expect("few elements");
            (Op::Input(Input::new(shape, WIRE, FRAC, Form::Masked)), vec![])
        };
        let program = Program::new([
            input(5),
            (Op::gate(gate(Protocol::Onehot)), vec![NodeId(0)]),
            input(9),
            (Op::gate(gate(Protocol::Dpf)), vec![NodeId(2)]),
            (Op::Output(Output), vec![NodeId(1)]),
            (Op::Output(Output), vec![NodeId(3)]),
        ]);
        let ours = registration(Party::P0, &Arc::new(program.expect("a program")), 1);
        let policy = |max_elems, protocols: &[Protocol]| Policy {
            max_elems,
            protocols: protocols.to_vec(),
            gates: None,
        };
        let both = [Protocol::Onehot, Protocol::Dpf];
        assert_eq!(policy(9, &both).check(&ours), Ok(()));
        for (policy, named) in [
            (policy(8, &both), "9 elements"),
            (policy(9, &both[..1]), "protocol dpf"),
            (policy(9, &both[1..]), "protocol onehot"),
        ] {
            let failure = policy.check(&ours).expect_err(named);
            assert_eq!(failure.fault, Fault::Config, "{failure}");
            assert!(failure.reason.contains(named), "{failure}");
        }
    }
}
