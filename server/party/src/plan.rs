//! What a run is about, and whether a party takes part.

use std::sync::Arc;

use suf_gate::{Gate, Party, Protocol, catalog::AllowedGates};
use suf_wire::{BatchId, Digest, Fault, KeyRequest, PartyId, Propose, RunId};

use crate::Failure;

/// What a client asked this party for: a run that waits for the other party.
#[derive(Clone, Debug)]
pub struct Registration {
    /// The run, as its client named it.
    pub run: RunId,
    /// The gate.
    pub gate: Arc<Gate>,
    /// Elements of the tensor.
    pub elems: u64,
    /// Milliseconds until the run is given up: the client's limit or this party's, whichever is less.
    pub deadline_ms: u32,
    /// Which party this is.
    pub me: PartyId,
}

impl Registration {
    /// The plan under which the run consumes `batch`.
    #[must_use]
    pub fn with_batch(&self, batch: BatchId) -> Plan {
        let Self { run, gate, elems, deadline_ms, me } = self.clone();
        Plan { run, batch, gate, elems, deadline_ms, me }
    }

    /// The plan of the other party's proposal, if it is what the client asked this party for. The gate comes from the client's
    /// own request; the proposal's description is compared and never decoded. The smaller deadline counts.
    ///
    /// # Errors
    /// When the proposal differs from the request, the other party's fault.
    pub fn agree(&self, propose: &Propose) -> Result<Plan, Failure> {
        let mut plan = self.with_batch(propose.batch);
        let (proposer, digest) = (self.me.other(), plan.digest());
        let refused = |reason| Err(Failure::new(Fault::Peer, reason));
        if propose.run != self.run {
            return refused(format!("{proposer} proposes another run"));
        }
        if (propose.digest, propose.elems) != (digest, self.elems) {
            return refused(format!(
                "{proposer} proposes {} elements of gate {}, but the client asked {} for {} elements of gate {digest}",
                propose.elems, propose.digest, self.me, self.elems
            ));
        }
        if propose.gate[..] != self.gate.encode()[..] {
            return refused(format!("{proposer} names gate {digest} and describes another"));
        }
        plan.deadline_ms = plan.deadline_ms.min(propose.deadline_ms);
        Ok(plan)
    }
}

/// What both parties agreed to.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The run.
    pub run: RunId,
    /// The batch of keys it consumes.
    pub batch: BatchId,
    /// The gate.
    pub gate: Arc<Gate>,
    /// Elements of the tensor.
    pub elems: u64,
    /// Milliseconds until the run is given up.
    pub deadline_ms: u32,
    /// Which party this is.
    pub me: PartyId,
}

impl Plan {
    /// The proposal that the initiator sends.
    #[must_use]
    pub fn propose(&self) -> Propose {
        Propose {
            run: self.run,
            batch: self.batch,
            digest: self.digest(),
            gate: self.gate.encode().into(),
            elems: self.elems,
            deadline_ms: self.deadline_ms,
        }
    }

    /// What this party asks of the dealer.
    #[must_use]
    pub fn key_request(&self) -> KeyRequest {
        KeyRequest {
            batch: self.batch,
            digest: self.digest(),
            party: self.me,
            elems: self.elems,
            gate: self.gate.encode().into(),
        }
    }

    /// The gate's digest as it travels.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest(*self.gate.digest())
    }

    /// This party, as the gates call it.
    #[must_use]
    pub fn party(&self) -> Party {
        match self.me {
            PartyId::P0 => Party::P0,
            PartyId::P1 => Party::P1,
        }
    }
}

/// What a party is willing to take part in.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Most elements of a run.
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
    pub fn check(&self, registration: &Registration) -> Result<(), Failure> {
        if registration.elems == 0 {
            return Err(Failure::new(Fault::Caller, "the tensor is empty"));
        }
        if registration.elems > self.max_elems {
            let reason = format!(
                "{} elements, but {} takes at most {}",
                registration.elems, registration.me, self.max_elems
            );
            return Err(Failure::new(Fault::Config, reason));
        }
        let protocol = registration.gate.protocol();
        if !self.protocols.contains(&protocol) {
            let reason = format!("{} does not take part in protocol {protocol}", registration.me);
            return Err(Failure::new(Fault::Config, reason));
        }
        if self.gates.as_ref().is_some_and(|allowed| !allowed.allows(registration.gate.digest())) {
            let (me, digest) = (registration.me, Digest(*registration.gate.digest()));
            let reason = format!(
                "{me} does not take part in gate {digest}: `gates` in its configuration does not list it"
            );
            return Err(Failure::new(Fault::Config, reason));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use suf_gate::catalog;

    use super::*;

    #[test]
    fn a_proposal_must_be_what_the_client_asked_for() {
        let [gate, other] = [Protocol::Onehot, Protocol::Dpf].map(|protocol| {
            let found = catalog::builtin().find(|gate| gate.protocol() == protocol);
            Arc::new(found.expect("built in"))
        });
        let registration = |me, gate: &Arc<Gate>, deadline_ms| Registration {
            run: RunId([1; 16]),
            gate: Arc::clone(gate),
            elems: 9,
            deadline_ms,
            me,
        };
        let ours = registration(PartyId::P1, &gate, 1000);
        let proposed = |gate, deadline_ms| {
            registration(PartyId::P0, gate, deadline_ms).with_batch(BatchId([2; 16])).propose()
        };
        for (theirs, smaller) in [(10, 10), (3_600_000, 1000)] {
            let plan = ours.agree(&proposed(&gate, theirs)).expect("the same run");
            assert_eq!((plan.deadline_ms, plan.batch, plan.me), (smaller, BatchId([2; 16]), PartyId::P1));
        }
        let good = proposed(&gate, 10);
        for wrong in [
            proposed(&other, 10),
            Propose { run: RunId([3; 16]), ..good.clone() },
            Propose { elems: 10, ..good.clone() },
            Propose { digest: Digest([0; 32]), ..good.clone() },
            Propose { gate: other.encode().into(), ..good },
        ] {
            let failure = ours.agree(&wrong).expect_err("another run");
            assert_eq!(failure.fault, Fault::Peer, "{failure}");
            assert!(failure.reason.contains("party0"), "{failure}");
        }
    }
}
