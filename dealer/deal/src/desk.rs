//! Pairing of requests.

use std::{collections::HashMap, sync::Arc};

use suf_gate::{Gate, GateError};
use suf_wire::{BatchId, Digest, KeyRequest, PartyId};

/// Most batches that wait for their second request. Each holds some 100 bytes here, and the stream on which its party waits;
/// a party that asks for more without its peer following is refused.
const MAX_WAITING: usize = 1024;

/// Requests that wait for the other party's.
#[derive(Debug, Default)]
pub struct Desk {
    waiting: HashMap<BatchId, Waiting>,
}

/// What the first of two parties asked for. The second has to describe the same gate, so that its own need not be kept.
#[derive(Debug)]
struct Waiting {
    party: PartyId,
    digest: Digest,
    elems: u64,
}

/// A request whose gate was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Order {
    batch: BatchId,
    party: PartyId,
    elems: u64,
    gate: Arc<Gate>,
}

impl Order {
    /// The order of `request`. `gate` is what its description decodes to: whoever has the request decodes it, where that holds
    /// nobody up.
    ///
    /// # Errors
    /// When the description is not a gate's, or not that of the digest.
    pub fn new(request: &KeyRequest, gate: Result<Arc<Gate>, GateError>) -> Result<Self, Refusal> {
        let party = request.party;
        let gate = gate.map_err(|error| Refusal::Gate { party, error })?;
        let described = Digest(*gate.digest());
        if described != request.digest {
            return Err(Refusal::Digest { party, named: request.digest, described });
        }
        Ok(Self { batch: request.batch, party, elems: request.elems, gate })
    }
}

/// Where a batch stands after a request.
#[derive(Debug, PartialEq)]
pub enum Standing {
    /// The other party has not asked yet.
    Waiting,
    /// Both asked for this gate and this number of elements.
    Agreed {
        /// The gate.
        gate: Arc<Gate>,
        /// Elements of the batch.
        elems: u64,
    },
}

/// Why a request is not served.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The gate description is not one.
    #[error("{party} asks for a gate that cannot be read: {error}")]
    Gate {
        /// Who asked.
        party: PartyId,
        /// What is wrong with it.
        error: GateError,
    },
    /// The digest is not the description's.
    #[error("{party} names gate {named}, but describes {described}")]
    Digest {
        /// Who asked.
        party: PartyId,
        /// The digest in the request.
        named: Digest,
        /// The digest of the description.
        described: Digest,
    },
    /// The two parties want different things.
    #[error(
        "the parties disagree on batch {batch}: {first} asks for {first_elems} elements of gate {first_gate}, \
         {second} for {second_elems} of {second_gate}"
    )]
    Disagreement {
        /// The batch.
        batch: BatchId,
        /// Who asked first.
        first: PartyId,
        /// What it asked for.
        first_gate: Digest,
        /// How many.
        first_elems: u64,
        /// Who asked second.
        second: PartyId,
        /// What it asked for.
        second_gate: Digest,
        /// How many.
        second_elems: u64,
    },
    /// The same party asks twice.
    #[error("{party} has asked for batch {batch} already")]
    Twice {
        /// Who asked.
        party: PartyId,
        /// The batch.
        batch: BatchId,
    },
    /// Too many batches wait for their second request.
    #[error("{MAX_WAITING} batches wait for the other party's request; none more is taken")]
    Full,
}

impl Desk {
    /// Takes an order. After an error both parties' orders for the batch are void.
    ///
    /// # Errors
    /// When the order is repeated, or at odds with the other party's.
    pub fn request(&mut self, order: Order) -> Result<Standing, Refusal> {
        let Order { batch, party, elems, gate } = order;
        let digest = Digest(*gate.digest());
        let Some(first) = self.waiting.remove(&batch) else {
            if self.waiting.len() == MAX_WAITING {
                return Err(Refusal::Full);
            }
            self.waiting.insert(batch, Waiting { party, digest, elems });
            return Ok(Standing::Waiting);
        };
        if first.party == party {
            return Err(Refusal::Twice { party, batch });
        }
        if (first.digest, first.elems) != (digest, elems) {
            return Err(Refusal::Disagreement {
                batch,
                first: first.party,
                first_gate: first.digest,
                first_elems: first.elems,
                second: party,
                second_gate: digest,
                second_elems: elems,
            });
        }
        Ok(Standing::Agreed { gate, elems })
    }

    /// Drops a request whose party left or whose peer never asked. Whether there was one.
    pub fn withdraw(&mut self, batch: BatchId) -> bool {
        self.waiting.remove(&batch).is_some()
    }
}

#[cfg(test)]
mod tests {
    use suf_gate::{Shape, activation::Builtin, suf_lut::SufLut};

    use super::*;

    fn request(party: PartyId, elems: u64) -> KeyRequest {
        let table = SufLut::of(&Builtin::Gelu.into(), 8).expect("8 is in range");
        let gate = Gate::new("gelu", Shape::SufLut(table)).expect("a name");
        KeyRequest {
            batch: BatchId([7; 16]),
            digest: Digest(*gate.digest()),
            party,
            elems,
            gate: gate.encode().into(),
        }
    }

    fn read(request: KeyRequest) -> Result<Order, Refusal> {
        Order::new(&request, Gate::decode(&request.gate).map(Arc::new))
    }

    fn order(party: PartyId, elems: u64) -> Order {
        read(request(party, elems)).expect("a gate and its digest")
    }

    #[test]
    fn both_must_ask_for_the_same() {
        let mut desk = Desk::default();
        assert_eq!(desk.request(order(PartyId::P0, 9)), Ok(Standing::Waiting));
        let agreed = desk.request(order(PartyId::P1, 9));
        assert!(matches!(agreed, Ok(Standing::Agreed { elems: 9, .. })), "{agreed:?}");

        assert_eq!(desk.request(order(PartyId::P1, 9)), Ok(Standing::Waiting));
        let error = desk.request(order(PartyId::P0, 10)).expect_err("9 is not 10");
        assert!(matches!(error, Refusal::Disagreement { first_elems: 9, second_elems: 10, .. }), "{error}");
        assert!(!desk.withdraw(BatchId([7; 16])), "a disagreement voids both requests");
    }

    #[test]
    fn one_party_cannot_be_both() {
        let mut desk = Desk::default();
        assert_eq!(desk.request(order(PartyId::P0, 9)), Ok(Standing::Waiting));
        assert!(matches!(desk.request(order(PartyId::P0, 9)), Err(Refusal::Twice { .. })));
    }

    #[test]
    fn a_wrong_digest_is_named() {
        let wrong = KeyRequest { digest: Digest([0; 32]), ..request(PartyId::P0, 9) };
        assert!(matches!(read(wrong), Err(Refusal::Digest { party: PartyId::P0, .. })));
        let cut = KeyRequest { gate: request(PartyId::P1, 9).gate.slice(..9), ..request(PartyId::P1, 9) };
        assert!(matches!(read(cut), Err(Refusal::Gate { party: PartyId::P1, .. })));
    }

    #[test]
    fn waiting_requests_are_bounded() {
        let mut desk = Desk::default();
        for i in 0..MAX_WAITING {
            let batch = BatchId((i as u128).to_le_bytes());
            assert_eq!(desk.request(Order { batch, ..order(PartyId::P0, 1) }), Ok(Standing::Waiting));
        }
        let batch = BatchId([0xff; 16]);
        assert_eq!(desk.request(Order { batch, ..order(PartyId::P0, 1) }), Err(Refusal::Full));
    }
}
