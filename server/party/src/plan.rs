//! What a run is about, and whether a party takes part.

use std::sync::Arc;

use suf_gate::{Gate, GateError, Party, Protocol, catalog::AllowedGates};
use suf_wire::{BatchId, Digest, Fault, KeyRequest, PartyId, Propose, RunId};

use crate::Failure;

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
    /// The plan of a proposal, if this party takes part. `gate` is what its description decodes to.
    ///
    /// # Errors
    /// When the proposal is unreadable (the peer's fault) or beyond what this party takes part in (its configuration's).
    pub fn admit(
        &self,
        propose: &Propose,
        gate: Result<Arc<Gate>, GateError>,
        me: PartyId,
    ) -> Result<Plan, Failure> {
        let gate = gate.map_err(|error| {
            Failure::new(Fault::Peer, format!("the proposed gate cannot be read: {error}"))
        })?;
        let plan = Plan {
            run: propose.run,
            batch: propose.batch,
            gate,
            elems: propose.elems,
            deadline_ms: propose.deadline_ms,
            me,
        };
        if plan.digest() != propose.digest {
            let reason =
                format!("the proposal names gate {} but describes {}", propose.digest, plan.digest());
            return Err(Failure::new(Fault::Peer, reason));
        }
        self.check(&plan)?;
        Ok(plan)
    }

    /// Whether this party takes part in `plan`.
    ///
    /// # Errors
    /// When it is beyond this party's limits, which the message names.
    pub fn check(&self, plan: &Plan) -> Result<(), Failure> {
        if plan.elems == 0 {
            return Err(Failure::new(Fault::Caller, "the tensor is empty"));
        }
        if plan.elems > self.max_elems {
            let reason = format!("{} elements, but {} takes at most {}", plan.elems, plan.me, self.max_elems);
            return Err(Failure::new(Fault::Config, reason));
        }
        let protocol = plan.gate.protocol();
        if !self.protocols.contains(&protocol) {
            let reason = format!("{} does not take part in protocol {protocol}", plan.me);
            return Err(Failure::new(Fault::Config, reason));
        }
        if self.gates.as_ref().is_some_and(|allowed| !allowed.allows(plan.gate.digest())) {
            let (me, digest) = (plan.me, plan.digest());
            let reason = format!(
                "{me} does not take part in gate {digest}: `gates` in its configuration does not list it"
            );
            return Err(Failure::new(Fault::Config, reason));
        }
        Ok(())
    }
}
